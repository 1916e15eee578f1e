"""Virtual-token slots and segments: what a batch says of its positions, and putting trained rows at the placeholders."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone


def past_length(kwargs: dict[str, Any]) -> int:
    """Number of positions in the KV cache among a decoder's keyword arguments; 0 without one."""
    caches = (kwargs.get("cache"), kwargs.get("past_key_values"))  # transformers renamed the keyword
    return max(0 if cache is None else int(cache.get_seq_length()) for cache in caches)


def random_tokens(embedding: nn.Embedding, n: int) -> torch.Tensor:
    """n token ids (n,) drawn uniformly from the vocabulary with torch's global generator; task-neutral."""
    return torch.randint(embedding.num_embeddings, (n,)).to(embedding.weight.device)


def _moved(places: torch.Tensor, device: torch.device) -> torch.Tensor:
    """On the device; to a GPU from pinned memory, whose copy waits for nothing."""
    return (places.pin_memory() if device.type == "cuda" else places).to(device, non_blocking=True)


class Positions:
    """What a call says of its positions beside their tokens, taken from a decoder's keywords once for all methods in it.

    `virtual` (B, T): the index of a slot at placeholder positions, -1 elsewhere. Several methods' slots are numbered in the
    order in which they were inserted, all prefixes before all infixes: [prefix 1][prefix 2] context [infix 1][infix 2].
    `segments` (B, T): which part of the sequence a position is of (0 the prompt, 1 the completion; 0, 1 two sentences; 2 + k
    part k of an input, where `reads_parts` asks for those that its task names); given to a backbone whose `reads_segments` is
    set, None otherwise.
    """

    def __init__(self) -> None:
        self.slots: list[Slots] = []
        self.segments: torch.Tensor | None = None

    @classmethod
    def of(cls, decoder: nn.Module) -> Positions:
        """The decoder's own, made when the first method asks."""
        known = vars(decoder)
        if "positions" not in known:
            known["positions"] = cls()
            decoder.register_forward_pre_hook(known["positions"].take, with_kwargs=True)
        found: Positions = known["positions"]
        return found

    def take(
        self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """Pre-hook of the decoder: remember what this call says.

        A slot is an ordinary position to the rest of the model: it has a position id, is attended to, and once computed it is
        in the KV cache. So a call that continues from a cache may come without `virtual`; any other that does is a
        ValueError, since a method would silently take no part.
        """
        virtual, self.segments = kwargs.pop("virtual", None), kwargs.pop("segments", None)
        if self.slots and virtual is None and past_length(kwargs) == 0:
            raise ValueError(
                "a method with virtual tokens needs `virtual` in every call that starts a sequence"
            )
        device = next(value.device for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor))
        prefixes = sum(slots.prefix for slots in self.slots)
        first, later = 0, prefixes
        for slots in self.slots:
            slots.find(virtual, first, later, device)
            first, later = first + slots.prefix, later + slots.infix
        return args, kwargs


def segments_of(backbone: Backbone, parts: int = 0) -> Positions:
    """Have every call tell its segments, `parts` parts of an input among them; they are in what is returned while it runs."""
    backbone.reads_segments, backbone.reads_parts = True, parts
    return Positions.of(backbone.decoder)


def no_slots(decoder: nn.Module, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """The keywords of a call whose ids (B, T) are all real tokens."""
    return {"virtual": torch.full_like(ids, -1)} if Positions.of(decoder).slots else {}


class Slots:
    """One method's placeholder positions: `prefix` before the context, `infix` after it."""

    def __init__(self, decoder: nn.Module, prefix: int, infix: int):
        self.prefix, self.infix = prefix, infix
        self.where: tuple[torch.Tensor, torch.Tensor] | None = None  # (row, column) of the slots in this call
        self.slot: torch.Tensor | None = None  # which slot each of them is, counted from the method's own first
        Positions.of(decoder).slots.append(self)

    def find(self, virtual: torch.Tensor | None, first: int, later: int, device: torch.device) -> None:
        """Note the slots of this call; the method's prefix is numbered from `first` on, its infix from `later` on.

        Sought on the host, where a batch keeps `virtual`: how many there are is nothing to ask a GPU in the middle of a step.
        """
        self.where = self.slot = None
        if virtual is None:
            return
        numbers = virtual.cpu().numpy()
        late = (numbers >= later) & (numbers < later + self.infix)
        row, column = (late | ((numbers >= first) & (numbers < first + self.prefix))).nonzero()
        own = numbers[row, column] - first
        own[late[row, column]] += first + self.prefix - later
        rows, columns, self.slot = (_moved(torch.from_numpy(places), device) for places in (row, column, own))
        self.where = rows, columns

    def put(self, hidden: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """hidden (B, T, d) with row values[i] (n, d) at every position of slot i; the rest passes through."""
        if self.where is None or self.slot is None or not len(self.slot):
            return hidden
        return hidden.index_put(self.where, values[self.slot].to(hidden.dtype))


class LayerActivations(nn.Module):
    """values (L, n, d): what enters layer l at slot i, instead of what the layer below computed there."""

    def __init__(self, values: torch.Tensor, decoder: nn.Module, layers: list[nn.Module], prefix: int, infix: int):
        super().__init__()
        self.values = nn.Parameter(values.float())
        self.slots = Slots(decoder, prefix, infix)
        for index, layer in enumerate(layers):
            layer.register_forward_pre_hook(partial(self.enter, index), with_kwargs=True)

    def enter(
        self, index: int, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Pre-hook of layer `index`, whose first argument is the hidden states (B, T, d)."""
        return (self.slots.put(args[0], self.values[index]), *args[1:]), kwargs
