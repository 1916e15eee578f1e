"""Where the parts of a transformers model are, so that no other code depends on its architecture."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import nn

from lora_repro.backbone.architecture import KINDS, Projection, table_of
from lora_repro.backbone.weights import HeadwiseMatrix, sizes
from lora_repro.errors import UserError


class AddressedModel:
    """A transformers model, with or without a head, and the addresses of its parts.

    Attributes: `model`, `decoder` (the body, without the head), `architecture`, `table` (its `Architecture`), `n_layers`,
    `hidden_size` d, `n_heads`, `n_kv_heads`, `head_dim`, `kv_size` = n_kv_heads * head_dim (rows of W_k and W_v),
    `layers`, `head`, `embedding`.
    `pooler`: the body's pretrained pooler, which a head that reads the first position reads through; None without one.
    `classifier`: the modules that a classification task adds to the pretrained body, in order; empty without such a head.
    `picks_first`: the first of these takes (B, T, d). `pooling`: which positions that head reads. With `new_pooler` the pooler is
    not pretrained, but the first module of the classifier. Raises UserError for an architecture that is not in the table or a
    model without token embeddings.
    """

    def __init__(self, model: nn.Module, pooling: str | None = None, new_pooler: bool = False) -> None:
        config: Any = getattr(model, "config", model)  # `model` for a module that is no transformers model
        self.table = table_of(config)
        self.model = model
        self.architecture: str = config.model_type
        self.pooling = pooling or self.table.pooling
        self.hidden_size: int = config.hidden_size
        self.n_heads: int = config.num_attention_heads
        self.n_kv_heads: int = getattr(config, "num_key_value_heads", None) or self.n_heads
        self.head_dim: int = getattr(config, "head_dim", None) or self.hidden_size // self.n_heads
        self.kv_size = self.n_kv_heads * self.head_dim
        base: Any = model.base_model
        self.decoder: nn.Module = base.get_submodule(self.table.body)
        self._regroup()
        self.embedding = self._embedding()
        self.real: torch.Tensor | None = None  # (B, T): real positions, during a call with padded rows
        self.reads_segments = False  # set by a method that takes each position's segment from the decoder's keywords
        self.reads_parts = 0  # how many parts of an input such a method distinguishes; 0: an input is one segment
        self.compares = False  # set by a method that answers a pair by the cosine of its sentences' vectors
        classifies = hasattr(model, self.table.heads["classification"])
        self.classifier = [self._part(path) for path in self.table.classifier] if classifies else []
        self.new_pooler = new_pooler
        self.picks_first = self.table.picks_first or new_pooler
        if new_pooler:
            self.classifier.insert(0, self.decoder.get_submodule("pooler"))

    @classmethod
    def of(cls, model: AddressedModel | nn.Module) -> AddressedModel:
        """The model with its addresses; returned as it is if it has them already."""
        return cls(model) if isinstance(model, nn.Module) else model

    def _part(self, path: str) -> nn.Module:
        return nn.ReLU() if path == "relu" else self.model.get_submodule(path)

    def _regroup(self) -> None:
        """Give every fused matrix whose rows are grouped by head its three parts."""
        for layer in self.layers if self.table.by_head else ():
            matrix: Any = layer.get_submodule(str(self.table.by_head))
            if not isinstance(matrix, HeadwiseMatrix):
                layer.set_submodule(str(self.table.by_head), HeadwiseMatrix(matrix, self.n_heads))

    def _embedding(self) -> nn.Embedding:
        try:
            embedding = self.decoder.get_submodule(self.table.embedding)
        except AttributeError:
            embedding = None
        if not isinstance(embedding, nn.Embedding):
            raise UserError(f"this {self.architecture} model has no token embeddings at {self.table.embedding}")
        return embedding

    @cached_property
    def head(self) -> Projection:
        """The final matrix; of a classification head, the linear layer that gives the scores. Raises UserError without one."""
        for path in self.table.heads.values():
            if hasattr(self.model, path):
                module = getattr(self.model, path)
                parent, attribute = (
                    (module, "out_proj") if hasattr(module, "out_proj") else (self.model, path)
                )
                return Projection(parent, attribute, 0, sizes(getattr(parent, attribute))[1])
        raise UserError(
            f"this {self.architecture} model has no head at {' or '.join(self.table.heads.values())}"
        )

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """What a language model's head makes of the body's last hidden states (..., d): (..., V), soft-capped as Gemma 2 does."""
        logits: torch.Tensor = self.head.module(hidden)
        most: float | None = getattr(self.model.config, "final_logit_softcapping", None)
        return logits if most is None else most * torch.tanh(logits / most)

    @property
    def pooler(self) -> nn.Module | None:
        """(B, T, d) -> (B, d)."""
        return None if self.new_pooler else getattr(self.decoder, "pooler", None)

    @property
    def layers(self) -> list[nn.Module]:
        return list(self.decoder.get_submodule(self.table.layers).children())

    @property
    def n_layers(self) -> int:
        return len(self.layers)

    def _projection(self, layer: int, path: str, part: int | None = None) -> Projection:
        parent_path, _, attribute = path.rpartition(".")
        parent = self.layers[layer].get_submodule(parent_path)
        out = sizes(getattr(parent, attribute))[1]
        if part is None:
            return Projection(parent, attribute, 0, out)
        query = out - 2 * self.kv_size
        start, size = ((0, query), (query, self.kv_size), (query + self.kv_size, self.kv_size))[part]
        return Projection(parent, attribute, start, size)

    def projections(self, layer: int, kind: str) -> list[Projection]:
        """The matrices of one kind in one layer; `mlp` gives every matrix of the MLP.

        Raises UserError for an unknown kind.
        """
        if kind == "mlp":
            return [self._projection(layer, path) for path in self.table.mlp]
        if kind == "output":
            return [self._projection(layer, self.table.output)]
        if kind not in KINDS:
            raise UserError(f"unknown target matrix {kind!r}; choose from {', '.join(KINDS)}")
        path, part = getattr(self.table, kind)
        return [self._projection(layer, path, part)]

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device


def cache_name(model: nn.Module) -> str:
    """The name of the KV cache in the keywords and in the output of a model or its body, in this version of transformers.

    transformers renames `past_key_values` to `cache`: 5.24 warns at the old name, 5.40 drops it.
    """
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


@contextmanager
def attending(config: Any, name: str) -> Iterator[None]:
    """Have a model use the attention function that is registered with transformers as `name`."""
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before
