"""PiSSA (Meng et al. 2024, arXiv 2404.02948): LoRA initialised with the top singular directions of W; the rest of W is frozen."""

from __future__ import annotations

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
    from lora_repro.backbone.model import Backbone


class PissaPart(nn.Module):
    """Rows [start, start + size) of W = U S V^T: A = sqrt(S / scaling) V^T (r, d_in), B = U sqrt(S / scaling) (size, r), float32.

    So scaling B A is W's best approximation of rank r. `first_A` and `first_B` keep the initial values.
    """

    def __init__(self, start: int, weight: torch.Tensor, rank: int, scaling: float, device: torch.device):
        super().__init__()
        self.start, self.size = start, len(weight)
        if device.type == "meta":  # planning needs shapes only
            left, right = torch.empty(self.size, rank, device=device), torch.empty(rank, weight.shape[1], device=device)
        else:
            u, s, v = torch.linalg.svd(weight.detach().double(), full_matrices=False)
            root = (s[:rank] / scaling).sqrt()
            left, right = (u[:, :rank] * root).float(), (root[:, None] * v[:rank]).float()
        self.A, self.B = nn.Parameter(right), nn.Parameter(left)
        self.first_A: torch.Tensor
        self.first_B: torch.Tensor
        self.register_buffer("first_A", right.clone(), persistent=False)
        self.register_buffer("first_B", left.clone(), persistent=False)


class PissaLinear(PartUpdate):
    """base(x) + scaling B A dropout(x), where the base's weight has become W - scaling B0 A0; x (..., d_in)."""

    def __init__(self, base: nn.Module, parts: dict[str, PissaPart], scaling: float, dropout: float):
        super().__init__(base, parts, scaling, dropout)
        if weights.read(base).device.type != "meta":
            first_product = self.spread(lambda part: self.scaling * (part.first_B @ part.first_A))
            weights.write(base, weights.read(base).float() - first_product)

    def term(self, part: PissaPart, x: torch.Tensor) -> torch.Tensor:
        low = F.linear(match_dtype(x, part.A.dtype), part.A) * self.scaling  # (..., r)
        return F.linear(low, part.B)

    def change(self, part: PissaPart) -> torch.Tensor:
        return self.scaling * (part.B.float() @ part.A.float() - part.first_B @ part.first_A)

    @torch.no_grad()
    def added(self) -> torch.Tensor:
        """scaling B A, since the base's weight no longer contains scaling B0 A0."""
        return self.spread(lambda part: self.scaling * (part.B.float() @ part.A.float()))

    def split(self, part: PissaPart) -> tuple[torch.Tensor, torch.Tensor]:
        """scaling [B, -B0] and [A; A0], of rank 2 r."""
        left, right = torch.cat([part.B, -part.first_B], 1), torch.cat([part.A, part.first_A])
        return self.scaling * left.double(), right.double()


@final
@dataclass(frozen=True, kw_only=True)
class Pissa(AbstractMethod):
    """h = (W - scaling B0 A0) x + scaling B A x, scaling = alpha / rank, B0 A0 from the top `rank` singular directions of W.

    At step 0 the output is unchanged but for rounding. The source has alpha = rank and no dropout. The frozen weight changes,
    so a quantised backbone is refused. Count: rank * (d_in + d_out) for each projection.
    """

    name: str = "pissa"
    rank: Annotated[int, Range(1)] = 4
    alpha: Annotated[float, Range(0, above=True)] = 4
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.0
    targets: Sequence[str] = ("query", "value")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "targets", check_targets("PiSSA", self.targets))

    def insert(self, backbone: Backbone) -> Trainable:
        parameters: list[nn.Parameter] = []
        scaling, device = self.alpha / self.rank, backbone.device
        for places in modules(backbone, self.targets):
            first = next(iter(places.values()))
            weights.refuse_stored([first.module], "PiSSA")
            parts = {}
            for kind, place in places.items():
                weight = weights.read(place.module)[place.start : place.start + place.size]
                most = min(weight.shape)
                require(self.rank <= most, f"PiSSA rank {self.rank} exceeds the full rank {most} of {kind}; lower method.rank")
                parts[kind] = PissaPart(place.start, weight, self.rank, scaling, device)
            wrapper = PissaLinear(first.module, parts, scaling, self.dropout)
            first.replace(wrapper)
            parameters += wrapper.parts.parameters()
        return Trainable(method=named(backbone.model, parameters))

    def count(self, shape: Shape) -> int:
        return shape.n_layers * self.rank * sum(inputs + outputs for inputs, outputs in sizes(shape, self.targets))
