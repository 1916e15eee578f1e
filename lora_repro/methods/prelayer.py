"""PreLayer (prefix-layer tuning, Section 5.1; Li & Liang 2021): virtual tokens trained in every layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, final

import torch
from torch import nn

from lora_repro.backbone.addressed import cache_name
from lora_repro.config.validation import Range
from lora_repro.methods._key_value import KeyValuePrefix
from lora_repro.methods._slots import LayerActivations, no_slots, random_tokens
from lora_repro.methods.base import (
    AbstractMethod,
    Shape,
    Trainable,
    named,
    require,
)

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone



@final
@dataclass(frozen=True, kw_only=True)
class PreLayer(AbstractMethod):
    """Trained values at `prefix` positions before and `infix` positions after the context.

    Form `activations` (the paper's): the input of every layer at these positions is trained, and the output
    of the layer below is dropped there. Count: L d (l_p + l_i).

    Form `key_value` (Li & Liang): trained keys and values before the sequence, a prefix only; computed by an
    MLP of width `mid` if `reparametrise`. Count: n d + (d + 1) mid + (mid + 1) 2 L kv, with n = l_p and
    kv = kv_size. Without the MLP, or once it has been applied (`served`): n 2 L kv.

    `init`: `activations` starts from the frozen backbone's activations (keys and values for `key_value`) for
    random vocabulary tokens, `gaussian` from N(0, std^2); the paper says neither. A prefix computed by the
    MLP starts from N(0, 1) embeddings whatever `init` is.
    """

    sized: ClassVar[str] = "prefix"
    name: str = "prelayer"
    form: Literal["activations", "key_value"] = "activations"
    prefix: int = 8
    infix: int = 8
    init: Literal["activations", "gaussian"] = "activations"
    std: Annotated[float, Range(0, above=True)] = 0.02
    reparametrise: bool = True
    mid: Annotated[int, Range(1)] = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.prefix + self.infix > 0, "PreLayer needs a prefix or an infix; set method.prefix")
        if self.form == "key_value":
            require(self.infix == 0, "PreLayer form key_value has no infix; set method.infix=0")

    @property
    def virtual_tokens(self) -> tuple[int, int]:
        return (self.prefix, self.infix) if self.form == "activations" else (0, 0)

    @property
    def positions(self) -> int:
        """The prefix takes positions in either form: with `key_value` a sequence's positions are counted from after it."""
        return self.prefix + self.infix

    def insert(self, backbone: Backbone) -> Trainable:
        module = self.activations(backbone) if self.form == "activations" else self.key_value(backbone)
        backbone.decoder.add_module("prelayer", module)
        return Trainable(method=named(backbone.model, module.parameters()))

    @torch.no_grad()
    def start(self, backbone: Backbone) -> Any:
        """The frozen backbone's output for random tokens, one per slot, with its cache or hidden states."""
        tokens = random_tokens(backbone.embedding, self.prefix + self.infix)[None]
        plain = no_slots(backbone.decoder, tokens)  # another method may already have slots in this decoder
        return backbone.decoder(
            input_ids=tokens, use_cache=self.form == "key_value", output_hidden_states=True, **plain
        )

    def activations(self, backbone: Backbone) -> nn.Module:
        n, device = self.prefix + self.infix, backbone.device
        if self.init == "gaussian" or device.type == "meta":  # planning needs shapes only, and runs no model
            values = torch.randn(backbone.n_layers, n, backbone.hidden_size, device=device) * self.std
        else:  # hidden state l is the input of layer l
            values = torch.cat(self.start(backbone).hidden_states[: backbone.n_layers])
        return LayerActivations(values, backbone.decoder, backbone.layers, self.prefix, self.infix)

    def key_value(self, backbone: Backbone) -> nn.Module:
        require(backbone.table.pooling == "last", "PreLayer form key_value needs a decoder backbone; set method.form=activations")
        sizes = (self.prefix, backbone.n_layers, backbone.n_kv_heads, backbone.head_dim)
        device, initial = backbone.device, None
        if not self.reparametrise and (self.init == "gaussian" or device.type == "meta"):
            out = 2 * backbone.n_layers * backbone.kv_size
            initial = torch.randn(self.prefix, out, device=device) * self.std
        elif not self.reparametrise:
            cache = getattr(self.start(backbone), cache_name(backbone.decoder))
            pairs = torch.stack([torch.cat([layer.keys, layer.values]) for layer in cache.layers])
            initial = pairs.permute(3, 0, 1, 2, 4).flatten(1)  # (L, 2, heads, n, head_dim) -> (n, 2 L kv)
        module = KeyValuePrefix(*sizes, backbone.hidden_size, self.mid, initial, device)
        backbone.decoder.register_forward_pre_hook(module.prepend, with_kwargs=True)
        return module

    def served(self, shape: Shape) -> int:
        """Number of values that a served model keeps: the MLP of the key_value form is needed in training only."""
        if self.form == "activations":
            return self.count(shape)
        return self.prefix * 2 * shape.n_layers * shape.kv_size

    def note(self, shape: Shape) -> str:
        n_values = self.served(shape)
        return f"{n_values:,} values are left to serve; the MLP is for training" if n_values < self.count(shape) else ""

    def count(self, shape: Shape) -> int:
        if self.form == "activations":
            return shape.n_layers * shape.hidden_size * (self.prefix + self.infix)
        if not self.reparametrise:
            return self.served(shape)
        out = 2 * shape.n_layers * shape.kv_size
        return self.prefix * shape.hidden_size + (shape.hidden_size + 1) * self.mid + (self.mid + 1) * out
