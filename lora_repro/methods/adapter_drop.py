"""AdapterDrop (Rueckle et al. 2021, arXiv 2010.11918; here Section 5.1): no adapters in the first blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

from lora_repro.config.validation import Range
from lora_repro.methods._after_mlp import adapt_after_mlp
from lora_repro.methods._bottleneck import bottleneck_size
from lora_repro.methods.base import AbstractMethod, Shape, Trainable, require

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone


@final
@dataclass(frozen=True, kw_only=True)
class AdapterDrop(AbstractMethod):
    """AdapterP's adapter in every block but the first `dropped`: the source's specialised form.

    The same blocks have no adapter in training and in use; the source's robust form, which draws their number
    anew for every batch, is not implemented. Placement, initialisation and nonlinearity are AdapterP's; with
    `dropped` 0 the two methods are the same. Defaults: a sixteenth of RoBERTa base's width, five blocks
    dropped. Count: (L - dropped) (2 d b + b + d).
    """

    sized: ClassVar[str] = "bottleneck"
    name: str = "adapter_drop"
    bottleneck: Annotated[int, Range(1)] = 48
    dropped: int = 5
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    init: Literal["normal", "zero_up"] = "normal"
    std: Annotated[float, Range(0, above=True)] = 0.02

    def kept(self, n_layers: int) -> int:
        """Number of blocks with an adapter; UserError if none is left."""
        require(
            self.dropped < n_layers, f"method.dropped={self.dropped} must be below the backbone's {n_layers} blocks"
        )
        return n_layers - self.dropped

    def insert(self, backbone: Backbone) -> Trainable:
        first = backbone.n_layers - self.kept(backbone.n_layers)
        return adapt_after_mlp(backbone, first, self.bottleneck, self.activation, self.init, self.std)

    def count(self, shape: Shape) -> int:
        return self.kept(shape.n_layers) * bottleneck_size(shape.hidden_size, self.bottleneck)
