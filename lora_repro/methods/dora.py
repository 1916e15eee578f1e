"""DoRA (Liu et al. 2024, arXiv 2402.09353): trains the length of every weight row, and its direction by a LoRA update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, final

import torch
import torch.nn.functional as F
from torch import nn

from lora_repro.backbone import weights
from lora_repro.config.validation import Range
from lora_repro.methods._targets import check_targets, modules, sizes
from lora_repro.methods.base import (
    AbstractMethod,
    Shape,
    Trainable,
    match_dtype,
    named,
    require,
)
from lora_repro.methods.update import PartUpdate

if TYPE_CHECKING:
    from lora_repro.backbone.architecture import Projection
    from lora_repro.backbone.model import Backbone


class DoraPart(nn.Module):
    """Rows [start, start + size): A (r, d_in) as in LoRA, B (size, r) zero, magnitude (size) the lengths of W's rows; float32."""

    def __init__(self, start: int, weight: torch.Tensor, rank: int, device: torch.device):
        super().__init__()
        self.start, (self.size, d_in) = start, weight.shape
        bound = 1 / math.sqrt(d_in)
        self.A = nn.Parameter(torch.empty(rank, d_in, device=device).uniform_(-bound, bound))
        self.B = nn.Parameter(torch.zeros(self.size, rank, device=device))
        self.magnitude = nn.Parameter(weight.detach().float().norm(dim=1).to(device))


class DoraLinear(PartUpdate):
    """x W'^T + bias with W' = magnitude V / ||V|| by rows, V = W + scaling B A; x (..., d_in).

    The gradient does not pass through ||V|| (the source's Section 4.3). Dropout is on what training adds, as in LoRA: with
    g = magnitude / ||V||, out = base(x) + (g - 1) W dropout(x) + g scaling B A dropout(x).
    """

    adds = False

    def weight(self, part: DoraPart) -> torch.Tensor:
        """W (size, d_in) of a part, even while W' is merged in its place."""
        matrix = weights.read(self.base) if self.original is None else self.original
        return matrix[part.start : part.start + part.size]

    @torch.no_grad()
    def length(self, part: DoraPart) -> torch.Tensor:
        """||V|| by rows (size,)."""
        v = self.weight(part).float() + self.scaling * (part.B.float() @ part.A.float())
        length: torch.Tensor = v.norm(dim=1)
        return length

    def term(self, part: DoraPart, x: torch.Tensor) -> torch.Tensor:
        g = part.magnitude / self.length(part)  # (size,), 1 at the start
        weight = self.weight(part)
        low = F.linear(match_dtype(x, part.A.dtype), part.A) * self.scaling  # (..., r)
        return (g - 1) * F.linear(match_dtype(x, weight.dtype), weight) + g * F.linear(low, part.B)

    def change(self, part: DoraPart) -> torch.Tensor:
        g = (part.magnitude / self.length(part))[:, None]
        return (g - 1) * self.weight(part).float() + g * self.scaling * (part.B.float() @ part.A.float())


@final
@dataclass(frozen=True, kw_only=True)
class Dora(AbstractMethod):
    """h = magnitude (W + alpha / rank B A) / ||W + alpha / rank B A|| x, row by row, on every projection of the target kinds.

    The source, which writes y = x W, normalises the columns of W: these are the rows of an nn.Linear's weight. At step 0 the
    output is unchanged. Count: rank * (d_in + d_out) + d_out for each projection.
    """

    name: str = "dora"
    rank: Annotated[int, Range(1)] = 4
    alpha: Annotated[float, Range(0, above=True)] = 32
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.1
    targets: Sequence[str] = ("query", "value")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "targets", check_targets("DoRA", self.targets))

    def insert(self, backbone: Backbone) -> Trainable:
        parameters: list[nn.Parameter] = []
        for places in modules(backbone, self.targets):
            first = next(iter(places.values()))
            parts = {kind: self.part(place, backbone.device) for kind, place in places.items()}
            wrapper = DoraLinear(first.module, parts, self.alpha / self.rank, self.dropout)
            first.replace(wrapper)
            parameters += wrapper.parts.parameters()
        return Trainable(method=named(backbone.model, parameters))

    def part(self, place: Projection, device: torch.device) -> DoraPart:
        """The part for one projection."""
        weight = weights.read(place.module)[place.start : place.start + place.size]
        most = min(weight.shape)
        require(self.rank <= most, f"DoRA rank {self.rank} exceeds the full rank {most}; lower method.rank")
        return DoraPart(place.start, weight, self.rank, device)

    def count(self, shape: Shape) -> int:
        per_layer = sum(self.rank * (inputs + outputs) + outputs for inputs, outputs in sizes(shape, self.targets))
        return shape.n_layers * per_layer
