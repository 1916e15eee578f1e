"""Virtual-token slots and segments: read from the keywords of a model call, and trained rows put at the slots."""

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
    """The tensor on the device; to a GPU by an asynchronous copy from pinned memory."""
    return (places.pin_memory() if device.type == "cuda" else places).to(device, non_blocking=True)


class Positions:
    """Slots and segments of a decoder call, taken from its keywords once for all methods in the decoder.

    `virtual` (B, T): the slot index at placeholder positions, -1 elsewhere. The slots of several methods are numbered in the
    order of insertion, all prefixes before all infixes: [prefix 1][prefix 2] context [infix 1][infix 2].
    `segments` (B, T): the part of the sequence that each position belongs to; None unless the backbone's `reads_segments` is set.
    0 is the prompt and 1 the completion, or 0 and 1 are two sentences. With `reads_parts`, 2 + k is part k of an input, as its
    task names the parts.
    """

    def __init__(self) -> None:
        self.slots: list[Slots] = []
        self.segments: torch.Tensor | None = None

    @classmethod
    def of(cls, decoder: nn.Module) -> Positions:
        """The decoder's `Positions`, created when the first method asks for it."""
        attributes = vars(decoder)
        if "positions" not in attributes:
            attributes["positions"] = cls()
            decoder.register_forward_pre_hook(attributes["positions"].take, with_kwargs=True)
        positions: Positions = attributes["positions"]
        return positions

    def take(
        self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """Pre-hook of the decoder: note the slots and segments of this call.

        To the rest of the model a slot is an ordinary position: it has a position id, is attended to, and is in the KV cache once
        computed. So a call that continues from a cache may omit `virtual`. Any other call without it raises ValueError: the
        method would silently have no effect.
        """
        virtual, self.segments = kwargs.pop("virtual", None), kwargs.pop("segments", None)
        if self.slots and virtual is None and past_length(kwargs) == 0:
            raise ValueError(
                "a method with virtual tokens needs `virtual` in every call that starts a sequence"
            )
        device = next(value.device for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor))
        prefixes = sum(slots.prefix for slots in self.slots)
        first, infix_start = 0, prefixes
        for slots in self.slots:
            slots.find(virtual, first, infix_start, device)
            first, infix_start = first + slots.prefix, infix_start + slots.infix
        return args, kwargs


def segments_of(backbone: Backbone, parts: int = 0) -> Positions:
    """Have every call pass its segments, among them `parts` parts of an input; the result's `segments` holds the call's."""
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
        self.slot: torch.Tensor | None = None  # slot index of each of them, counted from the method's first slot
        Positions.of(decoder).slots.append(self)

    def find(self, virtual: torch.Tensor | None, first: int, infix_start: int, device: torch.device) -> None:
        """Note the slots of this call; the method's prefix is numbered from `first` on, its infix from `infix_start` on.

        Done on the host, where a batch keeps `virtual`: counting slots on a GPU would make the step wait for it.
        """
        self.where = self.slot = None
        if virtual is None:
            return
        numbers = virtual.cpu().numpy()
        late = (numbers >= infix_start) & (numbers < infix_start + self.infix)
        row, column = (late | ((numbers >= first) & (numbers < first + self.prefix))).nonzero()
        positions = numbers[row, column] - first
        positions[late[row, column]] += first + self.prefix - infix_start
        rows, columns, self.slot = (_moved(torch.from_numpy(places), device) for places in (row, column, positions))
        self.where = rows, columns

    def put(self, hidden: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """hidden (B, T, d) with values[i], a row of values (n, d), at every position of slot i; other positions are unchanged."""
        if self.where is None or self.slot is None or not len(self.slot):
            return hidden
        return hidden.index_put(self.where, values[self.slot].to(hidden.dtype))


class LayerActivations(nn.Module):
    """values (L, n, d): values[l, i] enters layer l at slot i in place of the output of the layer below."""

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
