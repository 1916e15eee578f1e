"""One adapter per block, after the LayerNorm that follows the MLP or, without one, after the block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lora_repro.methods._bottleneck import Bottleneck
from lora_repro.methods.base import Trainable, named

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone


def adapt_output(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    """Forward hook: the module's own adapter on the hidden states it returns, alone or first in a tuple."""
    adapter = module.get_submodule("adapter")
    if isinstance(output, torch.Tensor):
        return adapter(output)
    return (adapter(output[0]), *output[1:])


def after_mlp(backbone: Backbone, first: int) -> list[nn.Module]:
    """Of each block from number `first` on: the LayerNorm after the MLP (post-LayerNorm blocks), else the block itself."""
    table = backbone.table
    return [layer.get_submodule(table.layer_norms[-1]) if table.post_norm else layer for layer in backbone.layers[first:]]


def adapt_after_mlp(
    backbone: Backbone, first: int, bottleneck: int, activation: str, init: str, std: float
) -> Trainable:
    """An adapter without a LayerNorm of its own in every block from number `first` on.

    In a post-LayerNorm block it follows the LayerNorm after the MLP. A pre-LayerNorm block has none there, so
    the adapter follows the block itself.
    """
    parameters: list[nn.Parameter] = []
    for last in after_mlp(backbone, first):
        adapter = Bottleneck(backbone.hidden_size, bottleneck, activation, init, std, device=backbone.device)
        last.add_module("adapter", adapter)
        last.register_forward_hook(adapt_output)
        parameters += adapter.parameters()
    return Trainable(method=named(backbone.model, parameters))
