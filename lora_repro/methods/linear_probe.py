"""Linear probing: train only the final prediction layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch import nn

from lora_repro.backbone import weights
from lora_repro.methods.base import AbstractMethod, Shape, Trainable, named

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone


@final
@dataclass(frozen=True, kw_only=True)
class LinearProbe(AbstractMethod):
    """Trains the final prediction layer (and its bias, if any); all else is frozen.

    A weight tied to the input embedding is untied first: a copy is trained, and the embedding keeps its values.
    All trained values count as head parameters: V d for a language model; the method's own count is 0.
    """

    name: str = "linear_probe"

    def insert(self, backbone: Backbone) -> Trainable:
        head = backbone.head.module
        weights.refuse_stored([head], "linear probing")
        if head.weight is backbone.embedding.weight:
            assert isinstance(head.weight, torch.Tensor)
            head.weight = nn.Parameter(head.weight.detach().clone())
            # With this still true, saving or resizing would silently tie them again.
            backbone.model.config.tie_word_embeddings = False  # type: ignore[union-attr]
        return Trainable(head=named(backbone.model, head.parameters()))

    def count(self, shape: Shape) -> int:
        return 0

    def count_head(self, shape: Shape) -> int:
        return shape.head_parameters
