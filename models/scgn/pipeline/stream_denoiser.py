"""A network on a device for any camera: lanes by shape, built aside, frames in flight.

Frames never wait for a build: a shape that was not asked for begins on the `eager` lane, another
process builds its engine, and the lane is replaced between two frames. One thread builds; the
lanes that wait for it are its queue, and bounded.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from scgn.backends import Backend, Choice
from scgn.backends.backend import Progress, word_on
from scgn.backends.cache import EngineCache
from scgn.backends.torched import Eager
from scgn.calibration import Calibration
from scgn.checkpoint import Checkpoint
from scgn.compile import compiled
from scgn.denoise import FrameError
from scgn.deploy import DeployRecipe
from scgn.deploy.counts import OUT_DTYPES, TWO_BYTES
from scgn.deploy.recipe import SIDE_MIN, CameraDtype, OutputDtype, Precision
from scgn.deploy.references import References, references
from scgn.pipeline.building import BuildProcess, Ending
from scgn.pipeline.device import Bytes, Device
from scgn.pipeline.lane import Lane, Pipeline
from scgn.pipeline.results import Frames, Results
from scgn.pipeline.state import NO_PAST
from scgn.pipeline.streams import STREAMS_MAX, Kind, StreamStore, StreamTurn, Temporal

LOG = logging.getLogger(__name__)
LANES_MAX = 8  # shapes kept on the device; the least recently used goes
CALIBRATIONS_KEPT = 2
BUILDING = "building"
FIRST = Eager(captures=False)  # of a shape that nobody announced: there at once

Key = tuple[tuple[int, int], str, int]  # shape, camera dtype, batch
Array = NDArray[Any]


@dataclass
class Standing:
    """A lane, what runs it, and how its better engine stands: for people and for the wire."""

    lane: Lane
    backend: str
    word: str
    state: str = "ready"  # or BUILDING: waits for it, or why its engine could not be built


@dataclass(frozen=True)
class Running:
    """How frames are run.

    precision, output_dtype: see `scgn.deploy.DeployRecipe`; in_flight: calls on the device at most;
    threads: CPU threads, 0 for all; network: the name or path that a build process loads; temporal:
    longest mean that a frame may know, frames, `auto` for what is best, `off` for none;
    streams_max: streams whose past is kept.
    """

    network: str
    precision: Precision
    output_dtype: OutputDtype = "float32"
    in_flight: int = 3
    threads: int = 0
    cache: Path = field(default_factory=Path)
    temporal: Temporal = "auto"
    streams_max: int = STREAMS_MAX


class StreamDenoiser:
    """Submit from one thread, wait for results in order from another; `prepare*` from any."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: Device,
        choice: Choice,
        running: Running,
        stopping: threading.Event | None = None,
        progress: Progress = LOG.info,
    ) -> None:
        self.id = checkpoint.id
        self.choice = choice
        self.word: str = word_on(choice.backend, device.device, running.precision)
        # A CPU reads a frame where it lies; a device wants it page-locked.
        self.host: Callable[[int], Bytes] | None = (
            None if device.device.type == "cpu" else device.host
        )
        self._checkpoint, self._device, self._running = checkpoint, device, running
        self.temporal = is_temporal(checkpoint)
        self._streams = StreamStore(running.temporal, running.streams_max)
        self._pipeline = Pipeline(device)
        self._cache = EngineCache(running.cache)
        self._lanes: OrderedDict[Key, Standing] = OrderedDict()
        self._lock = threading.Lock()  # of the table of lanes; never held while anything is built
        self._builder: threading.Thread | None = None  # while any lane waits for its engine
        self._stopping = Ending(stopping)  # ends the build that is under way
        self._closed = False
        self._progress = progress
        self.references = functools.lru_cache(maxsize=CALIBRATIONS_KEPT)(self._references)
        self._blank = functools.lru_cache(maxsize=LANES_MAX)(self._no_references)

    # Before frames come, or aside.

    def _on_device(self, calibration: Calibration | None, shape: tuple[int, int]) -> References:
        moved = references(calibration, shape).to(self._device.device)
        self._device.settle()
        return moved

    def _no_references(self, shape: tuple[int, int]) -> References:
        return self._on_device(None, shape)

    def _references(self, calibration: Calibration) -> References:
        """A calibration's tensors on the device; the last ones are kept."""
        return self._on_device(calibration, calibration.shape)

    def recipe(self, key: Key) -> DeployRecipe:
        """Of frames of that shape, dtype and batch."""
        shape, dtype, batch = key
        running = self._running
        known: CameraDtype = dtype  # type: ignore[assignment]
        return DeployRecipe(shape, known, running.output_dtype, running.precision, batch)

    def prepare(self, shape: tuple[int, int], dtype: str, batch: int = 1) -> None:
        """Have a lane of the chosen backend ready before frames of that kind come; it may take
        minutes the first time, seconds later. BackendError, DeployError when it cannot be. Frames
        that know their past go one by one: of more in a call there is nothing to prepare.
        """
        if self.temporal and batch > 1:
            return
        key = (shape, dtype, batch)
        self._build(key)
        self._put(key, self._standing(key, self.choice.backend))

    def _build(self, key: Key) -> None:
        """Have the cache hold the engine: built by a process, whose memory and lock are its own."""
        network, backend = self._running.network, self.choice.backend
        process = BuildProcess(network, backend, self.recipe(key), self._cache)
        if process.needed(self._checkpoint, self._device.device):
            process.run(self._stopping, self._progress)

    def _standing(self, key: Key, backend: Backend) -> Standing:
        """A new lane, loaded and warm."""
        recipe, device = self.recipe(key), self._device.device
        engine = compiled(
            self._checkpoint, recipe, backend, device, self._cache, self._running.threads
        )
        lane = Lane(self._device, engine, recipe, self._running.in_flight)
        return Standing(lane, backend.name, word_on(backend, device, recipe.precision))

    def _put(self, key: Key, standing: Standing) -> None:
        with self._lock:
            self._lanes[key] = standing
            self._lanes.move_to_end(key)
            while len(self._lanes) > LANES_MAX:
                self._lanes.popitem(last=False)

    # Aside: the one thread that builds.

    def _ensure_builder(self) -> None:
        """Have the builder's thread run; a lane waits for its engine."""
        with self._lock:
            if self._builder is not None:
                return
            builder = threading.Thread(target=self._build_waiting, daemon=True, name="build")
            self._builder = builder
        try:
            builder.start()
        except RuntimeError as error:  # no more threads: the next new shape tries again
            LOG.error("engine not built", extra={"error": str(error)})
            self._builder = None

    def _build_waiting(self) -> None:
        while (key := self._next_waiting()) is not None:
            self._better(key)

    def _next_waiting(self) -> Key | None:
        """The lane to build next: the one used last, whose frames come now. One that was pushed out
        is not built; its next frame asks again. None ends the builder.
        """
        with self._lock:
            if not self._closed:
                for key in reversed(self._lanes):
                    if self._lanes[key].state == BUILDING:
                        return key
            self._builder = None
            return None

    def _better(self, key: Key) -> None:
        """Build the chosen engine of a lane that runs eager, and replace the lane."""
        try:
            self._build(key)
            self._put(key, self._standing(key, self.choice.backend))
            LOG.info("engine ready", extra=_facts(key, self.choice.backend.name))
        except Exception as error:  # whatever it is, frames go on as they are
            if not self._stopping.is_set():
                LOG.error(
                    "engine not built", extra={**_facts(key, FIRST.name), "error": str(error)}
                )
            with self._lock:
                if key in self._lanes:
                    self._lanes[key].state = f"not built: {error}"

    # Frames.

    def submit(self, frames: Frames, calibration: Calibration | None) -> Results:
        """Enqueue frames of one shape and dtype; FrameError when they cannot be.

        `too_small` below SIDE_MIN px a side, `calibration_shape` for a calibration of another
        shape, `camera_dtype` for one that no camera has. A network that knows the past takes one
        frame a call (ValueError): a stream's frames follow each other.
        """
        first = frames.raws[0]
        if self.temporal and len(frames.raws) > 1:
            raise ValueError(f"frames: expected one a call, got {len(frames.raws)}")
        key = (first.shape, wire_dtype(first), len(frames.raws))
        if min(first.shape) < SIDE_MIN:
            raise FrameError("too_small", f"expected {SIDE_MIN} px a side, got {first.shape}")
        if calibration is not None and calibration.shape != first.shape:
            got = f"calibration {calibration.id} is for {calibration.shape}, frame {first.shape}"
            raise FrameError("calibration_shape", got)
        standing = self._lane(key)
        known = self._blank(first.shape) if calibration is None else self.references(calibration)
        turn = self._turn(standing.lane, frames, None if calibration is None else calibration.id)
        words = standing.lane, frames.raws, known, frames.results
        try:
            ticket = self._pipeline.submit(*words, NO_PAST if turn is None else turn.past)
        except BaseException:
            if turn is not None:
                turn.refused()
            raise
        return Results(ticket, frames, self._running.output_dtype, standing.word, turn)

    def _turn(self, lane: Lane, frames: Frames, calibration: str | None) -> StreamTurn | None:
        """The next of its stream; None for a frame, or a network, without a past."""
        stream = frames.streams[0] if frames.streams and self.temporal else None
        if stream is None or lane.carrier is None:
            return None
        kind = Kind(calibration, lane.recipe.camera_dtype)
        return self._streams.turn(stream, lane.recipe.shape, kind, lane.carrier.new)

    def result_bytes(self, shape: tuple[int, int]) -> int:
        """Host memory of one denoised frame, bytes."""
        itemsize = OUT_DTYPES[self._running.output_dtype].itemsize
        return shape[0] * shape[1] * (2 if self._running.output_dtype == "uint16" else itemsize)

    def _lane(self, key: Key) -> Standing:
        with self._lock:
            standing = self._lanes.get(key)
            if standing is not None:
                self._lanes.move_to_end(key)
        return self._begin_eager(key) if standing is None else standing

    def _begin_eager(self, key: Key) -> Standing:
        """A lane at once, and a better one on its way."""
        standing = self._standing(key, FIRST)
        if self.choice.backend.name == FIRST.name and self._device.device.type == "cpu":
            self._put(key, standing)
            return standing
        standing.state = BUILDING
        self._put(key, standing)  # before the build begins, whose end replaces it
        self._ensure_builder()
        return standing

    def has_lane(self, shape: tuple[int, int], dtype: str, batch: int) -> bool:
        """Whether frames of that kind can go together without a new lane; those that know their
        past never go together.
        """
        return (shape, dtype, batch) in self._lanes

    # Anyone's.

    def forget(self, source: str) -> None:
        """Free what is kept of a source's streams; its next frame has no past."""
        self._streams.forget(source)

    def set_temporal(self, value: Temporal) -> None:
        """As `Running.temporal`, for all streams from their next frames on."""
        self._streams.set_temporal(value)

    def status(self) -> dict[str, Any]:
        """Backend, why it, precision, each lane's state and each source's stream; for people."""
        with self._lock:
            lanes = [
                {
                    "shape": list(shape), "camera_dtype": dtype, "batch": batch,
                    "backend": standing.backend, "state": standing.state,
                }
                for (shape, dtype, batch), standing in self._lanes.items()
            ]  # fmt: skip
        return {
            "name": self.choice.backend.name, "version": self.choice.backend.version(),
            "why": self.choice.why, "device": str(self._device.device),
            "precision": self._running.precision, "in_flight": self._running.in_flight,
            "lanes": lanes, "streams": self._streams.status(),
        }  # fmt: skip

    def close(self) -> None:
        """End the build under way and begin none; frames in flight are the caller's to wait for."""
        self._stopping.set()
        with self._lock:
            self._closed, builder = True, self._builder
        if builder is not None and builder.is_alive():
            builder.join(5)


def is_temporal(checkpoint: Checkpoint) -> bool:
    """Whether a network starts from what its stream knows."""
    residual: str = checkpoint.network.design.residual
    return residual == "stream"


def wire_dtype(frame: Array) -> str:
    """A frame's dtype as the wire says it; FrameError `camera_dtype` for one it does not know."""
    code = frame.dtype.str
    known = {"|u1", "<u4", "<i4", "<f4", *TWO_BYTES}
    if code not in known:
        raise FrameError("camera_dtype", f"expected one of {sorted(known)}, got {code}")
    return code


def _facts(key: Key, backend: str) -> dict[str, Any]:
    shape, dtype, batch = key
    return {"shape": f"{shape[0]}x{shape[1]}", "dtype": dtype, "batch": batch, "backend": backend}
