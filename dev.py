#!/usr/bin/env python3
"""The project's commands, on a machine with nothing but Python 3.11+ and git.

    python3 dev.py demo      service, simulated camera, calibration, and a proof at the end
    python3 dev.py test      all tests that need no GPU
    python3 dev.py check     what CI runs: style, types, import contracts, known holes, tests
    python3 dev.py bench     every benchmark that needs no GPU, an hour; --save writes the results
    python3 dev.py chaos     faults at random moments: --minutes N, --seed S, --fault NAME, --save
    python3 dev.py install   only make .venv
    python3 dev.py audit     the pinned packages against known holes, where an index tells any
    python3 dev.py browser   Chromium for the tests of the live view (Debian and Ubuntu, as root)

What follows the verb goes to the command behind it. SCGN_TORCH=cuda installs the GPU packages.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / "python"
CUDA = os.environ.get("SCGN_TORCH") == "cuda"
TORCH = "2.13.0"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# Arithmetic is shared out test by test, what starts processes file by file, so that its waiting
# costs nothing; what judges an age or fills both cores by itself comes last and alone.
PROCESSES = ("tests/client", "tests/service", "tests/deploy", "tests/fuzz", "tests/chaos")
ALONE = (
    "tests/service/test_live_view.py",
    "tests/service/test_storm.py",
    "tests/test_gpu_stages.py",
)
WORKERS = min(4, os.cpu_count() or 1)
ACCEPTED: dict[str, str] = {}  # id of a known hole -> why it does not reach us
BENCHMARKS = (
    "bench_wire", "bench_service", "bench_generator", "bench_backends", "bench_precision",
    "bench_proof", "bench_health", "bench_curve", "bench_swaps", "bench_temporal", "bench_soak",
)  # fmt: skip


def run(*command: str | Path) -> int:
    """Run a program of the environment in the project's root; returns its exit status."""
    return subprocess.call([str(word) for word in command], cwd=ROOT)


def must(*command: str | Path) -> None:
    """Run, and end with its status when it fails."""
    if status := run(*command):
        sys.exit(status)


def pip(*words: str | Path) -> int:
    """`pip install` into the environment, with the pinned versions."""
    return run(PYTHON, "-m", "pip", "install", "-q", "-c", "constraints.txt", *words)


def stamp() -> str:
    """What decides the environment's content."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {CUDA}".encode())
    for name in ("pyproject.toml", "constraints.txt", "dev.py"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def install_torch() -> None:
    """CPU build from the nearest place: what pip is set up with, PyTorch's index, the registry.

    Asked for first and alone, or another package's open requirement brings gigabytes of CUDA.
    """
    if CUDA:
        return
    cpu, index = f"torch=={TORCH}+cpu", ("--index-url", TORCH_CPU_INDEX)
    if pip(cpu) and pip(*index, cpu) and pip(f"torch=={TORCH}"):
        sys.exit(f"torch {TORCH} could be installed from none of three places")


def install() -> None:
    """Make .venv unless it is there and up to date."""
    mark = VENV / "scgn-stamp"
    if mark.exists() and mark.read_text() == stamp():
        return
    print("dev.py: installing into .venv (minutes the first time)", file=sys.stderr, flush=True)
    must(sys.executable, "-m", "venv", VENV)
    install_torch()
    if pip("-e", ".[gpu,dev]" if CUDA else ".[dev]"):
        sys.exit("dev.py: the packages could not be installed")
    mark.write_text(stamp())


def test(words: list[str]) -> int:
    """What the words name in one process, or everything in three parts."""
    pytest = (PYTHON, "-m", "pytest", "-m", "not gpu")
    if words:
        return run(*pytest, *words)
    shared = (*pytest, "-n", str(WORKERS), "--dist")
    apart = [f"--ignore={place}" for place in (*PROCESSES, *ALONE)]
    os.environ["OMP_NUM_THREADS"] = "1"  # threads of two processes on one core wait for each other
    status = run(*shared, "worksteal", *apart)
    del os.environ["OMP_NUM_THREADS"]
    alone = [f"--ignore={place}" for place in ALONE]
    return status or run(*shared, "loadfile", *PROCESSES, *alone) or run(*pytest, *ALONE)


def browser() -> int:
    """Debian's Chromium, unless a browser is there; tests of the live view are skipped without."""
    if shutil.which("chromium"):
        return 0
    apt = ["apt-get", "-y", "-qq", "-o", "Dpkg::Use-Pty=0"]
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    return run(*apt, "update") or run(*apt, "install", "--no-install-recommends", "chromium")


def audit() -> int:
    """The pinned packages against known holes (PyPI's advisories); says what it could not look up.

    1 when one has a hole that ACCEPTED does not name. A machine that reaches no index passes: it
    learns nothing of its packages, and is told so.
    """
    asked = [PYTHON, "-m", "pip_audit", "--requirement", "constraints.txt", "--format", "json"]
    asked += ["--no-deps", "--disable-pip", "--progress-spinner", "off"]
    asked += [word for hole in ACCEPTED for word in ("--ignore-vuln", hole)]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    try:
        rows = json.loads(done.stdout)["dependencies"]
    except ValueError:
        why = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        print(f"dev.py audit: nothing could be looked up: {why}", file=sys.stderr)
        return 0
    known = [row for row in rows if "skip_reason" not in row]
    holes = [(row, hole) for row in known for hole in row["vulns"]]
    print(f"dev.py audit: {len(known)} of {len(rows)} packages looked up, {len(holes)} known holes")
    for row, hole in holes:
        mended = ", ".join(hole["fix_versions"]) or "no version"
        print(f"  {row['name']} {row['version']}: {hole['id']}, mended in {mended}")
    return 1 if holes else 0


def check() -> int:
    """Everything that must hold before a commit; stops at the first that does not."""
    must(PYTHON, "-m", "ruff", "check", ".")
    must(PYTHON, "-m", "ruff", "format", "--check", ".")
    must(PYTHON, "-m", "mypy")
    must(BIN / "lint-imports")
    if status := audit():
        return status
    return run(sys.executable, "dev.py", "test")  # the README's own test command


def bench(words: list[str]) -> int:
    """Each benchmark in turn; the first failure's status."""
    return max(run(PYTHON, "-m", f"benchmarks.{name}", *words) for name in BENCHMARKS)


def main() -> int:
    """Run one verb; returns the exit status."""
    if sys.version_info < (3, 11):
        sys.exit(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}")
    verb, *words = sys.argv[1:] or ["help"]
    if verb not in ("demo", "test", "check", "bench", "chaos", "install", "browser", "audit"):
        print(__doc__)
        return 0 if verb in ("help", "-h", "--help") else 2
    if verb == "browser":
        return browser()
    install()
    if verb == "demo":
        return run(PYTHON, "-m", "scgn_live", "demo", *words)
    if verb == "test":
        return test(words)
    if verb == "check":
        return check()
    if verb == "audit":
        return audit()
    if verb == "chaos":
        return run(PYTHON, "tests/chaos", *words)
    return bench(words) if verb == "bench" else 0


if __name__ == "__main__":
    sys.exit(main())
