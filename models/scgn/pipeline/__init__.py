"""Frames through a device with several in flight: slots, streams, events, and their tickets."""

from scgn.pipeline.device import CpuDevice, CudaDevice, Device, DeviceLost, device_named
from scgn.pipeline.lane import Lane, Pipeline, Ticket
from scgn.pipeline.results import Frames, Results, Stream
from scgn.pipeline.stream_denoiser import StreamDenoiser

__all__ = [
    "CpuDevice", "CudaDevice", "Device", "DeviceLost", "Frames", "Lane", "Pipeline", "Results",
    "Stream", "StreamDenoiser", "Ticket", "device_named",
]  # fmt: skip
