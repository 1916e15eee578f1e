"""The untouched encoder on pairs of sentences: how alike two sentences are is the cosine of their vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from lora_repro.methods.base import AbstractMethod, Shape, Trainable

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone


@final
@dataclass(frozen=True, kw_only=True)
class Cosine(AbstractMethod):
    """Trains nothing, not even a head: the objective answers by cos(u, v) of the pooled vectors of the two sentences.

    Each sentence is encoded on its own. So a sentence encoder such as MiniLM answers STS-B without having seen it (Reimers &
    Gurevych 2019, arXiv:1908.10084, Section 4.1), which says how much of a trained score the backbone brought along.
    """

    name: str = "cosine"

    @property
    def covers_head(self) -> bool:
        return True

    def insert(self, backbone: Backbone) -> Trainable:
        backbone.compares = True
        return Trainable()

    def count(self, shape: Shape) -> int:
        return 0
