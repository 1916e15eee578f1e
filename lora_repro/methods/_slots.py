"""Virtual-token slots: which positions of a batch are placeholders, and putting trained rows there."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn


def past_length(kwargs: dict[str, Any]) -> int:
    """Number of positions in the KV cache among a decoder's keyword arguments; 0 without one."""
    caches = (kwargs.get("cache"), kwargs.get("past_key_values"))  # transformers renamed the keyword
    return max(0 if cache is None else int(cache.get_seq_length()) for cache in caches)


def random_tokens(embedding: nn.Embedding, n: int) -> torch.Tensor:
    """n token ids (n,) drawn uniformly from the vocabulary with torch's global generator; task-neutral."""
    return torch.randint(embedding.num_embeddings, (n,)).to(embedding.weight.device)


class Slots:
    """Takes `virtual` (B, T) from a decoder's keywords: slot index at placeholder positions, -1 elsewhere.

    A slot is an ordinary position to the rest of the model: it has a position id, is attended to, and once
    computed it is in the KV cache. So a call that continues from a cache may come without `virtual`; any
    other that does is a ValueError, since the method would silently take no part.
    """

    def __init__(self, decoder: nn.Module):
        self.where: tuple[torch.Tensor, torch.Tensor] | None = None  # (row, column) of the slots in this call
        self.slot: torch.Tensor | None = None  # which slot each of them is
        decoder.register_forward_pre_hook(self.take, with_kwargs=True)

    def take(
        self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """Pre-hook of the decoder: remember where the slots of this call are."""
        virtual = kwargs.pop("virtual", None)
        self.where = self.slot = None
        if virtual is not None:
            row, column = (virtual >= 0).nonzero(as_tuple=True)
            self.where, self.slot = (row, column), virtual[row, column]
        elif past_length(kwargs) == 0:
            raise ValueError(
                "a method with virtual tokens needs `virtual` in every call that starts a sequence"
            )
        return args, kwargs

    def put(self, hidden: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """hidden (B, T, d) with row values[i] (n, d) at every position of slot i; the rest passes through."""
        if self.where is None or self.slot is None or not len(self.slot):
            return hidden
        return hidden.index_put(self.where, values[self.slot].to(hidden.dtype))


class LayerActivations(nn.Module):
    """values (L, n, d): what enters layer l at slot i, instead of what the layer below computed there."""

    def __init__(self, values: torch.Tensor, decoder: nn.Module, layers: list[nn.Module]):
        super().__init__()
        self.values = nn.Parameter(values.float())
        self.slots = Slots(decoder)
        for index, layer in enumerate(layers):
            layer.register_forward_pre_hook(partial(self.enter, index), with_kwargs=True)

    def enter(
        self, index: int, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Pre-hook of layer `index`, whose first argument is the hidden states (B, T, d)."""
        return (self.slots.put(args[0], self.values[index]), *args[1:]), kwargs
