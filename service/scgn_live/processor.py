"""What turns raw frames into denoised ones: calls that are submitted, and waited for later."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scgn.calibration import Calibration
from scgn_live.settings import Settings, Temporal

if TYPE_CHECKING:
    from scgn.pipeline import Stream, StreamDenoiser
    from scgn.stream.tracker import StreamReport
    from scgn_live.ring import Slot

LOG = logging.getLogger(__name__)

Array = NDArray[Any]
Bytes = NDArray[np.uint8]


class Pending(Protocol):
    """Frames under way. word: how they ran, as the wire says it; ready: nothing to wait for;
    reports: what each frame's stream says once it was waited for, or nothing where none says any.
    """

    @property
    def word(self) -> str: ...

    @property
    def ready(self) -> bool: ...

    @property
    def reports(self) -> Sequence[StreamReport | None]: ...

    def wait(self) -> Sequence[Array | Exception]:
        """For each frame (rows, columns), or why it failed; called once, in order of submission."""


class Processor(Protocol):
    """A network on a device.

    word: how frames run once their engine is built, as the wire says it; in_flight: calls that may
    be between submission and completion; host: makes the memory that frames are copied into before
    they are submitted, or None where they may lie anywhere.
    """

    model: str
    word: str
    host: Callable[[int], Bytes] | None
    corrects: bool
    in_flight: int

    def prepare(self, calibration: Calibration) -> None:
        """Do what a calibration's first frame would wait for; called aside, before the swap."""

    def batch_of(self, raw: Array) -> int:
        """How many frames like this one may go in one call when so many wait."""

    def result_bytes(self, raw: Array) -> int:
        """Memory that the denoised frame needs, bytes; 0 when it brings its own."""

    def submit(
        self,
        raws: Sequence[Array],
        results: Sequence[Bytes],
        calibration: Calibration | None,
        slots: Sequence[Slot] = (),
    ) -> Pending:
        """Begin with frames of one shape and dtype; they and `results` stay until the wait.

        slots: which streams they are of; nothing for frames of none. FrameError when none of them
        can be processed.
        """

    def set_temporal(self, value: Temporal) -> None:
        """How many frames of a camera the network may see together, from the next one on."""

    def status(self) -> dict[str, Any]:
        """For people: what runs the frames, and why. Under `streams`, by source, what is known of
        each camera's noise, dose and quality, where the network keeps a state.
        """

    def close(self) -> None:
        """End what runs beside the frames."""


@dataclass(frozen=True)
class Finished:
    """Results that are there already."""

    results: Sequence[Array | Exception]
    word: str = ""
    ready: bool = True
    reports: Sequence[StreamReport | None] = ()

    def wait(self) -> Sequence[Array | Exception]:
        return self.results


def failed(error: Exception, frames: int) -> Finished:
    """A call that could not begin."""
    return Finished([error] * frames)


class FrameByFrame:
    """A processor that is one function: (raw, calibration) -> denoised, done on submission."""

    model, word = "function", "function"
    host: Callable[[int], Bytes] | None = None
    corrects = True
    in_flight = 1

    def __call__(self, raw: Array, calibration: Calibration | None) -> Array:
        """(rows, columns) of any wire dtype -> (rows, columns); FrameError for this frame."""
        raise NotImplementedError

    def prepare(self, calibration: Calibration) -> None:
        """Nothing is kept."""

    def batch_of(self, raw: Array) -> int:  # noqa: ARG002
        return 1

    def result_bytes(self, raw: Array) -> int:  # noqa: ARG002
        return 0

    def submit(
        self,
        raws: Sequence[Array],
        results: Sequence[Bytes],  # noqa: ARG002
        calibration: Calibration | None,
        slots: Sequence[Slot] = (),  # noqa: ARG002
    ) -> Finished:
        return Finished([self(raw, calibration) for raw in raws], self.word)

    def set_temporal(self, value: Temporal) -> None:
        """Each frame is alone anyway."""

    def status(self) -> dict[str, Any]:
        return {"name": self.model, "why": "engine = pass-through", "lanes": []}

    def close(self) -> None:
        """Nothing runs beside."""


class PassThrough(FrameByFrame):
    """Returns the frame as it came: what the service costs without a network."""

    model = word = "pass-through"
    corrects = False

    def __call__(self, raw: Array, calibration: Calibration | None) -> Array:  # noqa: ARG002
        return raw


class ScgnProcessor:
    """A network on the chosen backend and device."""

    corrects = True

    def __init__(self, denoiser: StreamDenoiser, in_flight: int, batch: int) -> None:
        self._denoiser, self._batch = denoiser, batch
        self.model, self.word, self.in_flight = denoiser.id, denoiser.word, in_flight
        self.host: Callable[[int], Bytes] | None = denoiser.host

    def prepare(self, calibration: Calibration) -> None:
        self._denoiser.references(calibration)

    def batch_of(self, raw: Array) -> int:
        ready = self._batch > 1 and self._denoiser.has_lane(raw.shape, raw.dtype.str, self._batch)
        return self._batch if ready else 1

    def result_bytes(self, raw: Array) -> int:
        return self._denoiser.result_bytes(raw.shape)

    def submit(
        self,
        raws: Sequence[Array],
        results: Sequence[Bytes],
        calibration: Calibration | None,
        slots: Sequence[Slot] = (),
    ) -> Pending:
        from scgn.pipeline import Frames

        frames = Frames(raws, results, [stream_of(slot) for slot in slots])
        return self._denoiser.submit(frames, calibration)

    def set_temporal(self, value: Temporal) -> None:
        self._denoiser.set_temporal(value)

    def status(self) -> dict[str, Any]:
        return self._denoiser.status()

    def close(self) -> None:
        self._denoiser.close()


def stream_of(slot: Slot) -> Stream:
    """Where a slot's frame comes from."""
    from scgn.pipeline import Stream
    from scgn.stream.tracker import Exposure

    header, start = slot.header, slot.run.start
    words = header.frame, header.t_acquired_ns, start.exposure_ms, start.pixel_size_nm
    return Stream(header.source, header.series, Exposure(*words))


def build_processor(
    settings: Settings, stopping: threading.Event, progress: Callable[[str], None]
) -> Processor:
    """The processor that the settings ask for, with every shape they name loaded and warm.

    stopping: ends a build that is under way, also later; progress: is told of each step.
    CheckpointError, BackendError, DeployError (ValueErrors and RuntimeErrors) when it cannot be.
    """
    if settings.engine == "pass-through":
        return PassThrough()
    # torch takes seconds and hundreds of megabytes: a pass-through service does without.
    import torch

    from scgn.backends import choose
    from scgn.checkpoint import load_network
    from scgn.compile import default_precision
    from scgn.pipeline import StreamDenoiser, device_named
    from scgn.pipeline.stream_denoiser import Running

    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = device_named(settings.device)
    choice = choose(settings.backend, device.device)
    checkpoint = load_network(settings.network)
    temporal = checkpoint.network.design.residual == "stream"
    precision = settings.precision or default_precision(choice.backend, device.device, temporal)
    running = Running(
        settings.network, precision, settings.output_dtype, settings.in_flight, settings.threads,
        settings.engine_cache, temporal=settings.temporal,
    )  # fmt: skip
    denoiser = StreamDenoiser(checkpoint, device, choice, running, stopping, progress)
    facts = {"backend": choice.backend.name, "why": choice.why, "precision": precision}
    LOG.info("backend chosen", extra=facts)
    for shape, dtype in settings.frame_kinds:
        for batch in {1, settings.batch}:
            progress(f"preparing {shape[0]}x{shape[1]} {dtype}, batch {batch}")
            denoiser.prepare(shape, dtype, batch)
    return ScgnProcessor(denoiser, settings.in_flight, settings.batch)
