"""Which backend runs: the one asked for, or the first of the device's list that runs here."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from scgn.backends.backend import Backend, BackendError, why_not
from scgn.backends.onnx_runtime import OnnxRuntime
from scgn.backends.openvino import OpenVino
from scgn.backends.tensorrt import TensorRt, TensorRtRtx
from scgn.backends.torched import Eager, Inductor

BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (TensorRt(), TensorRtRtx(), Inductor(), OpenVino(), OnnxRuntime(), Eager())
}
# Fastest first. Of a CPU as measured; torch.compile takes minutes a shape there, so only on demand.
PREFERRED = {
    "cuda": ("tensorrt", "rtx", "inductor", "eager"),
    "cpu": ("openvino", "onnxruntime", "eager"),
}


@dataclass(frozen=True)
class Choice:
    """A backend, and in words why it and not another."""

    backend: Backend
    why: str


def backend_named(name: str) -> Backend:
    """The backend of that name; BackendError lists the known ones."""
    if name not in BACKENDS:
        raise BackendError(f"unknown backend {name!r}, expected one of {', '.join(BACKENDS)}")
    return BACKENDS[name]


def choose(wanted: str, device: torch.device) -> Choice:
    """The backend `wanted` on a device, or for `auto` the best; BackendError when it cannot run."""
    if wanted != "auto":
        backend = backend_named(wanted)
        if reason := why_not(backend, device):
            raise BackendError(f"backend {wanted}: {reason.removeprefix(f'backend {wanted}: ')}")
        return Choice(backend, "as set")
    passed: list[str] = []
    for name in PREFERRED.get(device.type, ()):
        reason = why_not(BACKENDS[name], device)
        if reason is None:
            why = f"fastest on {device.type} of what runs here"
            return Choice(BACKENDS[name], "; ".join([why, *passed]))
        passed.append(reason)
    known = " or ".join(PREFERRED)
    reasons = "; ".join(passed) or f"expected {known}"
    raise BackendError(f"no backend for {device.type}: {reasons}")
