"""`python -m scgn_live.checking FOLDER MEMORY_MB SECONDS PID`: the folder's task, within limits.

PID is of the process that waits for it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from scgn.calibrate.picture import save_picture as draw_series
from scgn.calibration import save_calibration
from scgn.proof.picture import save_picture as draw_proof
from scgn.references import CalibrationError
from scgn.stacks import StackError
from scgn_live.checking.files import CALIBRATION, DONE, PICTURE, RESULT, CheckError, Task, read_task
from scgn_live.checking.limits import limit
from scgn_live.checking.stream import check_stream
from scgn_live.checking.upload import check_upload


def main(folder: Path) -> None:
    """Write result.json: a report, or the problem that the sender of the files can mend. Say so,
    as somebody waits for it; then draw the picture, for which nobody has to.
    """
    task = read_task(folder)
    draw: Callable[[Path], None] | None = None
    try:
        report, draw = _checked(folder, task)
        answer: dict[str, Any] = {"report": report}
    except CheckError as error:
        answer = _problem(error.status, error.field, str(error))
    except CalibrationError as error:
        answer = _problem(422, error.field, str(error))
    except StackError as error:
        answer = _problem(422, None, str(error))
    except MemoryError:
        text = f"expected files that can be checked within {task.memory_mb:.0f} MB, got larger ones"
        answer = _problem(413, None, text)
    beside = folder / f".{RESULT}"
    beside.write_text(json.dumps(answer, allow_nan=False))
    beside.rename(folder / RESULT)
    print(DONE.decode(), flush=True)
    if draw is not None:
        draw(folder / PICTURE)


def _checked(folder: Path, task: Task) -> tuple[dict[str, Any], Callable[[Path], None]]:
    """The report, and what draws it."""
    if task.kind == "stream":
        calibration, report, series = check_stream(folder, task)
        draw = partial(draw_series, report=series)
    else:
        checked = check_upload(folder, task)
        calibration, report = checked.calibration, checked.report
        draw = partial(draw_proof, proof=checked.proof)
    save_calibration(folder / CALIBRATION, calibration)
    return report, draw


def _problem(status: int, field: str | None, detail: str) -> dict[str, Any]:
    return {"problem": {"status": status, "field": field, "detail": detail}}


if __name__ == "__main__":
    # Before anything of an upload is read.
    limit(float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
    main(Path(sys.argv[1]))
