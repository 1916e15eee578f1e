"""lora_repro/decode/cache.py: a beam sees its prompt and its own tokens, and methods may put a prefix in the cache."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import refused, tiny_backbone
from decode_models import EOS, PAD, Pieces, Table, V, agree, random_model, random_prompts

from lora_repro.decode.beam import BeamSearch
from lora_repro.decode.cache import attend, window
from lora_repro.methods.untuned import Untuned
from lora_repro.objectives.completion import Completion, encode_prompt
from lora_repro.run.stages import prompts
from lora_repro.tasks.base import Example


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


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("kind", ["gemma2", "gemma3_text", "mistral"])
def test_a_soft_cap_and_a_window_that_holds_prompt_and_answer_change_nothing(kind: str, beam: int) -> None:
    """The longest prompt has 20 tokens, and of 12 new ones the last is never fed back."""
    more = {"attn_logit_softcapping": 0.5, "final_logit_softcapping": 2.0} if kind == "gemma2" else {}
    texts = ("hello there, how ar", "hi", "and you?")
    rows, how = {}, {"beam": beam, "max_new_tokens": 12, "no_repeat_ngram": 0}
    for wide in (31, 4096):
        backbone = tiny_backbone(kind, sliding_window=wide, **more)
        rows[wide] = [encode_prompt(text, backbone) for text in texts]
        with torch.no_grad():
            for name, parameter in backbone.model.named_parameters():
                parameter.mul_(100 if "q_proj" in name else 3)  # a cap is seen where attention is sharp
        agree(BeamSearch(**how), backbone.model, backbone.tokenizer, rows[wide], backbone.eos)
    assert max(len(row.ids) for row in rows[31]) == 20 and window(backbone.model.config) == 4096


@pytest.mark.parametrize("kind", ["gemma2", "gemma3_text", "mistral"])
@pytest.mark.parametrize("wide", [4, 12, 31])
def test_a_window_that_is_narrower_is_refused_before_training_and_by_the_search(kind: str, wide: int) -> None:
    search = BeamSearch(beam=2, max_new_tokens=12, blank_line=False)
    backbone, objective = tiny_backbone(kind, sliding_window=wide), Completion(search)
    examples = [Example("k", text, "") for text in ("hello there, how are", "hi")]
    refused(lambda: prompts(backbone, Untuned(), objective, 512, examples), f" {wide} positions", "decode.max_new_tokens")
    rows, _ = objective.ask(examples, backbone, (0, 0), 512)
    refused(lambda: search.decode(backbone.model, backbone.tokenizer, rows, -1, backbone.pad), "window", "decode.max_new_tokens")


def test_sinks_are_seen_by_what_transformers_says_of_them() -> None:
    layer: Any = SimpleNamespace(keys=torch.zeros(1, 1, 5, 2), tree=None)
    refused(lambda: attend(torch.nn.Identity(), torch.zeros(1, 1, 1, 2), layer, None, None, 1.0, s_aux=1.0), "sinks")
