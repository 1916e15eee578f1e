"""A key/value cache for beams: preallocated, moved as little as possible.

The library's dynamic cache copies every row at each step twice, once to append a token and once to follow its beam.
Here a token is written in place, a beam that continues its own row moves nothing, and one that continues a sibling's
moves only the generated part, because all beams of a prompt share the prompt's keys and values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

GROWTH = 16  # columns added at a time: E2E texts are about 25 tokens long, most searches end far below 64


@dataclass(frozen=True)
class Moves:
    """How cache rows change: `rows` are left; (to, from) pairs of `siblings` copy the generated part, of `whole` all."""

    rows: int
    siblings: tuple[list[int], list[int]]
    whole: tuple[list[int], list[int]]


def place(old_owner: list[int], parent: list[int], owner: list[int]) -> tuple[list[int], Moves]:
    """Seat new beams in cache rows 0..R-1 with few and small moves.

    old_owner: prompt of each present row; parent, owner (R each): row continued by, and prompt of, each new beam.
    Returns order (the beam seated in each row) and the moves. A first child stays in its parent's row if that row
    survives; siblings prefer rows of their own prompt; the others fill the holes.
    """
    seats: list[int] = [-1] * len(parent)
    waiting = []
    for beam, row in enumerate(parent):
        if row < len(seats) and seats[row] < 0:
            seats[row] = beam
        else:
            waiting.append(beam)
    free: dict[int, list[int]] = {}
    for row in (row for row, beam in enumerate(seats) if beam < 0):
        free.setdefault(old_owner[row] if row < len(old_owner) else -1, []).append(row)
    siblings, strangers = [], []
    for beam in waiting:
        if free.get(owner[beam]):
            row = free[owner[beam]].pop()
            seats[row] = beam
            siblings.append(row)
        else:
            strangers.append(beam)
    holes = [row for rows in free.values() for row in rows]
    for beam, row in zip(strangers, holes, strict=True):
        seats[row] = beam
    pairs = [(rows, [parent[seats[row]] for row in rows]) for rows in (siblings, holes)]
    return seats, Moves(len(seats), pairs[0], pairs[1])


class _BeamLayer(DynamicLayer):
    """Keys and values of one layer: the first `rows` rows and `length` columns of buffers (rows, heads, columns, d)."""

    def __init__(self, keys: Tensor, values: Tensor, capacity: int, dtype: torch.dtype | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(keys, values)
        self.rows, _, self.length, _ = keys.shape
        self.prompt = self.length
        self.buffers = [
            keys if dtype is None else keys.to(dtype),
            values if dtype is None else values.to(dtype),
        ]
        self._grow(capacity)

    def _grow(self, capacity: int) -> None:
        """Room for `capacity` rows and GROWTH more columns; what earlier prompts left behind is given back."""
        for i, old in enumerate(self.buffers):
            new = old.new_empty(capacity, old.shape[1], self.length + GROWTH, old.shape[3])
            new[: self.rows, :, : self.length] = old[: self.rows, :, : self.length]
            self.buffers[i] = new
        self._show()

    def _show(self) -> tuple[Tensor, Tensor]:
        keys, values = (buffer[: self.rows, :, : self.length] for buffer in self.buffers)
        self.keys, self.values = keys, values
        return keys, values

    def rearrange(self, moves: Moves, capacity: int) -> None:
        """Move rows (all reads precede all writes), then make room for one more token."""
        parts = ((moves.siblings, slice(self.prompt, self.length)), (moves.whole, slice(0, self.length)))
        for buffer in self.buffers:
            held = [(to, part, buffer[source, :, part]) for (to, source), part in parts if to]
            for to, part, tensor in held:
                buffer[to, :, part] = tensor
        self.rows = moves.rows
        if self.length == self.buffers[0].shape[2]:
            self._grow(capacity)
        self._show()

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the new token's keys and values (rows, heads, 1, d); returns all so far (views)."""
        end = self.length + key_states.shape[2]
        for buffer, new in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[: self.rows, :, self.length : end] = new
        self.length = end
        return self._show()


class BeamCache(Cache):
    """The model's cache during a beam search."""

    @classmethod
    def from_prompt(cls, cache: Any, capacity: int) -> BeamCache:
        """Take over what the prompt call left in `cache` (whatever its length: a method may have put a prefix there).

        `capacity`: rows to make room for. Under autocast the attention reads keys and values in the autocast type, so
        they are stored in it: the numbers are the same, and half as many bytes move.
        """
        kind = cache.layers[0].keys.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        return cls(layers=[_BeamLayer(layer.keys, layer.values, capacity, dtype) for layer in cache.layers])

    def rearrange(self, moves: Moves, capacity: int) -> None:
        """Follow the beams in every layer; later growth makes room for `capacity` rows."""
        for layer in self.layers:
            assert isinstance(layer, _BeamLayer)
            layer.rearrange(moves, capacity)
