"""How long work takes on a device: CUDA's events between calls, or a CPU's clock around each."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

WARM_CALLS = 10

Work = Callable[[], object]


class Clock(Protocol):
    """Times of calls that follow each other without a pause, ms."""

    def times_ms(self, work: Work, repeats: int) -> list[float]:
        """Of `repeats` calls, after some that do not count."""


class CpuClock:
    """For work that is done when it returns."""

    def times_ms(self, work: Work, repeats: int) -> list[float]:
        """Each call's own time."""
        for _ in range(min(WARM_CALLS, repeats)):
            work()
        marks = [time.perf_counter()]
        for _ in range(repeats):
            work()
            marks.append(time.perf_counter())
        return [1000 * (after - before) for before, after in itertools.pairwise(marks)]


class CudaClock:
    """For work on the current stream; the host does not wait between calls."""

    def times_ms(self, work: Work, repeats: int) -> list[float]:
        """Between events of a stream of its own."""
        import torch

        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            for _ in range(WARM_CALLS):
                work()
            marks[0].record(stream)
            for mark in marks[1:]:
                work()
                mark.record(stream)
        stream.synchronize()
        return [before.elapsed_time(after) for before, after in itertools.pairwise(marks)]


def clock_of(device: torch.device) -> Clock:
    """The clock of a device."""
    return CudaClock() if device.type == "cuda" else CpuClock()


def summary(times_ms: Sequence[float], digits: int = 4) -> dict[str, float]:
    """Median and p99."""
    ordered = sorted(times_ms)
    last = len(ordered) - 1
    return {
        "median": round(ordered[len(ordered) // 2], digits),
        "p99": round(ordered[min(last, int(0.99 * len(ordered)))], digits),
    }
