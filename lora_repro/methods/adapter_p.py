"""AdapterP (Pfeiffer et al. 2021, arXiv 2005.00247; here Section 5.1): one bottleneck after MLP and LayerNorm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

import torch

from lora_repro.config.validation import Range
from lora_repro.methods._after_mlp import adapt_after_mlp
from lora_repro.methods._bottleneck import biases_moved, bottleneck_size
from lora_repro.methods.base import AbstractMethod, Shape, Trainable, require

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone


@final
@dataclass(frozen=True, kw_only=True)
class AdapterP(AbstractMethod):
    """h + up(act(down(h))), h the output of the LayerNorm after the MLP's residual addition; one in every block.

    That is a post-LayerNorm block (BERT, RoBERTa, DeBERTa). In a pre-LayerNorm decoder (GPT-2, Llama) no
    LayerNorm follows the MLP, so h is the block's output and nothing normalises it: AdapterL without its
    LayerNorm. This is the method as Section 5.1 words it; the source's code adds the bottleneck's output
    before that LayerNorm instead, which it runs a second time. No LayerNorm is trained.

    Weights start as N(0, std^2), std 0.02, and biases as zero; the nonlinearity is ReLU: all as in the source's
    code. `zero_up` starts at the identity. Count: L (2 d b + b + d).

    `frozen`: the adapters are copied from the run that this one starts from, and only the head is trained. Count: 0.
    """

    sized: ClassVar[str] = "bottleneck"
    name: str = "adapter_p"
    bottleneck: Annotated[int, Range(1)] = 64
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    init: Literal["normal", "zero_up"] = "normal"
    std: Annotated[float, Range(0, above=True)] = 0.02
    frozen: bool = False

    def insert(self, backbone: Backbone) -> Trainable:
        trainable = adapt_after_mlp(backbone, 0, self.bottleneck, self.activation, self.init, self.std)
        return Trainable(kept=trainable.method) if self.frozen else trainable

    def check_starts(self, n: int, tasks: Sequence[str] = ()) -> None:
        require(n == 1 or not self.frozen, f"method.frozen=true needs one run to start from, not {n}: starts=[{{task: mixture}}]")
        super().check_starts(n)

    def trained(self, values: Mapping[str, torch.Tensor]) -> bool:
        return biases_moved(values)

    def count(self, shape: Shape) -> int:
        if self.frozen:
            return 0
        return shape.n_layers * bottleneck_size(shape.hidden_size, self.bottleneck)
