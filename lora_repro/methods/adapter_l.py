"""AdapterL (Lin et al. 2020, arXiv 2004.03829; here Section 5.1): one bottleneck per block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

from torch import nn

from lora_repro.config.validation import Range
from lora_repro.methods._after_mlp import adapt_output
from lora_repro.methods._bottleneck import Bottleneck, bottleneck_size
from lora_repro.methods.base import AbstractMethod, Shape, Trainable, named

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone


@final
@dataclass(frozen=True, kw_only=True)
class AdapterL(AbstractMethod):
    """x + up(act(down(LN(x)))) on the output x of every block: after the MLP and its residual addition.

    As in the source's code, weights start as N(0, std^2), std 0.02, and biases as zero, so the start is not the
    identity; with `zero_up` it is. ReLU is the source's. Count: L (2 d b + b + d + 2 d).
    """

    sized: ClassVar[str] = "bottleneck"
    name: str = "adapter_l"
    bottleneck: Annotated[int, Range(1)] = 6
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    init: Literal["normal", "zero_up"] = "normal"
    std: Annotated[float, Range(0, above=True)] = 0.02

    def insert(self, backbone: Backbone) -> Trainable:
        parameters: list[nn.Parameter] = []
        for layer in backbone.layers:
            adapter = Bottleneck(
                backbone.hidden_size,
                self.bottleneck,
                self.activation,
                self.init,
                self.std,
                norm=True,
                device=backbone.device,
            )
            layer.add_module("adapter", adapter)
            layer.register_forward_hook(adapt_output)
            parameters += adapter.parameters()
        return Trainable(method=named(backbone.model, parameters))

    def count(self, shape: Shape) -> int:
        return shape.n_layers * bottleneck_size(shape.hidden_size, self.bottleneck, norm=True)
