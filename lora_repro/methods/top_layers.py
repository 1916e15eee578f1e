"""FT-Top2 (Li & Liang 2021, arXiv 2101.00190; here Section 5.1): fine-tune only the last two blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, final

from lora_repro.backbone import weights
from lora_repro.config.validation import Range
from lora_repro.methods.base import AbstractMethod, Shape, Trainable, named, require

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone


@final
@dataclass(frozen=True, kw_only=True)
class TopLayers(AbstractMethod):
    """Trains the last `n` blocks in full; final LayerNorm, prediction layer and embeddings stay frozen.

    Count: n (12 d^2 + 13 d) on GPT-2; the medium model's 25,192,448 are the 25.19M printed in Table 3.
    """

    name: str = "top_layers"
    n: Annotated[int, Range(1)] = 2

    def insert(self, backbone: Backbone) -> Trainable:
        require(
            self.n <= backbone.n_layers, f"method.n={self.n} exceeds the backbone's {backbone.n_layers} layers"
        )
        weights.refuse_stored(backbone.layers[-self.n :], "top-layer fine-tuning")
        parameters = [parameter for layer in backbone.layers[-self.n :] for parameter in layer.parameters()]
        return Trainable(method=named(backbone.model, parameters))

    def count(self, shape: Shape) -> int:
        return self.n * shape.layer_parameters
