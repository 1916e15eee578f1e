"""LoRA (Hu et al. 2021, arXiv 2106.09685, Section 4.1): a low-rank update beside frozen projections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from torch import nn

from lora_repro.errors import UserError
from lora_repro.methods._lora_linear import LoraLinear, LoraPart
from lora_repro.methods.base import (
    KINDS,
    AbstractMethod,
    Shape,
    Trainable,
    named,
    require,
    require_choice,
    require_whole,
    weight_of,
)

if TYPE_CHECKING:
    from lora_repro.backbone import Backbone
    from lora_repro.backbone.architecture import Projection

INITS = ("kaiming", "gaussian")


def merge(model: nn.Module) -> None:
    """Merge every LoRA update of the model into its base weight; all of them or, with a UserError, none."""
    try:
        for module in model.modules():
            if isinstance(module, LoraLinear):
                module.merge()
    except UserError:
        unmerge(model)
        raise


def unmerge(model: nn.Module) -> None:
    """Undo `merge` exactly."""
    for module in model.modules():
        if isinstance(module, LoraLinear):
            module.unmerge()


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
                wrapper = self.wrap(parts)
                next(iter(parts.values())).replace(wrapper)
                parameters += wrapper.parts.parameters()
        return Trainable(method=named(backbone.model, parameters))

    def wrap(self, projections: dict[str, Projection]) -> LoraLinear:
        """One LoraLinear over the module that all the given projections share."""
        module = next(iter(projections.values())).module
        weight = weight_of(module)
        d_in = weight.shape[1]
        parts = {}
        for kind, found in projections.items():
            most = min(d_in, found.size)
            fits = self.rank <= most
            require(fits, f"LoRA rank {self.rank} exceeds the full rank {most} of {kind}; lower method.rank")
            start, size = found.start, found.size
            parts[kind] = LoraPart(start, size, d_in, self.rank, self.init, self.std, weight.device)
        return LoraLinear(module, parts, self.alpha / self.rank, self.dropout)

    def count(self, shape: Shape) -> int:
        per_layer = sum(inputs + outputs for kind in self.targets for inputs, outputs in shape.matrices[kind])
        return shape.n_layers * self.rank * per_layer
