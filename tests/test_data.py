"""Token ids, masks and batches, against sequences written out by hand."""

import pytest
import torch
from conftest import text_row, tiny_backbone

from lora_repro.data import (
    DataConfig,
    batches,
    collate,
    dev_subset,
    epoch_order,
    subset,
)
from lora_repro.errors import UserError
from lora_repro.objectives.completion import encode, encode_prompt
from lora_repro.tasks.base import Example, Splits


def example(text: str = "ab", target: str = "c") -> Example:
    return Example(key="k", input=text, target=target)


def test_a_golden_batch_of_ids_virtual_slots_attention_and_shifted_targets() -> None:
    backbone = tiny_backbone("gpt2")
    byte = {letter: backbone.tokenizer.encode(letter)[0] for letter in "ab cx\n"}
    rows = encode([example(), example("x", "cc")], backbone, (2, 1), max_length=64)
    eos = pad = backbone.eos
    a, b, space, c, x, newline = (byte[letter] for letter in "ab cx\n")
    assert rows[0].ids == [pad, pad, a, b, pad, newline, space, c, eos]
    assert rows[0].virtual == [0, 1, -1, -1, 2, -1, -1, -1, -1]
    assert rows[0].segments == [0, 0, 0, 0, 0, 0, 1, 1, 1]
    batch = collate(rows, pad)
    # The separator predicts the first completion token; the last completion token predicts EOS; EOS predicts nothing.
    assert batch.targets.tolist() == [
        [-100, -100, -100, -100, -100, space, c, eos, -100],
        [-100, -100, -100, -100, space, c, c, eos, -100],
    ]
    assert batch.attention.tolist() == [[1] * 9, [1] * 9]
    assert rows[1].ids == [pad, pad, x, pad, newline, space, c, c, eos]


def test_masks_come_from_lengths_even_where_pad_is_eos() -> None:
    batch = collate([text_row([5, 9, 7, 9], 2), text_row([5, 9, 7, 7, 7, 9], 2)], pad=9)
    assert batch.attention.tolist() == [[1, 1, 1, 1, 0, 0], [1] * 6]
    assert batch.targets[0].tolist() == [-100, 7, 9, -100, -100, -100]  # the real EOS (9) is scored, the padding (9) is not


def test_the_training_prompt_is_the_decoding_prompt() -> None:
    backbone = tiny_backbone("llama")
    prompt = encode_prompt("name : X", backbone, (3, 2))
    row = encode([example("name : X")], backbone, (3, 2), 99)[0]
    assert row.ids[: row.prompt_length] == prompt.ids and row.virtual[: row.prompt_length] == prompt.virtual


def test_epoch_order_covers_all_fills_the_last_batch_and_depends_on_seed_and_epoch_alone() -> None:
    order = epoch_order(10, 4, seed=3, epoch=1)
    flat = [i for batch in order for i in batch]
    assert [len(batch) for batch in order] == [4, 4, 4]
    assert sorted(flat[:10]) == list(range(10)) and all(0 <= i < 10 for i in flat)
    torch.rand(7)  # the global generator has no say
    assert order == epoch_order(10, 4, seed=3, epoch=1)
    assert order != epoch_order(10, 4, seed=3, epoch=2) and order != epoch_order(10, 4, seed=4, epoch=1)


def test_grouped_by_length_sixteen_batches_are_sorted_and_all_are_shuffled_again() -> None:
    lengths = [7 * i % 101 for i in range(70)]
    plain = [i for batch in epoch_order(70, 2, seed=3, epoch=1) for i in batch]
    pools = [sorted(plain[start : start + 32], key=lengths.__getitem__) for start in range(0, 70, 32)]
    alike = [pool[i : i + 2] for pool in pools for i in range(0, len(pool), 2)]
    order = epoch_order(70, 2, seed=3, epoch=1, lengths=lengths)
    assert sorted(order) == sorted(alike) and order != alike


def test_what_is_drawn_is_what_the_records_of_finished_runs_rest_on() -> None:
    """No run is named by it: with another draw an old record would answer for a run that comes out otherwise."""
    assert epoch_order(10, 4, seed=3, epoch=1) == [[3, 5, 7, 9], [8, 4, 6, 1], [0, 2, 6, 9]]
    examples = [Example(key=str(i), input="", target="") for i in range(20)]
    subsets = [[int(one.key) for one in subset(examples, 5, seed=0, last=last)] for last in (False, True)]
    assert subsets == [[4, 5, 7, 13, 19], [0, 1, 8, 12, 15]]


def test_subset_is_fixed_and_keeps_file_order() -> None:
    examples = [Example(key=str(i), input=str(i), target="t") for i in range(20)]
    sample = subset(examples, 5, seed=0)
    assert sample == subset(examples, 5, seed=0) != subset(examples, 5, seed=1)
    assert [int(e.key) for e in sample] == sorted(int(e.key) for e in sample)
    with pytest.raises(UserError, match="21 examples asked for, but the split has 20"):
        subset(examples, 21, seed=0)


def test_a_dev_set_that_is_scored_gives_its_last_rows_to_choose_and_its_first_to_report() -> None:
    rows = [Example(key=str(i), input=str(i), target="t") for i in range(20)]
    own = [Example(key=f"dev {i}", input=str(i), target="t") for i in range(20)]
    data = DataConfig(n_dev=8, n_test=12)
    dev = dev_subset(Splits([], rows, rows, "", {}), data)
    test = subset(rows, 12, 0)
    assert [int(e.key) for e in dev] == sorted(int(e.key) for e in dev) and len(dev) == 8
    assert not {e.key for e in dev} & {e.key for e in test}
    # The same ones, however many a search or another run would answer; all of them where none are counted.
    for other in (DataConfig(n_dev=8, n_test=0), DataConfig(n_dev=8, n_test=None)):
        assert dev_subset(Splits([], rows, rows, "", {}), other) == dev
    assert dev_subset(Splits([], rows, rows, "", {}), DataConfig(n_test=12)) == rows
    assert dev_subset(Splits([], own, rows, "", {}), data) == subset(own, 8, 0)  # a dev set of its own: as ever
    with pytest.raises(UserError, match="21 examples asked for"):
        dev_subset(Splits([], rows, rows, "", {}), DataConfig(n_dev=21))


def test_evaluation_sees_every_row_once() -> None:
    rows = [text_row(list(range(n)), 1) for n in (5, 3, 9, 2, 4)]
    pairs = list(batches(rows, 2, pad=0, device=torch.device("cpu")))
    assert [indices for indices, _ in pairs] == [[3, 1], [4, 0], [2]]
    assert [batch.lengths.tolist() for _, batch in pairs] == [[2, 3], [4, 5], [9]]


@pytest.mark.parametrize("target, length", [(" ", 64), ("c", 4)])
def test_an_empty_or_overlong_example_is_an_error_not_a_cut(target: str, length: int) -> None:
    with pytest.raises(UserError):
        encode([example(target=target)], tiny_backbone("gpt2"), (0, 0), length)


def test_sizes_below_one_are_refused() -> None:
    for wrong in (0, "1k", 2.5):
        with pytest.raises(UserError, match="n_train"):
            DataConfig(n_train=wrong)  # type: ignore[arg-type]


def test_no_two_seeds_share_an_order() -> None:
    """Seeds would not be independent, and their spread too small."""
    assert len({str(epoch_order(40, 8, seed, epoch)) for seed in range(5) for epoch in range(10)}) == 50
