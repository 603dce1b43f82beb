"""Built engines on disk: found again only by what decides them, and only as they were written.

Whatever is wrong with an entry or its folder costs a build, never a failure.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import scgn
from scgn.backends import Backend
from scgn.backends.cache import LINE_MAX, EngineCache, default_folder, key_of, sources
from scgn.backends.torched import Eager
from scgn.checkpoint import Checkpoint, checkpoint_of, describe
from scgn.deploy import DeployRecipe

CPU = torch.device("cpu")
CONTENT = bytes(range(256)) * 8 + b"\n{}\n"  # as binary as a plan, with ends of lines inside
RECIPE = DeployRecipe((16, 24))


class Numbered(Eager):
    """A backend of a given version."""

    def __init__(self, version: str = "1.0") -> None:
        self._version = version

    def version(self) -> str:
        return self._version


@dataclass
class Build:
    """Makes `content`, and counts how often it was asked to."""

    content: bytes = CONTENT
    times: int = 0

    def __call__(self) -> bytes:
        self.times += 1
        return self.content


@pytest.fixture
def checkpoint(network_of) -> Checkpoint:
    return small(network_of, seed=0)


def small(network_of, seed: int) -> Checkpoint:
    network = network_of(seed=seed)
    return checkpoint_of(network, describe(network, "small"))


def key_for(
    checkpoint: Checkpoint, recipe: DeployRecipe = RECIPE, backend: Backend | None = None
) -> dict[str, Any]:
    return key_of(checkpoint, recipe, backend or Numbered(), CPU)


@pytest.fixture
def key(checkpoint) -> dict[str, Any]:
    return key_for(checkpoint)


@pytest.fixture
def cache(tmp_path) -> EngineCache:
    """An empty one, in a folder that is not there yet."""
    return EngineCache(tmp_path / "deep" / "engines")


@pytest.fixture
def entry(cache, key) -> Path:
    """The file of a kept engine."""
    cache.get(key, Build())
    return cache.path(key)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---- found and not found ----


def test_engine_is_built_once_and_found_from_then_on(cache, key) -> None:
    build = Build()
    assert cache.get(key, build) == (CONTENT, False)
    assert cache.get(key, build) == (CONTENT, True)
    assert EngineCache(cache.folder).get(dict(reversed(key.items())), build) == (CONTENT, True)
    assert build.times == 1


def test_folder_and_entries_are_the_users_own(cache, entry) -> None:
    assert mode_of(cache.folder) == 0o700
    assert mode_of(entry) == 0o600
    assert list(cache.folder.iterdir()) == [entry], "nothing but the entry is left"


def test_every_file_that_a_graph_is_made_of_decides_its_key() -> None:
    root = Path(scgn.__file__).parent
    found = {str(path.relative_to(root)) for path in sources()}
    for folder in ("deploy", "stream"):
        assert found >= {str(path.relative_to(root)) for path in (root / folder).glob("*.py")}
    assert found >= {"units.py", "network.py", "dft.py", "noise.py", "peers/unet.py", "student.py"}
    assert not {name for name in found if name.startswith(("pipeline", "backends", "train"))}


def test_same_weights_and_recipe_have_the_same_key(checkpoint, network_of) -> None:
    assert key_for(checkpoint) == key_for(small(network_of, seed=0), DeployRecipe((16, 24)))


@pytest.mark.parametrize(
    "change",
    [
        {"shape": (24, 16)}, {"camera_dtype": ">u2"}, {"output_dtype": "float16"},
        {"precision": "bfloat16"}, {"batch": 2},
    ],
)  # fmt: skip
def test_other_recipe_is_another_engine(cache, entry, checkpoint, change) -> None:
    other = key_for(checkpoint, dataclasses.replace(RECIPE, **change))
    assert cache.get(other, Build(b"another")) == (b"another", False)
    assert len(cache.entries()) == 2


def test_other_weights_are_another_engine(cache, entry, network_of) -> None:
    other = key_for(small(network_of, seed=1))
    assert cache.get(other, Build(b"another")) == (b"another", False)
    assert len(cache.entries()) == 2


def test_one_changed_weight_is_another_key(checkpoint, key) -> None:
    with torch.no_grad():
        checkpoint.network.tail.bias += 1e-6
    assert key_for(checkpoint)["weights"] != key["weights"]


def test_other_version_or_backend_is_another_engine(cache, entry, checkpoint) -> None:
    for backend in (Numbered("1.1"), Eager()):
        other = key_for(checkpoint, backend=backend)
        assert cache.get(other, Build(b"another")) == (b"another", False)
    assert len(cache.entries()) == 3


# ---- what is not as it was written ----


def of_another(content: bytes) -> bytes:
    """An entry whose bytes are whole, under the name of another."""
    line, built = content.split(b"\n", 1)
    known = json.loads(line)
    known["key"]["shape"] = [512, 512]
    return json.dumps(known).encode() + b"\n" + built


DAMAGES = {
    "one bit flipped": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    "end cut off": lambda content: content[:-100],
    "more behind it": lambda content: content + b"\0",
    "cut in the first line": lambda content: content[:40],
    "empty": lambda content: content[:0],
    "no bytes behind the line": lambda content: content.split(b"\n")[0] + b"\n",
    "not text": lambda content: b"\xff\xfe\x00" + content,
    "not JSON": lambda content: b"engine\n" + content,
    "a list": lambda content: b"[]\n" + content,
    "a null": lambda content: b"null\n" + content,
    "no key": lambda content: b'{"sha256": ""}\n' + content,
    "no digest": lambda content: content.replace(b'"sha256"', b'"sha1"', 1),
    "endless line": lambda content: b" " * (LINE_MAX + 9) + content,
    "deep line": lambda content: b"[" * (LINE_MAX - 1) + b"\n" + content,
    "of another graph": of_another,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_entry_is_built_anew_and_replaced(cache, key, entry, damage, caplog) -> None:
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    assert cache.get(key, Build()) == (CONTENT, False)
    assert entry.read_bytes() == whole
    assert "engine built anew" in caplog.messages
    assert cache.get(key, Build()) == (CONTENT, True)


@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_entry_that_others_may_write_is_built_anew_and_replaced(cache, key, entry, mode) -> None:
    entry.chmod(mode)
    assert cache.get(key, Build()) == (CONTENT, False)
    assert mode_of(entry) == 0o600
    assert cache.get(key, Build()) == (CONTENT, True)


def test_folder_that_others_may_write_is_never_read(cache, key, entry) -> None:
    """Others could put a whole entry there, with a fitting digest."""
    cache.folder.chmod(0o777)
    for _ in range(2):
        assert cache.get(key, Build(b"own")) == (b"own", False)
    assert entry.read_bytes().endswith(b"\nown")
    cache.folder.chmod(0o700)
    assert cache.get(key, Build()) == (b"own", True)


def test_entry_of_another_user_is_built_anew(cache, key, entry, monkeypatch, caplog) -> None:
    monkeypatch.setattr(os, "getuid", lambda: entry.stat().st_uid + 1)
    assert cache.get(key, Build()) == (CONTENT, False)
    assert caplog.records[0].reason.startswith(f"expected owner {entry.stat().st_uid + 1}")


def test_folder_in_the_place_of_an_entry_only_builds(cache, key) -> None:
    cache.path(key).mkdir(parents=True)
    assert cache.get(key, Build()) == (CONTENT, False)
    assert list(cache.folder.iterdir()) == [cache.path(key)], "nothing half written is left"


# ---- a folder that cannot be written ----


def test_file_in_the_place_of_the_folder_only_builds(tmp_path, key, caplog) -> None:
    (tmp_path / "engines").write_text("not a folder")
    cache, build = EngineCache(tmp_path / "engines"), Build()
    assert [cache.get(key, build) for _ in range(2)] == [(CONTENT, False)] * 2
    assert build.times == 2
    assert caplog.messages == ["engine not kept"] * 2
    assert (tmp_path / "engines").read_text() == "not a folder"


def test_entry_on_a_read_only_disk_is_found(cache, key, entry, monkeypatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("utime", "open"):
        monkeypatch.setattr(os, name, refused)
    build = Build()
    assert cache.get(key, build) == (CONTENT, True)
    assert build.times == 0


def test_entry_deleted_once_it_is_read_leaves_no_empty_one(cache, key, entry, monkeypatch) -> None:
    """As another process does that makes room."""
    loads = json.loads

    def deleting(text: str | bytes) -> Any:
        entry.unlink(missing_ok=True)
        return loads(text)

    monkeypatch.setattr(json, "loads", deleting)
    assert cache.get(key, Build()) == (CONTENT, True)
    assert cache.entries() == []


def test_build_that_fails_says_so_and_leaves_nothing(cache, key) -> None:
    def failing() -> bytes:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        cache.get(key, failing)
    assert not cache.folder.exists()


def test_nothing_is_written_where_there_is_nothing_to_keep(cache, key) -> None:
    build = Build(b"")
    assert [cache.get(key, build) for _ in range(2)] == [(b"", False)] * 2
    assert build.times == 2
    assert not cache.folder.exists()


# ---- bounded ----


def sizes(checkpoint: Checkpoint, count: int) -> list[dict[str, Any]]:
    """Keys of as many shapes."""
    return [key_for(checkpoint, DeployRecipe((16, 24 + place))) for place in range(count)]


def used_at(cache: EngineCache, keys: list[dict[str, Any]]) -> None:
    """As if they had been used a second apart, long ago."""
    for place, key in enumerate(keys):
        os.utime(cache.path(key), (1000 + place, 1000 + place))


def kept(cache: EngineCache, keys: list[dict[str, Any]]) -> list[bool]:
    return [cache.path(key) in cache.entries() for key in keys]


def test_least_recently_used_goes_first(cache, checkpoint) -> None:
    keys = sizes(checkpoint, 4)
    for key in keys[:3]:
        cache.get(key, Build())
    bound = 3 * cache.path(keys[0]).stat().st_size + 100
    used_at(cache, keys[:3])
    assert cache.get(keys[0], Build())[1], "found, and so used now"
    EngineCache(cache.folder, bound).get(keys[3], Build())
    assert kept(cache, keys) == [True, False, True, True]


def test_newest_stays_though_it_is_too_large_alone(cache, checkpoint) -> None:
    keys = sizes(checkpoint, 3)
    for key in keys[:2]:
        cache.get(key, Build())
    narrow = EngineCache(cache.folder, bytes_max=10)
    narrow.get(keys[2], Build())
    assert kept(cache, keys) == [False, False, True]
    assert narrow.get(keys[2], Build()) == (CONTENT, True)


def test_other_files_in_the_folder_are_left_alone(cache, entry, checkpoint) -> None:
    note = cache.folder / "README"
    note.write_text("mine")
    EngineCache(cache.folder, bytes_max=10).get(sizes(checkpoint, 2)[1], Build())
    assert note.read_text() == "mine"
    assert not entry.exists()


# ---- several at once ----


def test_writers_of_one_engine_at_once_leave_one_whole_entry(cache, key) -> None:
    """Each with a cache of its own, as processes have, none done before all have begun."""
    together = threading.Barrier(8)

    def built() -> bytes:
        together.wait(timeout=30)
        return CONTENT * 50

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(EngineCache(cache.folder).get, key, built) for _ in range(8)]
    assert [call.result() for call in calls] == [(CONTENT * 50, False)] * 8
    assert list(cache.folder.iterdir()) == [cache.path(key)]
    assert cache.get(key, Build()) == (CONTENT * 50, True)


# ---- where ----


def test_default_folder_is_in_the_users_caches(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "scgn-live" / "engines"


@pytest.mark.parametrize("unset", ["deleted", "empty"])
def test_default_folder_is_below_home_without_a_setting(monkeypatch, tmp_path, unset) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    if unset == "empty":
        monkeypatch.setenv("XDG_CACHE_HOME", "")
    else:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_folder() == tmp_path / ".cache" / "scgn-live" / "engines"
