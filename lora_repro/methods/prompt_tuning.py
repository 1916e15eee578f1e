"""Prompt tuning (Lester et al. 2021, arXiv 2104.08691), the paper's PreEmbed (Section 5.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, final

import torch
from torch import nn

from lora_repro.config.validation import Range
from lora_repro.methods._slots import Slots, random_tokens
from lora_repro.methods.base import (
    AbstractMethod,
    Shape,
    Trainable,
    named,
    require,
)

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone



class VirtualEmbeddings(nn.Module):
    """values (n, d): the word embeddings of the virtual tokens."""

    def __init__(self, values: torch.Tensor, decoder: nn.Module, embedding: nn.Embedding, prefix: int, infix: int):
        super().__init__()
        self.values = nn.Parameter(values.float())
        self.slots = Slots(decoder, prefix, infix)
        embedding.register_forward_hook(self.look_up)

    def look_up(self, embedding: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        """Forward hook of the embedding: puts trained rows at the slots, before position embeddings are added."""
        return self.slots.put(output, self.values)


@final
@dataclass(frozen=True, kw_only=True)
class PromptTuning(AbstractMethod):
    """Trained word embeddings at `prefix` positions before and `infix` positions after the context.

    They start as copies of random vocabulary embeddings (`vocabulary`, one of the source's choices) or as
    N(0, std^2) (`gaussian`). Count: d (l_p + l_i), d the embeddings' width.
    """

    sized: ClassVar[str] = "prefix"
    name: str = "prompt_tuning"
    prefix: int = 40
    infix: int = 8
    init: Literal["vocabulary", "gaussian"] = "vocabulary"
    std: Annotated[float, Range(0, above=True)] = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.prefix + self.infix > 0, "prompt tuning needs a prefix or an infix; set method.prefix")

    @property
    def virtual_tokens(self) -> tuple[int, int]:
        return (self.prefix, self.infix)

    def insert(self, backbone: Backbone) -> Trainable:
        n, weight = self.prefix + self.infix, backbone.embedding.weight
        if self.init == "gaussian":
            values = torch.randn(n, weight.shape[1], device=weight.device) * self.std
        else:  # through the module, which may scale its rows (Gemma)
            values = backbone.embedding(random_tokens(backbone.embedding, n)).detach()
        module = VirtualEmbeddings(values, backbone.decoder, backbone.embedding, self.prefix, self.infix)
        backbone.decoder.add_module("prompt_tuning", module)
        return Trainable(method=named(backbone.model, module.parameters()))

    def count(self, shape: Shape) -> int:
        return (shape.embedding_size or shape.hidden_size) * (self.prefix + self.infix)
