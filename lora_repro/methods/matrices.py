"""Single weight matrices trained in full: what LoRA on the same matrices approaches as its rank grows (Section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
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
)
from lora_repro.methods.update import Update

if TYPE_CHECKING:
    from lora_repro.backbone.architecture import Projection
    from lora_repro.backbone.model import Backbone


class DeltaLinear(Update):
    """base(x) + D x, D (d_out, d_in) added into the output columns of its part; x (..., d_in). D starts at zero.

    Training D is training W itself, since the gradients of W x + D x are the same for both; held apart, it also reaches
    one third of a fused matrix. (Weight decay would pull W + D to W and not to zero.)
    """

    def __init__(self, base: nn.Module, parts: dict[str, Projection], device: torch.device):
        super().__init__(base)
        d_in, _ = weights.sizes(base)
        self.starts = {kind: found.start for kind, found in parts.items()}
        self.parts = nn.ParameterDict(
            {kind: nn.Parameter(torch.zeros(found.size, d_in, device=device)) for kind, found in parts.items()}
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.base(x)  # (..., d_out of the whole module)
        if self.merged:
            return out
        for kind, delta in self.parts.items():
            start, size = self.starts[kind], delta.shape[0]
            added = F.linear(matched(x, delta.dtype), delta).to(out.dtype)  # (..., size)
            out = out + F.pad(added, (start, out.shape[-1] - start - size))
        return out

    @torch.no_grad()
    def delta(self) -> torch.Tensor:
        """D in its rows."""
        d_in, out = weights.sizes(self.base)
        delta = torch.zeros(out, d_in, device=next(iter(self.parts.values())).device)
        for kind, part in self.parts.items():
            delta[self.starts[kind] : self.starts[kind] + len(part)] = part.float()
        return delta


@final
@dataclass(frozen=True, kw_only=True)
class Matrices(AbstractMethod):
    """Every projection of the target kinds is trained whole, biases and all else stay frozen.

    Count: d_in * d_out each, d_out being the width of the part alone.
    """

    name: str = "matrices"
    targets: Sequence[str] = ("query", "value")

    def __post_init__(self) -> None:
        listed = not isinstance(self.targets, str) and len(self.targets) > 0
        require(listed, f"matrices' targets must be a list of {', '.join(KINDS)}")
        object.__setattr__(self, "targets", tuple(self.targets))
        for kind in self.targets:
            require_choice("target", kind, KINDS)
        require(len(set(self.targets)) == len(self.targets), f"targets repeat: {self.targets}")

    def insert(self, backbone: Backbone) -> Trainable:
        parameters: list[nn.Parameter] = []
        for layer in range(backbone.n_layers):
            modules: dict[tuple[int, str], dict[str, Projection]] = {}
            for kind in self.targets:
                for number, found in enumerate(backbone.projections(layer, kind)):
                    # An MLP has several matrices of one kind, each its own module.
                    modules.setdefault((id(found.parent), found.attribute), {})[f"{kind}{number or ''}"] = found
            for parts in modules.values():
                first = next(iter(parts.values()))
                wrapper = DeltaLinear(first.module, parts, backbone.embedding.weight.device)
                first.replace(wrapper)
                parameters += wrapper.parts.parameters()
        return Trainable(method=named(backbone.model, parameters))

    def count(self, shape: Shape) -> int:
        return shape.n_layers * sum(d * n for kind in self.targets for d, n in shape.matrices[kind])
