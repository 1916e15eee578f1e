"""The bottleneck of every adapter method: down-projection, nonlinearity, up-projection, skip connection."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from lora_repro.methods.base import match_dtype

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class Bottleneck(nn.Module):
    """h + up(act(down(h'))), h' = LayerNorm(h) if `norm` else h; down d -> b, up b -> d, both with biases.

    `normal`: weights N(0, std^2), cut off at two std if `truncate`, biases zero. `zero_up`: the same, but the
    up-projection starts at zero, so that the output is exactly h. Values: 2 d b + b + d, and 2 d with the
    LayerNorm.
    """

    def __init__(
        self,
        width: int,
        bottleneck: int,
        activation: str,
        init: str,
        std: float,
        norm: bool = False,
        truncate: bool = False,
        device: torch.device | None = None,
    ):
        super().__init__()
        self.norm = nn.LayerNorm(width, device=device) if norm else nn.Identity()
        self.down = nn.Linear(width, bottleneck, device=device)
        self.act = ACTIVATIONS[activation]()
        self.up = nn.Linear(bottleneck, width, device=device)
        for linear in (self.down, self.up):
            if truncate:
                nn.init.trunc_normal_(linear.weight, 0.0, std, -2 * std, 2 * std)
            else:
                nn.init.normal_(linear.weight, 0.0, std)
            nn.init.zeros_(linear.bias)
        if init == "zero_up":
            nn.init.zeros_(self.up.weight)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        update: torch.Tensor = self.up(self.act(self.down(self.norm(match_dtype(h, self.up.bias.dtype)))))
        return h + update.to(h.dtype)


def bottleneck_size(width: int, bottleneck: int, norm: bool = False) -> int:
    """2 d b + b + d, and 2 d more with a LayerNorm (paper, Section 5.1)."""
    return 2 * width * bottleneck + bottleneck + width + (2 * width if norm else 0)


def biases_moved(values: Mapping[str, torch.Tensor]) -> bool:
    """Whether these adapter values can be trained ones: biases start at zero and are non-zero after the first step."""
    return any(bool(value.detach().any()) for name, value in values.items() if name.endswith((".up.bias", ".down.bias")))
