"""VeRA (Kopiczko et al. 2023, arXiv 2310.11454): one random pair of matrices for all layers, two trained vectors per matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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


class Shared(nn.Module):
    """The frozen pair: A (r, widest d_in), B (widest d_out, r), uniform in +-sqrt(6 / fan_in).

    A part uses A's first d_in columns and B's first rows. They are buffers, not parameters: they are drawn from a seed of their
    own, so no checkpoint holds them.
    """

    def __init__(self, rank: int, d_in: int, d_out: int, seed: int, device: torch.device):
        super().__init__()
        self.A: torch.Tensor
        self.B: torch.Tensor
        generator = torch.Generator().manual_seed(seed)
        for name, (rows, columns) in {"A": (rank, d_in), "B": (d_out, rank)}.items():
            bound = math.sqrt(6 / columns)  # Kaiming's for a ReLU, the source's choice
            values = torch.empty(rows, columns, device="cpu").uniform_(-bound, bound, generator=generator)
            self.register_buffer(name, values.to(device), persistent=False)


class VeraPart(nn.Module):
    """Update of rows [start, start + size): d (r), initially all `initial`, and b (size), initially zero; float32."""

    def __init__(self, start: int, size: int, rank: int, initial: float, device: torch.device):
        super().__init__()
        self.start, self.size = start, size
        self.d = nn.Parameter(torch.full((rank,), initial, device=device))
        self.b = nn.Parameter(torch.zeros(size, device=device))


class VeraLinear(PartUpdate):
    """base(x) + b * B (d * A dropout(x)), b and d multiplying elementwise; x (..., d_in)."""

    def __init__(self, base: nn.Module, parts: dict[str, VeraPart], pair: Shared, dropout: float):
        super().__init__(base, parts, dropout=dropout)
        self.shared = pair
        self.d_in, _ = weights.sizes(base)

    def term(self, part: VeraPart, x: torch.Tensor) -> torch.Tensor:
        a, b = self.shared.A[:, : self.d_in], self.shared.B[: part.size]
        return part.b * F.linear(part.d * F.linear(match_dtype(x, a.dtype), a), b)

    def change(self, part: VeraPart) -> torch.Tensor:
        left, right = self.split(part)
        return (left @ right).float()

    def split(self, part: VeraPart) -> tuple[torch.Tensor, torch.Tensor]:
        """diag(b) B diag(d) and A."""
        left = part.b.double()[:, None] * self.shared.B[: part.size].double() * part.d.double()
        return left, self.shared.A[:, : self.d_in].double()


@final
@dataclass(frozen=True, kw_only=True)
class Vera(AbstractMethod):
    """h = W x + diag(b) B diag(d) A x on every projection of the target kinds; A and B are random, frozen and shared by all.

    b starts at zero, so the output is unchanged at step 0; d starts at `initial`, 0.1 in the source. A and B are drawn from
    `projection_seed`, whatever the run's seed. Count: rank + d_out for each projection.
    """

    name: str = "vera"
    rank: Annotated[int, Range(1)] = 256
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.0
    targets: Sequence[str] = ("query", "value")
    initial: float = 0.1
    projection_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.initial != 0, "VeRA initial must not be 0: neither vector would get a gradient")
        object.__setattr__(self, "targets", check_targets("VeRA", self.targets))

    def insert(self, backbone: Backbone) -> Trainable:
        device = backbone.device
        groups = list(modules(backbone, self.targets))
        places = [place for parts in groups for place in parts.values()]
        widest = max(weights.sizes(place.module)[0] for place in places), max(place.size for place in places)
        pair = Shared(self.rank, *widest, self.projection_seed, device)
        parameters: list[nn.Parameter] = []
        for kinds in groups:
            first = next(iter(kinds.values()))
            parts = {kind: VeraPart(place.start, place.size, self.rank, self.initial, device) for kind, place in kinds.items()}
            wrapper = VeraLinear(first.module, parts, pair, self.dropout)
            first.replace(wrapper)
            parameters += wrapper.parts.parameters()
        return Trainable(method=named(backbone.model, parameters))

    def count(self, shape: Shape) -> int:
        return shape.n_layers * sum(self.rank + outputs for _, outputs in sizes(shape, self.targets))

    def trained(self, values: Mapping[str, torch.Tensor]) -> bool:
        """Whether b is non-zero, as it is after the first step; d never starts at zero."""
        return super().trained({name: value for name, value in values.items() if name.endswith(".b")})
