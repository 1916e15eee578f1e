"""LoRA (Hu et al. 2021, arXiv 2106.09685, Section 4.1): a low-rank update beside frozen projections."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, final

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


class LoraPart(nn.Module):
    """Update of output columns [start, start + size): A (r, d_in), B (size, r), float32; B starts at zero."""

    def __init__(
        self, start: int, size: int, d_in: int, rank: int, init: str, std: float, device: torch.device
    ):
        super().__init__()
        self.start, self.size = start, size
        self.A = nn.Parameter(torch.empty(rank, d_in, device=device))
        self.B = nn.Parameter(torch.zeros(size, rank, device=device))
        with torch.no_grad():
            if init == "kaiming":  # equals the released code's kaiming_uniform_(a=sqrt(5))
                self.A.uniform_(-1 / math.sqrt(d_in), 1 / math.sqrt(d_in))
            else:
                self.A.normal_(0.0, std)


class LoraLinear(PartUpdate):
    """base(x) + scaling * B A dropout(x), added per part into that part's output columns; x (..., d_in).

    `base` is any matrix of the backbone, fused or not. All parts share one dropout draw, as in the released code's fused layer.
    """

    def term(self, part: LoraPart, x: torch.Tensor) -> torch.Tensor:
        low = F.linear(match_dtype(x, part.A.dtype), part.A) * self.scaling  # (..., r): scaled here, where it is small
        return F.linear(low, part.B)

    def change(self, part: LoraPart) -> torch.Tensor:
        return self.scaling * (part.B.float() @ part.A.float())

    def split(self, part: LoraPart) -> tuple[torch.Tensor, torch.Tensor]:
        return self.scaling * part.B.double(), part.A.double()


@final
@dataclass(frozen=True, kw_only=True)
class Lora(AbstractMethod):
    """h = W x + scaling B A x on every projection of the target kinds, each with its own A and B.

    Inside a fused projection (GPT-2's c_attn) query, key and value have an A each, as in the paper. A starts
    uniform in +-1/sqrt(d_in) (`kaiming`, the released code) or as N(0, std^2) (`gaussian`, the paper, which
    prints no std); B starts at zero, so the output is unchanged at step 0. Count: rank * (d_in + d_out) for
    each projection; d_out is the width of the part in a fused one.

    `scaling` is alpha / `rank`, or alpha / `sqrt_rank` (rsLoRA, Kalajdzievski 2023, arXiv 2312.03732, Theorem 3.2).
    `lr_ratio` is B's learning rate over A's (LoRA+, Hayou et al. 2024, arXiv 2402.12354; A keeps train.lr).
    """

    name: str = "lora"
    rank: Annotated[int, Range(1)] = 4
    alpha: Annotated[float, Range(0, above=True)] = 32
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.1
    targets: Sequence[str] = ("query", "value")
    init: Literal["kaiming", "gaussian"] = "kaiming"
    std: Annotated[float, Range(0, above=True)] = 0.02
    scaling: Literal["rank", "sqrt_rank"] = "rank"
    lr_ratio: Annotated[float, Range(0, above=True)] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "targets", check_targets("LoRA", self.targets))

    @property
    def factor(self) -> float:
        """What B A is multiplied by."""
        return self.alpha / (self.rank if self.scaling == "rank" else math.sqrt(self.rank))

    def insert(self, backbone: Backbone) -> Trainable:
        parameters: list[nn.Parameter] = []
        for parts in modules(backbone, self.targets):
            wrapper = self.wrap(parts, backbone.device)
            next(iter(parts.values())).replace(wrapper)
            parameters += wrapper.parts.parameters()
        factors = named(backbone.model, parameters)
        rates = {name: self.lr_ratio for name in factors if name.endswith(".B")} if self.lr_ratio != 1 else {}
        return Trainable(method=factors, rates=rates)

    def wrap(self, projections: dict[str, Projection], device: torch.device) -> LoraLinear:
        """One LoraLinear over the module that all the given projections share."""
        module = next(iter(projections.values())).module
        d_in, _ = weights.sizes(module)
        parts = {}
        for kind, projection in projections.items():
            most = min(d_in, projection.size)
            fits = self.rank <= most
            require(fits, f"LoRA rank {self.rank} exceeds the full rank {most} of {kind}; lower method.rank")
            start, size = projection.start, projection.size
            parts[kind] = LoraPart(start, size, d_in, self.rank, self.init, self.std, device)
        return LoraLinear(module, parts, self.factor, self.dropout)

    def count(self, shape: Shape) -> int:
        return shape.n_layers * self.rank * sum(inputs + outputs for inputs, outputs in sizes(shape, self.targets))

    def trained(self, values: Mapping[str, torch.Tensor]) -> bool:
        """Whether B is non-zero, as it is after the first step; A never starts at zero."""
        return super().trained({name: value for name, value in values.items() if name.endswith(".B")})
