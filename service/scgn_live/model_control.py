"""Another network without a gap: loaded and warmed aside, swapped between two frames."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from scgn_live.control import Handler
from scgn_live.engine import Engine
from scgn_live.processor import Processor, build_processor
from scgn_live.settings import Settings

LOG = logging.getLogger(__name__)
PROBE_LEVEL = 200.0  # counts of the frame that a new network is tried on


class ModelError(Exception):
    """A network cannot be used; the message says why."""


class ModelControl:
    """Swaps networks, one at a time, on the control socket's behalf."""

    def __init__(self, settings: Settings, ended: threading.Event) -> None:
        self._settings, self._ended = settings, ended
        self.engine: Engine | None = None  # once frames can come
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._name, self._state, self._detail = settings.network, "active", ""
        self._before: str | None = None

    def handlers(self) -> dict[str, Handler]:
        """By verb, as the control socket wants them."""
        return {"models": self._models, "use_model": self._use, "previous_model": self._previous}

    def close(self) -> None:
        """Wait for a swap that is under way; the process' end has ended its build."""
        if self._thread is not None:
            self._thread.join(5)

    def known(self) -> dict[str, str]:
        """Networks that may be used: name -> what `load_network` takes. Shipped ones, those in the
        folder `networks`, and the one of the settings.
        """
        from scgn.checkpoint import shipped_names

        found = {name: name for name in shipped_names()}
        folder = self._settings.networks
        if folder is not None and folder.is_dir():
            found |= {path.stem: str(path) for path in sorted(folder.glob("*.safetensors"))}
        own = self._settings.network
        return found | ({} if own in found else {Path(own).stem: own})

    def _models(self, _: dict[str, Any]) -> dict[str, Any]:
        engine = self._started()
        if engine.taken_back is not None and self._state == "active":
            self._state = "failed"
            self._detail = f"taken back: its first frames failed ({engine.taken_back})"
        return {
            "models": sorted(self.known()), "model": engine.state.processor.model,
            "asked": self._name, "state": self._state, "detail": self._detail,
        }  # fmt: skip

    def _use(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Begin to build and warm that network; it takes over when it is ready."""
        self._started()
        known = self.known()
        if self._settings.engine != "scgn":
            raise ModelError("expected engine = scgn, got a service that passes frames through")
        name = name_of(asked["name"], known)
        with self._lock:
            if self._state == "building":
                raise ModelError(f"expected one at a time, {self._name} is being built")
            self._before = self._name if self._state == "active" else self._before
            self._name, self._state, self._detail = name, "building", ""
        self._thread = threading.Thread(target=self._swap, args=(known[name],), name="swap")
        self._thread.start()
        return self._models({})

    def _previous(self, _: dict[str, Any]) -> dict[str, Any]:
        """Begin to go back to the network before."""
        if self._before is None:
            raise ModelError("no other network was used before this one")
        return self._use({"name": self._before})

    def _swap(self, network: str) -> None:
        try:
            engine = self._started()
            engine.taken_back = None
            processor = self._built(network, engine)
            engine.use_processor(processor)
            self._state, self._detail = "active", ""
            LOG.info("network in use", extra={"model": processor.model})
        except Exception as error:  # whatever it is, frames go on through the old one
            self._state, self._detail = "failed", str(error) or type(error).__name__
            LOG.error("network not used", extra={"network": self._name, "error": self._detail})

    def _built(self, network: str, engine: Engine) -> Processor:
        """Ready for every kind of frame that there is an engine for now, and tried on one."""
        kinds = kinds_of(engine.state.processor.status())
        shapes = tuple(dict.fromkeys((*self._settings.shapes, *kinds)))
        changes = {"network": network, "shapes": shapes, "temporal": engine.temporal}
        changed = self._settings.model_copy(update=changes)
        processor = build_processor(changed, self._ended, self._progress)
        try:
            for shape, dtype in changed.frame_kinds:
                tried(processor, shape, dtype)
        except BaseException:
            processor.close()
            raise
        return processor

    def _progress(self, text: str) -> None:
        LOG.info(text)
        self._detail = text

    def _started(self) -> Engine:
        if self.engine is None:
            raise ModelError("starting: the network is not there yet")
        return self.engine


def name_of(asked: str, known: dict[str, str]) -> str:
    """A known name as it is, or that of the network with this id, as frames tell it; ModelError."""
    from scgn.checkpoint import CheckpointError, load_network

    if asked in known:
        return asked
    for name, place in known.items() if asked.startswith("scgn-") else ():
        with suppress(CheckpointError):  # one that cannot be read is not it
            if load_network(place).id == asked:
                return name
    raise ModelError(f"expected one of {', '.join(sorted(known))}, or an id, got {asked!r}")


def kinds_of(status: dict[str, Any]) -> list[str]:
    """Kinds of frames that a processor has lanes for, as the setting `shapes` names them."""
    return [
        f"{lane['shape'][0]}x{lane['shape'][1]}:{lane['camera_dtype']}"
        for lane in status.get("lanes", [])
    ]


def tried(processor: Processor, shape: tuple[int, int], dtype: str) -> None:
    """One frame of noise through it; ModelError when what comes back is none."""
    noise = np.random.default_rng(0).poisson(PROBE_LEVEL, shape)
    raw = np.minimum(noise, 255 if dtype == "|u1" else noise.max()).astype(dtype)
    memory: Callable[[int], Any] = processor.host or (lambda size: np.empty(size, np.uint8))
    result = processor.submit([raw], [memory(processor.result_bytes(raw))], None).wait()[0]
    if isinstance(result, Exception):
        raise ModelError(f"its first frame failed: {result}") from result
    if result.shape != shape or not np.isfinite(result.astype(np.float32)).all():
        raise ModelError(f"its first frame came back as no frame: {result.dtype} {result.shape}")
