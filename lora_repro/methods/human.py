"""Human reference: no model at all. The task scores each input's last human text against the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from lora_repro.errors import UserError
from lora_repro.methods.base import AbstractMethod, Shape, Trainable

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone


@final
@dataclass(frozen=True, kw_only=True)
class Human(AbstractMethod):
    """A row without a model: `needs_model` is False, and applying it is a UserError."""

    name: str = "human"
    needs_model: ClassVar[bool] = False

    def insert(self, backbone: Backbone) -> Trainable:
        raise UserError("method human has no model to adapt: the task gives its human texts")

    def count(self, shape: Shape) -> int:
        return 0
