"""LoRA (Hu et al. 2021, arXiv 2106.09685, Section 4.1): a low-rank update beside frozen projections."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
import torch.nn.functional as F
from torch import nn

from lora_repro.backbone import weights
from lora_repro.methods.base import (
    KINDS,
    AbstractMethod,
    Shape,
    Trainable,
    matched,
    named,
    require,
    require_choice,
    require_whole,
)
from lora_repro.methods.update import Update

if TYPE_CHECKING:
    from lora_repro.backbone.architecture import Projection
    from lora_repro.backbone.model import Backbone

INITS = ("kaiming", "gaussian")


class LoraPart(nn.Module):
    """Update of output columns [start, start + size): A (r, d_in), B (size, r), float32, B zero at first."""

    def __init__(
        self, start: int, size: int, d_in: int, rank: int, init: str, std: float, device: torch.device
    ):
        super().__init__()
        self.start, self.size = start, size
        self.A = nn.Parameter(torch.empty(rank, d_in, device=device))
        self.B = nn.Parameter(torch.zeros(size, rank, device=device))
        with torch.no_grad():
            if init == "kaiming":  # what the released code's kaiming_uniform_(a=sqrt(5)) comes to
                self.A.uniform_(-1 / math.sqrt(d_in), 1 / math.sqrt(d_in))
            else:
                self.A.normal_(0.0, std)


class LoraLinear(Update):
    """base(x) + scaling * B A dropout(x), added per part into that part's output columns; x (..., d_in).

    `base` is any matrix of the backbone, fused or not. The parts share one dropout draw, as the released code's fused
    layer does. While merged, A and B take no part.
    """

    def __init__(self, base: nn.Module, parts: dict[str, LoraPart], scaling: float, dropout: float = 0.0):
        super().__init__(base, scaling)
        self.parts = nn.ModuleDict(parts)
        self.dropout = nn.Dropout(dropout)

    def updates(self) -> list[LoraPart]:
        """The parts in the order of their columns."""
        parts = [part for part in self.parts.values() if isinstance(part, LoraPart)]
        return sorted(parts, key=lambda part: part.start)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.base(x)  # (..., out)
        if self.merged:
            return out
        x = self.dropout(x)
        pieces, end = [], 0
        for part in self.updates():
            if part.start > end:  # columns without an update, such as the keys between query and value
                pieces.append(out.new_zeros(()).expand(*out.shape[:-1], part.start - end))
            low = F.linear(matched(x, part.A.dtype), part.A) * self.scaling  # (..., r): scaled while narrow
            pieces.append(F.linear(low, part.B).to(out.dtype))  # (..., size)
            end = part.start + part.size
        if end < out.shape[-1]:
            pieces.append(out.new_zeros(()).expand(*out.shape[:-1], out.shape[-1] - end))
        return out + (pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1))

    @torch.no_grad()
    def delta(self) -> torch.Tensor:
        """scaling * B A of all parts; merging adds just this."""
        d_in, out = weights.sizes(self.base)
        delta = torch.zeros(out, d_in, device=self.updates()[0].A.device)
        for part in self.updates():
            delta[part.start : part.start + part.size] = self.scaling * (part.B.float() @ part.A.float())
        return delta

    def factors(self, rows: slice) -> tuple[torch.Tensor, torch.Tensor] | None:
        """(scaling * B, A) of the part in these rows."""
        for part in self.updates():
            if (part.start, part.start + part.size) == (rows.start, rows.stop):
                return self.scaling * part.B.detach().double(), part.A.detach().double()
        return None


@final
@dataclass(frozen=True, kw_only=True)
class Lora(AbstractMethod):
    """h = W x + (alpha / rank) B A x on every projection of the target kinds, each with its own A and B.

    Inside a fused projection (GPT-2's c_attn) query, key and value keep an A each, as in the paper. A starts
    uniform in +-1/sqrt(d_in) (`kaiming`, the released code) or N(0, std^2) (`gaussian`, the paper, which
    prints no std); B starts at zero, so the output is unchanged at step 0. Count: rank * (d_in + d_out) each,
    d_out being the width of the part alone.
    """

    name: str = "lora"
    rank: int = 4
    alpha: float = 32
    dropout: float = 0.1
    targets: Sequence[str] = ("query", "value")
    init: str = "kaiming"
    std: float = 0.02

    def __post_init__(self) -> None:
        require_whole("LoRA rank", self.rank, 1)
        require(self.alpha > 0, f"LoRA alpha must be > 0, not {self.alpha}")
        require(0 <= self.dropout < 1, f"LoRA dropout must be in [0, 1), not {self.dropout}")
        require_choice("LoRA init", self.init, INITS)
        require(self.std > 0, f"LoRA std must be > 0, not {self.std}")
        listed = not isinstance(self.targets, str) and len(self.targets) > 0
        require(listed, f"LoRA targets must be a list of {', '.join(KINDS)}")
        object.__setattr__(self, "targets", tuple(self.targets))
        for kind in self.targets:
            require_choice("LoRA target", kind, KINDS)
        require(len(set(self.targets)) == len(self.targets), f"LoRA targets repeat: {self.targets}")

    def insert(self, backbone: Backbone) -> Trainable:
        parameters: list[nn.Parameter] = []
        for layer in range(backbone.n_layers):
            # One wrapper per module, with all the parts of a fused one.
            modules: dict[tuple[int, str], dict[str, Projection]] = {}
            for kind in self.targets:
                for found in backbone.projections(layer, kind):
                    modules.setdefault((id(found.parent), found.attribute), {})[kind] = found
            for parts in modules.values():
                wrapper = self.wrap(parts, backbone.embedding.weight.device)
                next(iter(parts.values())).replace(wrapper)
                parameters += wrapper.parts.parameters()
        return Trainable(method=named(backbone.model, parameters))

    def wrap(self, projections: dict[str, Projection], device: torch.device) -> LoraLinear:
        """One LoraLinear over the module that all the given projections share."""
        module = next(iter(projections.values())).module
        d_in, _ = weights.sizes(module)
        parts = {}
        for kind, found in projections.items():
            most = min(d_in, found.size)
            fits = self.rank <= most
            require(fits, f"LoRA rank {self.rank} exceeds the full rank {most} of {kind}; lower method.rank")
            start, size = found.start, found.size
            parts[kind] = LoraPart(start, size, d_in, self.rank, self.init, self.std, device)
        return LoraLinear(module, parts, self.alpha / self.rank, self.dropout)

    def count(self, shape: Shape) -> int:
        per_layer = sum(inputs + outputs for kind in self.targets for inputs, outputs in shape.matrices[kind])
        return shape.n_layers * self.rank * per_layer

    def trained(self, values: Mapping[str, torch.Tensor]) -> bool:
        """B leaves zero with the first step; A never is."""
        return super().trained({name: value for name, value in values.items() if name.endswith(".B")})
