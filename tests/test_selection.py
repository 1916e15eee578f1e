"""lora_repro/decode/selection.py: repeated n-grams and the ends of beams, by hand."""

from __future__ import annotations

import random

import pytest
import torch
from decode_models import (
    EOS,
    PAD,
    Pieces,
    Table,
    V,
    agree,
    asked,
    byte_tokenizer,
    random_model,
    random_prompts,
)

from lora_repro.decode.beam import BeamSearch
from lora_repro.decode.selection import Ending, repeated_ngrams, top_entries, top_per_row


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


@pytest.mark.parametrize("blank_line, output", [(True, "b"), (False, "b \n\nc")])
def test_an_answer_may_have_paragraphs_where_a_blank_line_does_not_end_it(blank_line: bool, output: str) -> None:
    table = torch.full((V, V), -20.0)
    for token, following in ((6, 7), (7, 3), (3, 8), (8, EOS)):
        table[token, following] = 5.0
    search = BeamSearch(beam=2, max_new_tokens=6, length_penalty=0.0, no_repeat_ngram=0, blank_line=blank_line)
    assert search.decode(Table(table), Pieces(), [asked([6], [-1])], EOS, PAD).outputs == [output]


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


def test_top_per_row_takes_the_lower_ids_of_a_tie() -> None:
    generator = torch.Generator().manual_seed(0)
    for k in (1, 3, 8):
        logits = torch.randint(0, 4, (40, 8), generator=generator).float()
        logp = logits.log_softmax(-1)
        owner = torch.arange(40)  # one row a prompt: every tie at the border counts
        values, ids = top_per_row(logits, k, torch.zeros(40, dtype=torch.double), owner)
        for row in range(40):
            expected = sorted(range(8), key=lambda i: (-logp[row, i].item(), i))[:k]
            assert sorted(ids[row].tolist()) == sorted(expected)
            assert torch.equal(values[row], logp[row, ids[row]])


@pytest.mark.parametrize("vocabulary", [5, 128, 300, 50257 // 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_top_entries_are_those_of_topk_to_the_bit(vocabulary: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(vocabulary)
    logits = torch.randn(19, vocabulary, generator=generator).to(dtype)
    logits[0, : vocabulary // 2], logits[1, -1] = -torch.inf, 9.0
    for k in {1, 4, min(vocabulary, 11), vocabulary}:
        logp = logits.log_softmax(-1, dtype=torch.float32)
        values, ids = top_entries(logp, k)
        assert torch.equal(values, logp.topk(k).values)
        assert torch.equal(logp.gather(1, ids), values)
        assert all(len(set(row)) == k for row in ids.tolist())
