"""Prefixes and prompts in peft's format: virtual tokens before the sequence, as one tensor.

    PREFIX_TUNING   prompt_embeddings (n, 2 L kv)   row i: layer 0's key, layer 0's value, layer 1's key, ... of position i
    PROMPT_TUNING   prompt_embeddings (n, d)        row i: the word embedding of position i

Keys are stored as in the cache, so rotated if the model rotates them. peft has no virtual tokens inside a sequence, and puts
its own before everything: a method with an infix, or on an encoder whose sequences open with a token such as [CLS], cannot be
exported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from lora_repro.backbone.addressed import cache_name
from lora_repro.errors import UserError
from lora_repro.exchange.load_tensors import fill
from lora_repro.methods._key_value import KeyValuePrefix
from lora_repro.methods.base import AbstractMethod, require
from lora_repro.methods.prelayer import PreLayer
from lora_repro.methods.prompt_tuning import PromptTuning

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone

Tensors = dict[str, torch.Tensor]
KEY = "prompt_embeddings"


def export(backbone: Backbone, method: PreLayer | PromptTuning) -> tuple[dict[str, Any], Tensors]:
    """peft's settings and tensor for a method that was applied to the backbone.

    Raises UserError for an infix or an encoder.
    """
    infix = f"peft has no infix tokens, and this run has {method.infix}: train with method.infix=0"
    require(method.infix == 0, infix)
    refuse_encoder(backbone)
    embedding: dict[str, Any] = {"num_virtual_tokens": method.prefix, "num_layers": backbone.n_layers}
    embedding |= {"num_transformer_submodules": 1}
    if isinstance(method, PreLayer):
        width = {"token_dim": backbone.kv_size, "num_attention_heads": backbone.n_kv_heads}
        more = {"encoder_hidden_size": backbone.hidden_size, "prefix_projection": False}
        values = key_values(backbone, method)
        return {"peft_type": "PREFIX_TUNING", **embedding, **width, **more}, {KEY: values}
    width = {"token_dim": backbone.hidden_size, "num_attention_heads": backbone.n_heads}
    values = backbone.decoder.get_parameter("prompt_tuning.values").detach()
    return {"peft_type": "PROMPT_TUNING", **embedding, **width, "prompt_tuning_init": "RANDOM"}, {KEY: values}


def refuse_encoder(backbone: Backbone) -> None:
    """Raise UserError for an encoder whose opening token comes before our virtual tokens but after peft's."""
    opens = "opens with a token before the virtual ones" if backbone.cls else ""
    if opens or backbone.classifier:
        raise UserError(
            f"peft's virtual tokens do not fit a sentence task: its sequence {opens or 'is read through a head'}"
        )


@torch.no_grad()
def key_values(backbone: Backbone, method: PreLayer) -> torch.Tensor:
    """Keys and values (n, 2 L kv) of the prefix, from either form of PreLayer.

    `activations`: the layers' projections of the trained inputs at the n slots, which are what later positions attend to.
    """
    module, pairs = backbone.decoder.prelayer, torch.empty(0)
    if isinstance(module, KeyValuePrefix):
        pairs = module.forward()  # (L, 2, heads, n, head_dim)
    else:
        device = backbone.device
        slots = torch.arange(method.prefix, device=device)[None]
        ids = torch.full_like(slots, backbone.pad)
        out = backbone.decoder(input_ids=ids, virtual=slots, use_cache=True)
        layers = getattr(out, cache_name(backbone.decoder)).layers
        pairs = torch.stack([torch.cat([layer.keys, layer.values]) for layer in layers])
    return pairs.permute(3, 0, 1, 2, 4).flatten(1).float()


def insert(backbone: Backbone, config: dict[str, Any], tensors: Tensors) -> AbstractMethod:
    """Put a peft prefix or prompt into the model; returns it as a method of ours.

    Raises UserError unless the file holds that one tensor in the backbone's sizes.
    """
    refuse_encoder(backbone)
    n, embedding = config.get("num_virtual_tokens"), tensors.get(KEY, torch.empty(0))
    # Checked before they are created: a file may ask for any number.
    if not isinstance(n, int) or embedding.ndim != 2 or len(embedding) != n:
        raise UserError(f"the adapter's {KEY} {tuple(embedding.shape)} lacks the {n!r} virtual tokens of its adapter_config.json")
    method: PreLayer | PromptTuning
    if config.get("peft_type") == "PREFIX_TUNING":
        method = PreLayer(form="key_value", prefix=n, infix=0, reparametrise=False, init="gaussian")
    else:
        method = PromptTuning(prefix=n, infix=0, init="gaussian")
    (values,) = method.apply(backbone).method.values()
    fill({KEY: values}, tensors, f"it needs {n} virtual tokens of {backbone.label or 'this backbone'}'s sizes")
    return method
