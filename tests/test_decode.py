"""lora_repro/decode against tests/beam_oracle.py: same tokens, same scores, fewer and smaller model calls."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest
import torch
from decode_models import EOS, PAD, Pieces, Table, V, agree, asked, random_model, random_prompts
from torch import nn

from lora_repro.decode.beam import BeamSearch
from lora_repro.errors import UserError


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("ngram", [0, 2, 4])
@pytest.mark.parametrize("penalty", [0.0, 0.6, 0.8, 0.9, 1.0, 1.5])
def test_token_identical_to_the_oracle(kind: str, penalty: float, ngram: int) -> None:
    for seed in range(3):
        rng = random.Random(f"{kind} {penalty} {ngram} {seed}")
        model = random_model(kind, rng.randrange(10**6), scale=rng.choice([4.0, 12.0, 30.0]))
        search = BeamSearch(
            rng.randint(1, 10), rng.randint(1, 14), penalty, ngram, batch_size=rng.randint(1, 7)
        )
        agree(search, model, Pieces(), random_prompts(rng, rng.randint(1, 5)))


def test_batch_size_changes_nothing() -> None:
    model, prompts = random_model("llama", 3), random_prompts(random.Random(3), 9)
    reference = agree(BeamSearch(beam=5, max_new_tokens=20, batch_size=1), model, Pieces(), prompts)
    assert len({len(tokens) for tokens in reference.tokens}) > 2  # the prompts leave the batch at different steps
    for size in range(2, 8):
        output = BeamSearch(beam=5, max_new_tokens=20, batch_size=size).decode(
            model, Pieces(), prompts, EOS, PAD
        )
        assert output.tokens == reference.tokens
        assert output.steps == reference.steps == reference.forward_calls > output.forward_calls


def test_ties_go_to_the_lower_flat_index() -> None:
    for seed in range(30):
        rng = random.Random(seed)
        levels = torch.tensor([0.0, 0.0, 1.0, 2.0])
        table = levels[torch.tensor([[rng.randrange(4) for _ in range(V)] for _ in range(V)])]
        # every row has the same logsumexp, so that sums tie between beams, too
        table = torch.stack([table[0][torch.tensor(rng.sample(range(V), V))] for _ in range(V)])
        search = BeamSearch(
            rng.randint(1, 10), 6, rng.choice([0.0, 0.9]), rng.choice([0, 2]), rng.randint(1, 4)
        )
        agree(search, Table(table), Pieces(), random_prompts(rng, 4))


def test_prompt_tokens_run_once_and_then_one_token_per_live_beam() -> None:
    model, prompts = Table(torch.randn(V, V)), random_prompts(random.Random(0), 3)
    output = BeamSearch(beam=4, max_new_tokens=10, batch_size=3).decode(model, Pieces(), prompts, EOS, PAD)
    longest = max(len(prompt.ids) for prompt in prompts)
    assert model.shapes[0] == (3, longest)
    assert all(rows <= 12 and width == 1 for rows, width in model.shapes[1:])
    assert output.forward_calls == len(model.shapes)


def test_early_stop_is_exact_and_saves_calls() -> None:
    table = torch.zeros(V, V)
    table[:, EOS] = 9.0  # every beam ends soon: no live sum / 64^p can exceed the best
    model = Table(table)
    output = agree(
        BeamSearch(beam=4, batch_size=2), model, Pieces(), [asked([7], [-1]), asked([8, 9], [-1, -1])]
    )
    assert output.tokens == [[EOS], [EOS]]
    assert output.forward_calls == output.steps // 2 < 10


def test_a_longer_better_hypothesis_is_waited_for() -> None:
    """The first end at length 1 scores log .4; a certain chain of 8 tokens scores log .6 / 8: the bound must not cut it."""
    table = torch.full((V, V), -30.0)
    table[6, [EOS, 7]] = torch.tensor([0.4, 0.6]).log()
    for token in range(7, 14):
        table[token, token + 1] = 0.0
    table[14, EOS] = 0.0
    output = agree(
        BeamSearch(beam=2, max_new_tokens=12, length_penalty=1.0), Table(table), Pieces(), [asked([6], [-1])]
    )
    assert output.tokens == [[*range(7, 15), EOS]]
    assert output.scores[0] == pytest.approx(torch.tensor(0.6).log().item() / 9, abs=1e-5)


def test_only_generated_ngrams_are_banned() -> None:
    table = torch.full((V, V), -20.0)
    for token in range(6, 10):
        table[token, 6 + (token - 5) % 4] = 5.0  # a cycle 6 7 8 9 6 ...
    prompt = asked([6, 7, 8, 9, 6], [-1] * 5)
    free = BeamSearch(beam=1, max_new_tokens=9, no_repeat_ngram=0).decode(
        Table(table), Pieces(), [prompt], EOS, PAD
    )
    assert free.tokens == [[7, 8, 9, 6, 7, 8, 9, 6, 7]]
    output = agree(BeamSearch(beam=1, max_new_tokens=9, no_repeat_ngram=4), Table(table), Pieces(), [prompt])
    assert output.tokens[0][:7] == [7, 8, 9, 6, 7, 8, 9]  # 6 7 8 9 stood in the prompt, and is allowed
    assert output.tokens[0][7] != 6  # 7 8 9 6 a second time


def test_virtual_slots_reach_the_prompt_call_only() -> None:
    model, calls = random_model("llama", 9), []

    def take_virtual(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        calls.append(kwargs.pop("virtual", None))
        return args, kwargs

    model.model.register_forward_pre_hook(take_virtual, with_kwargs=True)
    prompts = [asked([5, 6, 7], [0, -1, 1]), asked([8], [-1])]
    agree(BeamSearch(beam=3, max_new_tokens=5, batch_size=2), model, Pieces(), prompts)
    assert calls[0].tolist() == [[0, -1, 1], [-1, -1, -1]]
    steps = BeamSearch(beam=3, max_new_tokens=5, batch_size=2)
    calls.clear()
    steps.decode(model, Pieces(), prompts, EOS, PAD)
    assert len(calls) > 1 and all(call is None for call in calls[1:])


def test_bf16_autocast_scores_in_float32_and_no_warnings() -> None:
    model, prompts = random_model("llama", 4), random_prompts(random.Random(4), 3)
    search = BeamSearch(beam=3, max_new_tokens=6, batch_size=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = search.decode(model, Pieces(), prompts, EOS, PAD)
    for prompt, tokens, score in zip(prompts, output.tokens, output.scores, strict=True):
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(input_ids=torch.tensor([prompt.ids + tokens])).logits[0].float()
        logp = torch.log_softmax(logits, -1)[len(prompt.ids) - 1 : -1].gather(
            1, torch.tensor(tokens)[:, None]
        )
        assert score == pytest.approx(logp.sum().item() / len(tokens) ** 0.9, abs=0.1)
        assert score != float(torch.tensor(score).bfloat16())


def test_progress_counts_every_prompt_once() -> None:
    ticks: list[int] = []
    prompts = random_prompts(random.Random(6), 7)
    BeamSearch(beam=2, max_new_tokens=9, batch_size=3).decode(
        random_model("gpt2", 6), Pieces(), prompts, EOS, PAD, progress=ticks.append
    )
    assert sum(ticks) == 7 and all(tick > 0 for tick in ticks)
    assert BeamSearch().decode(random_model("gpt2", 6), Pieces(), [], EOS, PAD).outputs == []


def test_inputs_that_cannot_be_decoded() -> None:
    model, prompt = Table(torch.zeros(V, V)), asked([5], [-1])
    with pytest.raises(UserError, match="empty prompt"):
        BeamSearch().decode(model, Pieces(), [asked([], [])], EOS, PAD)
    with pytest.raises(UserError, match="virtual slot"):
        BeamSearch().decode(model, Pieces(), [asked([5, 6], [-1])], EOS, PAD)
    with pytest.raises(UserError, match="exceeds the vocabulary"):
        BeamSearch(beam=V + 1).decode(model, Pieces(), [prompt], EOS, PAD)
    with pytest.raises(UserError, match="NaN"):
        BeamSearch().decode(Table(torch.full((V, V), torch.nan)), Pieces(), [prompt], EOS, PAD)
    with pytest.raises(UserError, match="bans every token"):  # unigrams of a two-token vocabulary without an end
        BeamSearch(beam=1, no_repeat_ngram=1).decode(
            Table(torch.zeros(2, 2)), Pieces(), [asked([1], [-1])], 5, PAD
        )


def test_decoding_leaves_eval_mode() -> None:
    model = random_model("gpt2", 1).train()
    BeamSearch(beam=1, max_new_tokens=1).decode(model, Pieces(), [asked([5], [-1])], EOS, PAD)
    assert not model.training
