"""lora_repro/decode.py against tests/beam_oracle.py: same tokens, same scores, fewer and smaller model calls."""

from __future__ import annotations

import random
import warnings
from types import SimpleNamespace
from typing import Any

import beam_oracle
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.cache_utils import DynamicCache

from lora_repro.beam_cache import place
from lora_repro.decode import BeamSearch, Decoded, Prompt
from lora_repro.errors import UserError
from lora_repro.selection import Ending, repeated_ngrams

V, EOS, PAD = 30, 0, 1
PIECES = ["<eos>", "<pad>", "\n", "\n\n", "a\n", "\nb", *(chr(97 + i) + " " for i in range(V - 6))]


class Pieces:
    """A tokenizer whose newlines come alone, doubled, and at either end of a word."""

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(PIECES[i] for i in ids)


def random_model(kind: str, seed: int, vocabulary: int = V, scale: float = 12.0) -> nn.Module:
    """A two-layer model with peaked outputs (nats between tokens), so that beams differ and end at many lengths."""
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "vocab_size": vocabulary,
        "tie_word_embeddings": False,
        "eos_token_id": 0,
        "bos_token_id": 0,
    }
    if kind == "gpt2":
        dropout = {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}
        model: nn.Module = GPT2LMHeadModel(
            GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=128, **dropout, **shape)
        )
    else:
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
        model = LlamaForCausalLM(
            LlamaConfig(hidden_size=16, num_hidden_layers=2, intermediate_size=32, **heads, **shape)
        )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, scale * 0.05 if "head" in name else 0.25)
    return model.eval()


def random_prompts(rng: random.Random, n: int, vocabulary: int = V) -> list[Prompt]:
    lengths = [rng.randint(1, 9) for _ in range(n)]
    return [Prompt([rng.randrange(vocabulary) for _ in range(k)], [-1] * k) for k in lengths]


def agree(
    search: BeamSearch, model: nn.Module, tokenizer: Any, prompts: list[Prompt], eos: int = EOS
) -> Decoded:
    """Decode, and hold every prompt against the oracle."""
    found = search.decode(model, tokenizer, prompts, eos, PAD)
    rule = (search.beam, search.max_new_tokens, search.length_penalty, search.no_repeat_ngram)
    for i, prompt in enumerate(prompts):
        tokens, score = beam_oracle.search(model, tokenizer, prompt.ids, prompt.virtual, eos, *rule)
        assert found.tokens[i] == tokens, (search, prompt)
        assert found.scores[i] == pytest.approx(score, abs=1e-4)
        assert found.outputs[i] == beam_oracle.text(tokenizer, tokens, eos)
    return found


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
    alone = agree(BeamSearch(beam=5, max_new_tokens=20, batch_size=1), model, Pieces(), prompts)
    assert len({len(tokens) for tokens in alone.tokens}) > 2  # the prompts leave the batch at different steps
    for size in range(2, 8):
        batched = BeamSearch(beam=5, max_new_tokens=20, batch_size=size).decode(
            model, Pieces(), prompts, EOS, PAD
        )
        assert batched.tokens == alone.tokens
        assert batched.steps == alone.steps == alone.forward_calls > batched.forward_calls


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


class Table(nn.Module):
    """A model whose logits depend on the last token only: row `t` of a table. Counts its calls."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table, requires_grad=False)
        self.shapes: list[tuple[int, ...]] = []

    def forward(
        self, input_ids: torch.Tensor, cache: Any = None, logits_to_keep: int = 0, **_: Any
    ) -> SimpleNamespace:
        self.shapes.append(tuple(input_ids.shape))
        cache = cache if cache is not None else DynamicCache()
        keys = input_ids[:, None, :, None].float()
        seen, _ = cache.update(keys, keys, 0)
        if seen.shape[2] > input_ids.shape[1]:
            assert torch.equal(seen[:, 0, -1, 0], input_ids[:, -1].float())
        self.seen = seen[:, 0, :, 0].long()
        return SimpleNamespace(logits=self.table[input_ids[:, -logits_to_keep:]].clone(), cache=cache)


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
    found = BeamSearch(beam=4, max_new_tokens=10, batch_size=3).decode(model, Pieces(), prompts, EOS, PAD)
    longest = max(len(prompt.ids) for prompt in prompts)
    assert model.shapes[0] == (3, longest)
    assert all(rows <= 12 and width == 1 for rows, width in model.shapes[1:])
    assert found.forward_calls == len(model.shapes)
    assert found.token_forwards == sum(rows * width for rows, width in model.shapes)


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


def test_early_stop_is_exact_and_saves_calls() -> None:
    table = torch.zeros(V, V)
    table[:, EOS] = 9.0  # every beam ends soon: no live sum / 64^p can exceed the best
    model = Table(table)
    found = agree(
        BeamSearch(beam=4, batch_size=2), model, Pieces(), [Prompt([7], [-1]), Prompt([8, 9], [-1, -1])]
    )
    assert found.tokens == [[EOS], [EOS]]
    assert found.forward_calls == found.steps // 2 < 10


def test_a_longer_better_hypothesis_is_waited_for() -> None:
    """The first end at length 1 scores log .4; a certain chain of 8 tokens scores log .6 / 8: the bound must not cut it."""
    table = torch.full((V, V), -30.0)
    table[6, [EOS, 7]] = torch.tensor([0.4, 0.6]).log()
    for token in range(7, 14):
        table[token, token + 1] = 0.0
    table[14, EOS] = 0.0
    found = agree(
        BeamSearch(beam=2, max_new_tokens=12, length_penalty=1.0), Table(table), Pieces(), [Prompt([6], [-1])]
    )
    assert found.tokens == [[*range(7, 15), EOS]]
    assert found.scores[0] == pytest.approx(torch.tensor(0.6).log().item() / 9, abs=1e-5)


def test_only_generated_ngrams_are_banned() -> None:
    table = torch.full((V, V), -20.0)
    for token in range(6, 10):
        table[token, 6 + (token - 5) % 4] = 5.0  # a cycle 6 7 8 9 6 ...
    prompt = Prompt([6, 7, 8, 9, 6], [-1] * 5)
    free = BeamSearch(beam=1, max_new_tokens=9, no_repeat_ngram=0).decode(
        Table(table), Pieces(), [prompt], EOS, PAD
    )
    assert free.tokens == [[7, 8, 9, 6, 7, 8, 9, 6, 7]]
    found = agree(BeamSearch(beam=1, max_new_tokens=9, no_repeat_ngram=4), Table(table), Pieces(), [prompt])
    assert found.tokens[0][:7] == [7, 8, 9, 6, 7, 8, 9]  # 6 7 8 9 stood in the prompt, and is allowed
    assert found.tokens[0][7] != 6  # 7 8 9 6 a second time


def test_repeated_ngrams_by_hand() -> None:
    history = torch.tensor([[3, 4, 3, 5, 3], [1, 1, 1, 1, 1], [1, 2, 3, 4, 5]])
    for n, expected in (
        (0, []),
        (2, [(0, 4), (0, 5), (1, 1)]),
        (3, [(1, 1)]),
        (1, [(0, 3), (0, 4), (0, 5), (1, 1)]),
    ):
        rows, tokens = repeated_ngrams(history, n)
        pairs = {*zip(rows.tolist(), tokens.tolist(), strict=True)}
        assert {pair for pair in pairs if pair[0] < 2} == set(expected)


def ends_last(ending: Ending, tokens: list[int]) -> bool:
    """Is the last token the first that ends the beam?"""
    return [ending(torch.tensor([tokens[: i + 1]]))[0] for i in range(len(tokens))] == [False] * (
        len(tokens) - 1
    ) + [True]


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ([7, 3], "b"),
        ([7, 2, 2], "b"),
        ([7, 4, 5], "b a"),
        ([7, 4, 2], "b a"),
        ([2, 7, 2, 8, EOS], "b \nc"),
        ([3], ""),
    ],
)
def test_a_blank_line_ends_a_beam_however_it_is_spelled(tokens: list[int], text: str) -> None:
    ending = Ending(Pieces(), EOS)
    assert ends_last(ending, tokens)
    assert ending.text(tokens) == text


def byte_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE({"<eos>": 0, "<pad>": 1, **{c: i + 2 for i, c in enumerate(alphabet)}}, [])
    )
    tokenizer.pre_tokenizer, tokenizer.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")


def test_a_real_byte_level_tokenizer() -> None:
    tokenizer = byte_tokenizer()
    ending = Ending(tokenizer, eos=0)
    tokens = tokenizer.encode(" a £5 pub.\nGood .\n\n")
    assert ends_last(ending, tokens) and ending.text(tokens) == "a £5 pub.\nGood ."
    tokens = [*tokenizer.encode(" a , b 's"), 0]
    assert ends_last(ending, tokens) and ending.text(tokens) == "a , b 's"
    model = random_model("llama", 8, vocabulary=len(tokenizer))
    agree(
        BeamSearch(beam=3, max_new_tokens=6),
        model,
        tokenizer,
        random_prompts(random.Random(8), 2, len(tokenizer)),
        0,
    )


def test_virtual_slots_reach_the_prompt_call_only() -> None:
    model, calls = random_model("llama", 9), []

    def take_virtual(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        calls.append(kwargs.pop("virtual", None))
        return args, kwargs

    model.model.register_forward_pre_hook(take_virtual, with_kwargs=True)
    prompts = [Prompt([5, 6, 7], [0, -1, 1]), Prompt([8], [-1])]
    agree(BeamSearch(beam=3, max_new_tokens=5, batch_size=2), model, Pieces(), prompts)
    assert calls[0].tolist() == [[0, -1, 1], [-1, -1, -1]]
    steps = BeamSearch(beam=3, max_new_tokens=5, batch_size=2)
    calls.clear()
    steps.decode(model, Pieces(), prompts, EOS, PAD)
    assert len(calls) > 1 and all(call is None for call in calls[1:])


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


def test_bf16_autocast_scores_in_float32_and_no_warnings() -> None:
    model, prompts = random_model("llama", 4), random_prompts(random.Random(4), 3)
    search = BeamSearch(beam=3, max_new_tokens=6, batch_size=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = search.decode(model, Pieces(), prompts, EOS, PAD)
    for prompt, tokens, score in zip(prompts, found.tokens, found.scores, strict=True):
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


@pytest.mark.parametrize(
    "settings",
    [
        {"beam": 0},
        {"max_new_tokens": 0},
        {"length_penalty": -0.5},
        {"length_penalty": float("nan")},
        {"no_repeat_ngram": -1},
    ]
    + [{"batch_size": 0}, {"beam": 2.5}, {"max_new_tokens": True}],
)
def test_settings_out_of_range(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"decode.{next(iter(settings))} must"):
        BeamSearch(**settings)


def test_inputs_that_cannot_be_decoded() -> None:
    model, prompt = Table(torch.zeros(V, V)), Prompt([5], [-1])
    with pytest.raises(UserError, match="empty prompt"):
        BeamSearch().decode(model, Pieces(), [Prompt([], [])], EOS, PAD)
    with pytest.raises(UserError, match="virtual slot"):
        BeamSearch().decode(model, Pieces(), [Prompt([5, 6], [-1])], EOS, PAD)
    with pytest.raises(UserError, match="exceeds the vocabulary"):
        BeamSearch(beam=V + 1).decode(model, Pieces(), [prompt], EOS, PAD)
    with pytest.raises(UserError, match="NaN"):
        BeamSearch().decode(Table(torch.full((V, V), torch.nan)), Pieces(), [prompt], EOS, PAD)
    with pytest.raises(UserError, match="banned"):  # unigrams of a two-token vocabulary without an end
        BeamSearch(beam=1, no_repeat_ngram=1).decode(
            Table(torch.zeros(2, 2)), Pieces(), [Prompt([1], [-1])], 5, PAD
        )


def test_decoding_leaves_eval_mode() -> None:
    model = random_model("gpt2", 1).train()
    BeamSearch(beam=1, max_new_tokens=1).decode(model, Pieces(), [Prompt([5], [-1])], EOS, PAD)
    assert not model.training
