"""Fuzzing by coverage: atheris changes inputs towards lines that no input has reached yet.

    pip install -c constraints.txt -e .[fuzz]
    python -m tests.fuzz.guided wire --seconds 600
    python -m tests.fuzz.guided calibrations --seconds 600

Inputs that reach something new are kept in runs/fuzz/, to go on from; what fails lies beside them,
and `python -m tests.fuzz keep wire|calibrations FILE` puts it into found/, to be tried for ever.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import resource
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
KEPT = HERE.parents[1] / "runs" / "fuzz"
SEEDS = {
    "wire": ("wire/ingest", "wire/published", "wire/latest"),
    "calibrations": ("calibrations",),
}
LENGTHS = {"wire": 20_000, "calibrations": 8_192}
INSTRUMENTED = {
    "wire": ["scgn_client", "scgn_live"],
    "calibrations": ["scgn", "scgn_live", "tifffile", "h5py", "mrcfile", "numpy.lib"],
}
DM = (b"\x00\x00\x00\x03", b"\x00\x00\x00\x04")  # another program is started for these


def wire() -> Callable[[bytes], None]:
    """A message of any parts through the whole target."""
    from .messages import parts_of
    from .wire import WireTarget

    target = WireTarget().__enter__()  # until the process ends
    return lambda content: target.try_message(parts_of(content))


def calibrations() -> Callable[[bytes], None]:
    """A file through the reader that its first bytes ask for, or as a whole calibration."""
    from scgn.calibration import CalibrationError, load_calibration
    from scgn_live.checking.files import CheckError
    from scgn_live.checking.readers import read_stack

    from .calibrations import MEMORY_MB

    # As the service's checks have it: HDF5 can be made to ask for more than there is.
    resource.setrlimit(resource.RLIMIT_AS, (round(MEMORY_MB * 1e6),) * 2)
    path = Path(tempfile.mkdtemp(prefix="scgn-fuzz-")) / "dark"
    warnings.simplefilter("ignore")

    def once(content: bytes) -> None:
        if content.startswith(DM):
            return
        path.write_bytes(content)
        for read in (
            lambda: read_stack(path, "dark", "a.mrc", 8e6),
            lambda: load_calibration(path),
        ):
            with contextlib.suppress(CheckError, CalibrationError, MemoryError):
                read()

    return once


def main() -> None:
    """Fuzz until the time is over or something is found; atheris ends the process itself."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("target", choices=SEEDS)
    parser.add_argument("--seconds", type=int, default=60)
    args = parser.parse_args()
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed: pip install -c constraints.txt -e .[fuzz]")
    logging.disable()
    with atheris.instrument_imports(include=INSTRUMENTED[args.target]):
        once = {"wire": wire, "calibrations": calibrations}[args.target]()
    kept = KEPT / args.target
    kept.mkdir(parents=True, exist_ok=True)
    flags = [
        f"-max_total_time={args.seconds}", f"-max_len={LENGTHS[args.target]}",
        f"-artifact_prefix={KEPT}{os.sep}{args.target}-", "-rss_limit_mb=4096",
        "-timeout=30",
    ]  # fmt: skip
    seeds = [str(HERE / "corpus" / name) for name in SEEDS[args.target]]
    atheris.Setup([sys.argv[0], *flags, str(kept), *seeds], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
