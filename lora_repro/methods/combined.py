"""Several methods in one model at once, such as LoRA and prompt tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch import nn

from lora_repro.methods.base import AbstractMethod, Shape, Trainable, named, require

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone


@final
@dataclass(frozen=True, kw_only=True)
class Combined(AbstractMethod):
    """Inserts each of `methods` in turn, a later one around an earlier one on the same matrix, and trains all together.

    A sequence leaves room for the virtual tokens of all methods: every prefix before the context, every infix after it, in the
    order of the methods. Count: the sum of theirs. Raises UserError if two of them would train or replace the same parameter.
    """

    name: str = "combined"
    methods: Sequence[AbstractMethod] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "methods", tuple(self.methods))
        for method in self.methods:
            fits = isinstance(method, AbstractMethod) and method.needs_model
            require(fits, f"method.methods must be methods with a model, not {getattr(method, 'name', method)!r}")

    @property
    def virtual_tokens(self) -> tuple[int, int]:
        prefix, infix = (sum(method.virtual_tokens[side] for method in self.methods) for side in (0, 1))
        return prefix, infix

    @property
    def positions(self) -> int:
        return sum(method.positions for method in self.methods)

    @property
    def covers_head(self) -> bool:
        return any(method.covers_head for method in self.methods)

    def insert(self, backbone: Backbone) -> Trainable:
        require(len(self.methods) > 1, "combined needs two methods or more in method.methods")
        params: dict[int, nn.Parameter] = {}
        head: dict[int, nn.Parameter] = {}
        rates: dict[int, float] = {}
        for method in self.methods:
            part = method.insert(backbone)
            require(not part.kept, f"{method.name} starts from other runs, which combined cannot: leave it out")
            twice = [name for name, parameter in part.method.items() if id(parameter) in params]
            require(not twice, f"{method.name} and a method before it both train {(twice or [''])[0]}: name {method.name} first")
            for parameter in part.named.values():
                parameter.requires_grad_(True)  # a later method leaves alone what this one trains; `apply` sets all of them anew
            params |= {id(parameter): parameter for parameter in part.method.values()}
            head |= {id(parameter): parameter for parameter in part.head.values()}
            rates |= {id(part.named[name]): rate for name, rate in part.rates.items()}
            ids = {id(parameter) for parameter in backbone.model.parameters()}
            require(params.keys() | head.keys() <= ids, f"{method.name} replaces the module of a method before it: leave one out")
        # Names are taken only now: a later method may have wrapped an earlier one's module, which renames its parameters.
        union = Trainable(named(backbone.model, params.values()), named(backbone.model, head.values()))
        return Trainable(union.method, union.head, {n: rates[id(p)] for n, p in union.named.items() if id(p) in rates})

    def count(self, shape: Shape) -> int:
        return sum(method.count(shape) for method in self.methods)

    def count_head(self, shape: Shape) -> int:
        """The largest count of the methods: several may train the same head."""
        if self.covers_head:
            return 0
        return max((method.count_head(shape) for method in self.methods), default=shape.new_head_parameters)

    def note(self, shape: Shape) -> str:
        return "; ".join(filter(None, (method.note(shape) for method in self.methods)))

    def trained(self, values: Mapping[str, torch.Tensor]) -> bool:
        return any(method.trained(values) for method in self.methods)
