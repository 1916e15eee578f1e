"""BitFit (Ben-Zaken et al. 2021, arXiv 2106.10199; here Section 5.1): train only the biases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from lora_repro.backbone import weights
from lora_repro.backbone.architecture import KINDS
from lora_repro.methods.base import AbstractMethod, Shape, Trainable, biases, named, require

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone


@final
@dataclass(frozen=True, kw_only=True)
class BitFit(AbstractMethod):
    """Trains every bias vector of the body: of linear layers and of LayerNorms, the final one included.

    If the backbone's blocks have no biases (Llama), each of their matrices gets a zero-initialised one, and
    `note` says so. Either way the output is unchanged at step 0. Count: all existing biases, or L * (sum of
    the matrices' d_out).
    """

    name: str = "bitfit"

    def insert(self, backbone: Backbone) -> Trainable:
        computed = any(is_parametrized(module, "bias") for module in backbone.decoder.modules())
        require(not computed, "a method before bitfit computes the biases that bitfit trains: name bitfit first")
        if not any(biases(layer) for layer in backbone.layers):
            self.add_biases(backbone)
        return Trainable(method=named(backbone.model, biases(backbone.decoder)))

    def add_biases(self, backbone: Backbone) -> None:
        """Add a zero bias of its weight's dtype to every matrix of every block, on the plain matrix that applies it."""
        for layer in range(backbone.n_layers):
            for kind in KINDS:
                for projection in backbone.projections(layer, kind):
                    weight = weights.read(projection.module)  # of a fused matrix the whole, found once for each of its parts
                    weights.bare(projection.module).bias = nn.Parameter(weight.new_zeros(len(weight)))

    def count(self, shape: Shape) -> int:
        if shape.layer_biases:
            return shape.n_layers * shape.layer_biases + shape.other_biases
        n_biases = sum(outputs for kind in KINDS for _, outputs in shape.matrices[kind])
        return shape.n_layers * n_biases + shape.other_biases

    def note(self, shape: Shape) -> str:
        return "" if shape.layer_biases else "zero-initialised biases added: the backbone has none"
