"""Distillation: part of what a student should give is what its teacher gives (Hinton et al., 2015).

Of frames so noisy that most of their truth cannot be known, a teacher's estimate is the target with
less chance in it: it asks the student for what can be found in the frame.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from scgn.checkpoint import load_network
from scgn.train.pairs import Pairs
from scgn.train.plan import TrainingError, TrainingPlan


class Teacher:
    """Blends a teacher's result into what is wanted, in the plan's precision.

    TrainingError for a share outside 0..1 or a teacher of another target or other units.
    """

    def __init__(self, plan: TrainingPlan, device: torch.device, compiled: bool = False) -> None:
        if not 0 <= plan.teacher_share <= 1:
            raise TrainingError(f"teacher_share: expected 0..1, got {plan.teacher_share}")
        checkpoint = load_network(str(plan.teacher))
        got = (checkpoint.provenance.target, checkpoint.provenance.input_units)
        if got != (plan.target, plan.input_units):
            expected = (plan.target, plan.input_units)
            raise TrainingError(f"teacher {plan.teacher}: expected {expected}, got {got}")
        expected_inputs, inputs = plan.design.inputs, checkpoint.network.design.inputs
        if inputs != expected_inputs:
            channels = f"expected one that sees {expected_inputs} channels, got {inputs}"
            raise TrainingError(f"teacher {plan.teacher}: {channels}")
        self.id = checkpoint.id
        network = checkpoint.network.to(device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network = torch.compile(network) if compiled else network
        self._half = plan.precision == "bfloat16"
        self._share, self._device = plan.teacher_share, device

    @torch.no_grad()
    def __call__(self, data: Pairs) -> Pairs:
        """The same frames with the teacher's share in what is wanted."""
        moved = data.to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            taught = self._network(moved.given).float()
        return replace(moved, wanted=torch.lerp(moved.wanted, taught, self._share))
