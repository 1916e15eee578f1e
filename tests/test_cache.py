"""lora_repro/decode/cache.py: rows follow their beams, with few moves, and methods may put a prefix in the cache."""

from __future__ import annotations

import random
from typing import Any

import torch
from decode_models import EOS, PAD, Pieces, Table, V, agree, random_model, random_prompts
from torch import nn
from transformers.cache_utils import DynamicCache

from lora_repro.decode.beam import BeamSearch
from lora_repro.decode.cache import place


def test_place_keeps_first_children_and_moves_whole_rows_only_into_holes() -> None:
    rng = random.Random(0)
    for _ in range(300):
        old = [owner for owner in range(4) for _ in range(rng.randint(1, 4))]
        rng.shuffle(old)
        parent = [row for row in range(len(old)) for _ in range(rng.choice([0, 1, 1, 3]))]
        rng.shuffle(parent)
        owner = [old[row] for row in parent]
        order, moves = place(old, parent, owner)
        assert sorted(order) == list(range(len(parent)))
        content: list[tuple[int, int]] = [(old[r], r) for r in range(len(old))] + [(-1, -1)] * len(
            parent
        )  # prompt, tokens
        before = list(content)
        for to, source in zip(*moves.whole, strict=True):
            content[to] = before[source]
        for to, source in zip(*moves.siblings, strict=True):
            content[to] = (content[to][0], before[source][1])
        assert content[: moves.rows] == [(owner[beam], parent[beam]) for beam in order]
        assert len(moves.whole[0]) + len(moves.siblings[0]) <= len(parent) - len(
            {row for row in parent if row < len(order)}
        )


def test_cache_rows_hold_each_beams_own_prompt_and_tokens() -> None:
    """The cached keys are token ids here: each row must spell its padded prompt and then one beam's tokens."""
    rng = random.Random(1)
    model, prompts = (
        Table(torch.randn(V, V, generator=torch.Generator().manual_seed(1)) * 3),
        random_prompts(rng, 5),
    )
    longest = max(len(prompt.ids) for prompt in prompts)
    padded = [[PAD] * (longest - len(p.ids)) + p.ids for p in prompts]
    rows: list[list[int]] = []
    model.register_forward_hook(lambda module, *_: rows.extend(module.seen.tolist()))
    found = BeamSearch(beam=6, max_new_tokens=40, batch_size=5).decode(model, Pieces(), prompts, EOS, PAD)
    for row in rows:
        assert row[:longest] in padded
    for i, tokens in enumerate(found.tokens):  # the winner's whole history was the content of a row
        assert padded[i] + tokens[:-1] in rows


class Prefix(nn.Module):
    """A method's hook that puts a key/value prefix in the cache and lengthens the mask by itself."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length
        self.kv = torch.randn(
            2, 2, 1, 2, length, 4, generator=torch.Generator().manual_seed(0)
        )  # layer, k/v, 1, h, t, d

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        rows, width = kwargs["input_ids"].shape
        mask = kwargs.get("attention_mask")
        mask = torch.ones(rows, width, dtype=torch.long) if mask is None else mask
        kwargs["attention_mask"] = torch.cat([torch.ones(rows, self.length, dtype=torch.long), mask], 1)
        if kwargs.get("position_ids") is None:
            kwargs["position_ids"] = torch.arange(width)[None].expand(rows, -1)
        if kwargs.get("cache") is None:
            kwargs["cache"] = DynamicCache()
            for layer, (key, value) in enumerate(self.kv):
                kwargs["cache"].update(key.expand(rows, -1, -1, -1), value.expand(rows, -1, -1, -1), layer)
        return args, kwargs


def test_a_method_may_put_a_prefix_in_the_cache() -> None:
    model, prompts = random_model("llama", 11), random_prompts(random.Random(11), 4)
    search = BeamSearch(beam=4, max_new_tokens=8, batch_size=4)
    plain = search.decode(model, Pieces(), prompts, EOS, PAD)
    model.model.register_forward_pre_hook(Prefix(3), with_kwargs=True)
    assert agree(search, model, Pieces(), prompts).tokens != plain.tokens


def test_long_searches_outgrow_the_first_cache_block() -> None:
    model = random_model("gpt2", 5, scale=8.0)
    with torch.no_grad():
        model.lm_head.weight[[0, 2, 3, 4, 5]] = 0  # unlikely ends
    found = agree(
        BeamSearch(beam=4, max_new_tokens=40, batch_size=3),
        model,
        Pieces(),
        random_prompts(random.Random(5), 3),
    )
    assert max(map(len, found.tokens)) > 32
