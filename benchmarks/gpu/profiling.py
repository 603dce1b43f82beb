"""Kernels as the profiler sees them: how many a call takes, how long the device stands idle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from scgn.deploy import Graph

Interval = tuple[float, float]  # us
ANNOTATIONS = ("ProfilerStep", "Activity Buffer", "Buffer Flush", "## ")


def on_device(work: Callable[[], object], device: torch.device) -> list[Interval]:
    """When kernels and copies ran during `work`, us; empty on a CPU."""
    import torch

    if device.type != "cuda":
        work()
        return []
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        work()
        torch.cuda.synchronize()
    return [
        (event.time_range.start, event.time_range.end)
        for event in profile.events() or ()
        if str(event.device_type) == "DeviceType.CUDA"
        and not str(event.name).startswith(ANNOTATIONS)
    ]


def idle_share(intervals: Iterable[Interval]) -> float | None:
    """Share of the time between first and last in which nothing ran; None without intervals."""
    ordered = sorted(intervals)
    if not ordered:
        return None
    begun, busy, reached = ordered[0][0], 0.0, ordered[0][0]
    for start, end in ordered:
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return round(1 - busy / (reached - begun), 4) if reached > begun else 0.0


def floating_operations(graph: Graph) -> int:
    """Of one call, two for a multiplication with its sum; counted without a device."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        run_without_device(graph)
    return int(counter.get_total_flops())


def bytes_through_memory(graph: Graph) -> int:
    """What all operations of one call read and write, each by itself: eager's traffic at least."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
        total = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            if not any(value.alias_info for value in func._schema.returns):  # a view moves nothing
                leaves: Sequence[Any] = tree_leaves((args, kwargs, result))
                held = (leaf for leaf in leaves if isinstance(leaf, torch.Tensor))
                self.total += sum(tensor.numel() * tensor.element_size() for tensor in held)
            return result

    traffic = Traffic()  # type: ignore[no-untyped-call]
    with traffic:
        run_without_device(graph)
    return int(traffic.total)


def run_without_device(graph: Graph) -> None:
    """One call on tensors that have shapes and no memory."""
    import copy

    import torch

    from scgn.deploy.export import sample

    moved = copy.deepcopy(graph).to("meta")
    with torch.no_grad():
        moved(*(value.to("meta") for value in sample(graph)))
