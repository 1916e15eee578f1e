"""Tensors that move together along random directions: W + scale P theta, one theta for all of them."""

from __future__ import annotations

import torch
from torch import nn

from lora_repro.methods._fastfood import Fastfood


class Subspace(nn.Module):
    """The trained parameters, shared by all moved tensors: theta, initially 0, and for SAID the scales, initially 1."""

    def __init__(self, d: int, scales: int, device: torch.device):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(d, device=device))
        self.scales = nn.Parameter(torch.ones(scales, device=device)) if scales else None


class Moved(nn.Module):
    """W -> W + scale P theta, a parametrisation of one tensor W. Without gradients the sum is cached until these change.

    slow: a factor on the gradient of theta (`IntrinsicDimension.released`); 1 leaves it as it is.
    """

    def __init__(self, subspace: Subspace, group: int, projection: Fastfood, slow: float):
        super().__init__()
        self.shared, self.group, self.projection, self.slow = subspace, group, projection, slow
        self.kept: tuple[tuple[int, int, torch.device], torch.Tensor] | None = None

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            self.kept = None
            return weight + self.change().view_as(weight)
        scales = self.shared.scales
        state = (self.shared.theta._version, 0 if scales is None else scales._version, weight.device)
        if self.kept is None or self.kept[0] != state:
            self.kept = state, weight + self.change().view_as(weight)
        return self.kept[1]

    def change(self) -> torch.Tensor:
        """scale P theta (values of W), float32 whatever autocast says."""
        theta: torch.Tensor = self.shared.theta
        with torch.autocast("cpu" if theta.is_meta else theta.device.type, enabled=False):  # planning uses meta tensors
            if self.slow != 1:
                theta = theta * self.slow + (theta * (1 - self.slow)).detach()
            update: torch.Tensor = self.projection(theta)
            return update if self.shared.scales is None else update * self.shared.scales[self.group]
