"""The unchanged backbone: the score before any training, a floor for every table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from lora_repro.methods.base import AbstractMethod, Shape, Trainable

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone


@final
@dataclass(frozen=True, kw_only=True)
class Untuned(AbstractMethod):
    """Inserts nothing and trains nothing of the backbone: a decoder only answers, a sentence task still trains its new head."""

    name: str = "untuned"

    def insert(self, backbone: Backbone) -> Trainable:
        return Trainable()

    def count(self, shape: Shape) -> int:
        return 0
