"""Full fine-tuning (FT): every parameter of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from lora_repro.backbone import weights
from lora_repro.methods.base import AbstractMethod, Shape, Trainable, named

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone


@final
@dataclass(frozen=True, kw_only=True)
class Full(AbstractMethod):
    """Trains all parameters, embeddings and prediction layer included; a tied weight counts once."""

    name: str = "full"

    def insert(self, backbone: Backbone) -> Trainable:
        weights.refuse_stored([backbone.model], "full fine-tuning")
        return Trainable(method=named(backbone.model, backbone.model.parameters()))

    def count(self, shape: Shape) -> int:
        return shape.parameters - shape.new_head_parameters
