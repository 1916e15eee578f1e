"""Chosen weight matrices trained in full: what LoRA on these matrices approaches as its rank grows (Section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
import torch.nn.functional as F
from torch import nn

from lora_repro.backbone import weights
from lora_repro.methods._targets import check_targets, modules, sizes
from lora_repro.methods.base import AbstractMethod, Shape, Trainable, match_dtype, named
from lora_repro.methods.update import PartUpdate

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone


class DeltaPart(nn.Module):
    """Update of rows [start, start + size): D (size, d_in), float32, initially zero."""

    def __init__(self, start: int, size: int, d_in: int, device: torch.device):
        super().__init__()
        self.start, self.size = start, size
        self.D = nn.Parameter(torch.zeros(size, d_in, device=device))


class DeltaLinear(PartUpdate):
    """base(x) + D x, D (size, d_in) added into the output columns of its part; x (..., d_in).

    Training D equals training W, since W x + D x has the same gradient for both; kept separate, D can also cover one third of a
    fused matrix. (Weight decay would pull W + D to W and not to zero.)
    """

    def term(self, part: DeltaPart, x: torch.Tensor) -> torch.Tensor:
        return F.linear(match_dtype(x, part.D.dtype), part.D)

    def change(self, part: DeltaPart) -> torch.Tensor:
        return part.D.float()


@final
@dataclass(frozen=True, kw_only=True)
class Matrices(AbstractMethod):
    """Trains every projection of the target kinds in full; biases and all else stay frozen.

    Count: d_in * d_out for each projection; d_out is the width of the part in a fused one.
    """

    name: str = "matrices"
    targets: Sequence[str] = ("query", "value")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "targets", check_targets("matrices'", self.targets))

    def insert(self, backbone: Backbone) -> Trainable:
        parameters: list[nn.Parameter] = []
        for parts in modules(backbone, self.targets):
            first, device = next(iter(parts.values())), backbone.device
            d_in, _ = weights.sizes(first.module)
            wrapper = DeltaLinear(first.module, {kind: DeltaPart(p.start, p.size, d_in, device) for kind, p in parts.items()})
            first.replace(wrapper)
            parameters += wrapper.parts.parameters()
        return Trainable(method=named(backbone.model, parameters))

    def count(self, shape: Shape) -> int:
        return shape.n_layers * sum(inputs * outputs for inputs, outputs in sizes(shape, self.targets))
