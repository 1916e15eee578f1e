"""lora_repro/decode/cache.py: a beam sees its prompt and its own tokens, and methods may put a prefix in the cache."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from decode_models import EOS, PAD, Pieces, Table, V, agree, asked, random_model, random_prompts
from transformers import MistralConfig, MistralForCausalLM

from lora_repro.decode.beam import BeamSearch
from lora_repro.decode.cache import attend
from lora_repro.errors import UserError


def test_cache_rows_hold_each_beams_own_prompt_and_tokens() -> None:
    """The cached keys are positions and token ids here: each row must spell its padded prompt and then one beam's tokens."""
    rng = random.Random(1)
    model, prompts = (
        Table(torch.randn(V, V, generator=torch.Generator().manual_seed(1)) * 3),
        random_prompts(rng, 5),
    )
    longest = max(len(prompt.ids) for prompt in prompts)
    contexts = [[PAD] * (longest - len(p.ids)) + p.ids for p in prompts]
    rows: list[list[int]] = []
    model.register_forward_hook(lambda module, *_: rows.extend(module.seen))
    outputs = BeamSearch(beam=6, max_new_tokens=40, batch_size=5).decode(model, Pieces(), prompts, EOS, PAD)
    for row in rows:
        assert row[:longest] in contexts
    for i, tokens in enumerate(outputs.tokens):  # the winner's whole history was the content of a row
        assert contexts[i] + tokens[:-1] in rows


def test_long_searches_outgrow_the_first_cache_block() -> None:
    model = random_model("gpt2", 5, scale=8.0)
    with torch.no_grad():
        model.lm_head.weight[[0, 2, 3, 4, 5]] = 0  # unlikely ends
    outputs = agree(
        BeamSearch(beam=4, max_new_tokens=40, batch_size=3),
        model,
        Pieces(),
        random_prompts(random.Random(5), 3),
    )
    assert max(map(len, outputs.tokens)) > 32


def test_an_attention_that_is_not_plain_is_refused() -> None:
    shape = {"vocab_size": V, "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 8, "bos_token_id": 0}
    config = MistralConfig(num_attention_heads=2, num_key_value_heads=1, head_dim=4, sliding_window=4, eos_token_id=0, **shape)
    with pytest.raises(UserError, match="beam search cannot decode with MistralAttention"):
        BeamSearch(beam=2, max_new_tokens=4).decode(MistralForCausalLM(config), Pieces(), [asked([5] * 9, [-1] * 9)], EOS, PAD)


@pytest.mark.parametrize("settings", [{"sliding_window": 4}, {"softcap": 30.0}, {"s_aux": 1.0}], ids=str)
def test_a_window_a_cap_and_sinks_are_seen_by_what_transformers_says_of_them(settings: dict[str, float]) -> None:
    layer: Any = SimpleNamespace(keys=torch.zeros(1, 1, 5, 2), tree=None)
    query = torch.zeros(1, 1, 1, 2)
    with pytest.raises(UserError, match="it has a window, cap or sinks"):
        attend(torch.nn.Identity(), query, layer, None, None, 1.0, **settings)
    with pytest.raises(AttributeError):  # a window that takes in all columns is none, and the search goes on
        attend(torch.nn.Identity(), query, layer, None, None, 1.0, sliding_window=5, softcap=None)
