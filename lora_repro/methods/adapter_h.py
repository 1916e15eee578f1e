"""AdapterH (Houlsby et al. 2019, arXiv 1902.00751; here Section 5.1): two bottlenecks in every block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

import torch
from torch import nn

from lora_repro.config.validation import Range
from lora_repro.methods._bottleneck import Bottleneck, bottleneck_size
from lora_repro.methods.base import AbstractMethod, Shape, Trainable, named

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone


class AdaptedOutput(nn.Module):
    """adapter(base(x)): the bottleneck on what the next residual addition would have taken."""

    adds = False

    def __init__(self, base: nn.Module, adapter: Bottleneck):
        super().__init__()
        self.base = base
        self.adapter = adapter

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.adapter(self.base(x))
        return out


@final
@dataclass(frozen=True, kw_only=True)
class AdapterH(AbstractMethod):
    """h + up(act(down(h))), h the output of the attention or of the MLP after its dropout, before each residual addition.

    `init`: `normal` starts near the identity as the source does, N(0, std^2) cut off at two std, std 0.01, biases zero;
    `gaussian` is the same without the cut (the LoRA authors' own runs: std 0.02, silu); `zero_up` starts exactly at the
    identity. No LayerNorm is trained: with L_LN = 0 the paper's formula gives its printed counts. The source says only
    "nonlinearity"; its released code uses GELU. There, as in the LoRA authors' code, the block's dropout comes first.
    Count: 2 L (2 d b + b + d).
    """

    sized: ClassVar[str] = "bottleneck"
    name: str = "adapter_h"
    bottleneck: Annotated[int, Range(1)] = 112
    activation: Literal["relu", "gelu", "silu", "tanh"] = "gelu"
    init: Literal["normal", "zero_up", "gaussian"] = "normal"
    std: Annotated[float, Range(0, above=True)] = 0.01

    def insert(self, backbone: Backbone) -> Trainable:
        parameters: list[nn.Parameter] = []
        for layer in backbone.layers:
            for path in backbone.table.residuals:
                adapter = Bottleneck(
                    backbone.hidden_size,
                    self.bottleneck,
                    self.activation,
                    self.init,
                    self.std,
                    truncate=self.init != "gaussian",
                    device=backbone.device,
                )
                layer.set_submodule(path, AdaptedOutput(layer.get_submodule(path), adapter))
                parameters += adapter.parameters()
        return Trainable(method=named(backbone.model, parameters))

    def count(self, shape: Shape) -> int:
        return 2 * shape.n_layers * bottleneck_size(shape.hidden_size, self.bottleneck)
