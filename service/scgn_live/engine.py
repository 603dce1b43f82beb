"""Frames through the network: one state, read once per frame, replaced between two frames."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scgn.calibration import Calibration
from scgn_live.ledger import Ledger
from scgn_live.logs import OncePerSecond
from scgn_live.ring import Ring, Slot
from scgn_live.settings import Settings

LOG = logging.getLogger(__name__)
TAKE_S = 0.2
BROKEN_MAX = 10
WARM_SHAPE = (256, 256)

Array = NDArray[Any]


class EngineBroken(RuntimeError):
    """The device or the network is beyond repair: the process must be made anew."""


class Processor(Protocol):
    """What turns a raw frame into a denoised one."""

    model: str
    engine: str
    corrects: bool

    def prepare(self, calibration: Calibration) -> None:
        """Do what a calibration's first frame would wait for; called aside, before the swap."""

    def __call__(self, raw: Array, calibration: Calibration | None) -> Array:
        """(rows, columns) of any wire dtype -> (rows, columns); FrameError for this frame."""


class PassThrough:
    """Returns the frame as it came: what the service costs without a network."""

    model = "pass-through"
    engine = "cpu"
    corrects = False

    def prepare(self, calibration: Calibration) -> None:
        """Nothing: frames are not corrected."""

    def __call__(self, raw: Array, calibration: Calibration | None) -> Array:  # noqa: ARG002
        return raw


class ScgnProcessor:
    """SCGN on the CPU or a CUDA device."""

    corrects = True

    def __init__(self, network: str, device: str, threads: int) -> None:
        # torch takes seconds and hundreds of megabytes: a pass-through service does without.
        import torch

        from scgn.checkpoint import load_network
        from scgn.denoise import Denoiser

        if threads:
            torch.set_num_threads(threads)
        cuda = torch.cuda.is_available() if device == "auto" else device == "cuda"
        self._denoiser = Denoiser(load_network(network), torch.device("cuda" if cuda else "cpu"))
        self.model = self._denoiser.id
        self.engine = "cuda" if cuda else "cpu"

    def prepare(self, calibration: Calibration) -> None:
        self._denoiser.correction(calibration)

    def __call__(self, raw: Array, calibration: Calibration | None) -> Array:
        return self._denoiser(raw, calibration)


def build_processor(settings: Settings) -> Processor:
    """The processor that the settings ask for, loaded and warm."""
    if settings.engine == "pass-through":
        return PassThrough()
    processor = ScgnProcessor(settings.network, settings.device, settings.threads)
    for _ in range(2):
        processor(np.random.default_rng(0).poisson(10, WARM_SHAPE).astype(np.uint16), None)
    return processor


@dataclass(frozen=True)
class EngineState:
    """Network and calibration of one frame; never changed, only replaced."""

    processor: Processor
    calibration: Calibration | None = None


class Engine:
    """Takes frames from the ring, one at a time, and gives them back denoised or failed."""

    def __init__(self, ring: Ring, ledger: Ledger, state: EngineState) -> None:
        self._ring = ring
        self._ledger = ledger
        self._state = state
        self._warn = OncePerSecond(LOG)
        self._broken = 0
        self.mismatched = 0  # frames that the active calibration does not fit

    @property
    def state(self) -> EngineState:
        return self._state

    def prepare(self, calibration: Calibration | None) -> None:
        """Do aside what the first frame would wait for; may raise, and nothing has changed then."""
        if calibration is not None:
            self._state.processor.prepare(calibration)

    def use_calibration(self, calibration: Calibration | None) -> None:
        """Every frame taken from now on is corrected with this; frames under way are not."""
        self._state = replace(self._state, calibration=calibration)

    def turn(self) -> None:
        """Wait a moment for a frame and process it; a bad frame is counted, not raised."""
        slot = self._ring.take(TAKE_S)
        if slot is None:
            return
        try:
            self._process(slot, self._state)
        except Exception as error:
            slot.failed = getattr(error, "reason", "engine_error")
            self._warn.warn(slot.failed, f"frame {slot.header.frame} failed: {error!r}")
        self._ring.finish(slot)
        self._broken = self._broken + 1 if slot.failed == "engine_error" else 0
        if self._broken >= BROKEN_MAX:
            raise EngineBroken(f"{BROKEN_MAX} frames in a row failed for no fault of their own")

    def _process(self, slot: Slot, state: EngineState) -> None:
        calibration = state.calibration if state.processor.corrects else None
        if calibration is not None and calibration.shape != slot.header.shape:
            self.mismatched += 1
            expected, got = calibration.shape, slot.header.shape
            text = f"calibration {calibration.id} is for {expected}, frame is {got}: not corrected"
            self._warn.warn("calibration_shape", text)
            calibration = None
        slot.denoised = state.processor(slot.raw, calibration)
        slot.calibration = None if calibration is None else calibration.id
        slot.model, slot.engine = state.processor.model, state.processor.engine
