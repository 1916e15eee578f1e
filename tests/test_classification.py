"""Sentence tasks: templates written out, batches, the objective against slow arithmetic, heads against transformers' own."""

from __future__ import annotations

import functools
import itertools
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SHAPES, refused, tiny_backbone
from torch import nn

from lora_repro.backbone.model import Backbone
from lora_repro.backbone.spec import BackboneSpec
from lora_repro.data import Batch, Encoded, Rows, collate
from lora_repro.methods.cosine import Cosine
from lora_repro.methods.linear_probe import LinearProbe
from lora_repro.methods.prompt_tuning import PromptTuning
from lora_repro.objectives.base import position_keywords
from lora_repro.objectives.classification import (
    HALVES,
    Classification,
    Labeller,
    encode_sentence,
    features_of,
    logits_of,
)
from lora_repro.objectives.tokens import token_ids
from lora_repro.tasks.base import Example
from lora_repro.train.loop import TrainConfig, silent, train

EOS = "<|endoftext|>"
DEBERTA = {  # as deberta-v2-xxlarge, whose convolution could see padding
    "model_type": "deberta-v2", "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64,
    "num_attention_heads": 4, "relative_attention": True, "pos_att_type": "p2c|c2p", "norm_rel_ebd": "layer_norm",
    "share_att_key": True, "position_biased_input": False, "position_buckets": 4, "type_vocab_size": 0,
    "conv_kernel_size": 3, "conv_act": "gelu",
}  # fmt: skip
# RoBERTa has one kind of segment; transformers' default has two.
ALL_SHAPES = {**SHAPES, "roberta": {**SHAPES["roberta"], "type_vocab_size": 1}, "deberta-v2": DEBERTA}
DECODERS, ENCODERS = ["gpt2", "llama"], ["bert", "roberta", "mpnet", "deberta-v2"]
LABELS = ("no", "yes", "maybe")
every_architecture = pytest.mark.parametrize("architecture", [*DECODERS, *ENCODERS])

# BERT has one token between two sentences, RoBERTa two; each special token is one that no text here holds.
CLS, SEPARATOR, PAD = "~", {"bert": "|", "roberta": "||", "mpnet": "||", "deberta-v2": "|"}, "}"


def byte(letter: str) -> int:
    """The id of a printable ASCII letter: the byte tokenizer's alphabet is sorted and starts at `!`."""
    return ord(letter) - ord("!")


def codes(text: str) -> list[int]:
    return [byte(letter) for letter in text]


def classifier(architecture: str, n_labels: int = 3, pad: str = EOS, **settings: Any) -> Backbone:
    """A tiny random classifier. Its matrices are large, so that what must not matter would show if it did."""
    encoder = architecture in ENCODERS
    spec = BackboneSpec(
        name=f"tiny_{architecture}",
        label=f"random {architecture}",
        source="random",
        separator=SEPARATOR.get(architecture, "|"),
        eos=EOS,
        pad=pad,
        cls=CLS if encoder else None,
        shape=ALL_SHAPES[architecture],
        head="classification",
        n_labels=n_labels,
        **settings,
    )
    backbone = spec.load()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in backbone.model.parameters():
            if parameter.dim() == 2:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return backbone


@functools.cache
def shared(architecture: str, n_labels: int = 3, pooling: str | None = None, pad: str = EOS) -> Backbone:
    """`classifier`, built once: for tests that change nothing of it."""
    return classifier(architecture, n_labels, pad, pooling=pooling)


def row_of(
    example: Example, label: float, backbone: Backbone, slots: tuple[int, int], length: int
) -> tuple[Encoded, int]:
    """The row of one example, as `Classification.encode` makes it."""
    texts = [example.input, *([] if example.second is None else [example.second])]
    first, *second = token_ids(texts, backbone.tokenizer)
    return encode_sentence(first, second[0] if second else None, label, backbone, slots, length)


def example(first: str, second: str | None = None, target: str = "") -> Example:
    return Example("k", first, target, (), second)


WORDS = ["a", "the-quick-brown-fox", "ok", "jumps", "over-the-lazy-dog", "x-y", "seven77", "zz"]


def examples(pairs: bool = True, regression: bool = False, n: int = 8) -> list[Example]:
    """Inputs of quite different lengths, in no order of length."""
    targets = ["0.5", "3.25", "5.000", "1.75"] if regression else list(LABELS)
    return [
        example(
            WORDS[i % 8], WORDS[(3 * i + 1) % 8] * (1 + i % 2) if pairs else None, targets[i % len(targets)]
        )
        for i in range(n)
    ]


def encoded(backbone: Backbone, regression: bool = False, n: int = 8) -> list[Encoded]:
    task = Classification(() if regression else LABELS)
    return task.encode(examples(regression=regression, n=n), backbone, (0, 0), 100)[0]


def one_by_one(backbone: Backbone, rows: list[Encoded]) -> torch.Tensor:
    """(B, n_labels) logits of each row without any padding."""
    with torch.no_grad():
        batches = [collate([row], backbone.pad) for row in rows]
        return torch.cat([logits_of(backbone, features_of(backbone, batch)) for batch in batches])


# --- one row


@pytest.mark.parametrize(
    ("architecture", "second", "slots", "text", "virtual", "segments"),
    [
        # text: the tokens, with "." for eos (the end, and what holds a slot's place)
        ("bert", None, (0, 0), "~ab.", "....", "0000"),
        ("bert", "cde", (0, 0), "~ab|cde.", "........", "00001111"),
        ("bert", None, (2, 1), "~..ab..", ".01..2.", "0000000"),
        ("bert", "cde", (2, 1), "~..ab|cde..", ".01......2.", "00000011111"),
        ("bert", "", (0, 2), "~ab|...", "....01.", "0000111"),
        ("roberta", None, (0, 0), "~ab.", "....", "0000"),
        ("roberta", "cde", (0, 0), "~ab||cde.", ".........", "000001111"),
        ("roberta", "cde", (1, 2), "~.ab||cde...", ".0.......12.", "000000111111"),
        ("gpt2", None, (0, 0), "ab.", "...", "000"),
        ("gpt2", "cde", (0, 0), "ab|cde.", ".......", "0001111"),
        ("gpt2", "cde", (2, 3), "..ab|cde....", "01......234.", "000001111111"),
        ("llama", None, (1, 0), ".ab.", "0...", "0000"),
        ("mpnet", "cde", (0, 0), "~ab||cde.", ".........", "000001111"),
        ("deberta-v2", "cde", (0, 0), "~ab|cde.", "........", "00001111"),
    ],
)
def test_templates(
    architecture: str, second: str | None, slots: tuple[int, int], text: str, virtual: str, segments: str
) -> None:
    backbone = shared(architecture)
    row, cut = row_of(example("ab", second), 2.0, backbone, slots, 64)
    assert backbone.eos == 256
    assert row.ids == [256 if letter == "." else byte(letter) for letter in text]
    assert row.virtual == [-1 if letter == "." else int(letter) for letter in virtual]
    assert row.segments == [int(letter) for letter in segments]
    assert (row.label, cut, row.features) == (2.0, 0, None)


def test_a_slot_is_held_by_eos_and_not_by_pad() -> None:
    backbone = shared("roberta", pad=PAD)
    row, _ = row_of(example("ab"), 0.0, backbone, (2, 1), 64)
    assert backbone.pad == byte(PAD) and byte(PAD) not in row.ids
    assert [row.ids[i] for i in (1, 2, 5)] == [256] * 3


def literal(first: str, second: str | None, room: int) -> tuple[str, str, int]:
    """The longer loses its last letter, the second one where they are equally long; once more until both fit."""
    a, b, steps = first, second or "", 0
    while len(a + b) > room:
        if len(a) > len(b):
            a = a[:-1]
        else:
            b = b[:-1]
        steps += 1
    return a, b, steps


@pytest.mark.parametrize("architecture, slots", [("gpt2", (0, 0)), ("roberta", (2, 1))])
def test_truncation_equals_a_literal_loop(architecture: str, slots: tuple[int, int]) -> None:
    backbone = shared(architecture)
    start = [byte(CLS)] if architecture == "roberta" else []
    for n, m, room in itertools.product(range(7), [None, *range(7)], range(2, 9)):
        first, second = "abcdefg"[:n], None if m is None else "tuvwxyz"[:m]
        between = [] if second is None else backbone.separator
        length = len(start) + sum(slots) + len(between) + 1 + room
        a, b, steps = literal(first, second, room)
        row, cut = row_of(example(first, second), 0.0, backbone, slots, length)
        slot_ids = [256] * slots[0], [256] * slots[1]
        assert row.ids == [*start, *slot_ids[0], *codes(a), *between, *codes(b), *slot_ids[1], 256]
        assert cut == steps
        assert len(row.ids) <= length and (not cut or len(row.ids) == length)
        assert len(row.virtual) == len(row.segments) == len(row.ids)
        assert [i for i in row.virtual if i >= 0] == list(range(sum(slots)))
        assert sum(row.segments) == (0 if second is None else len(b) + slots[1] + 1)


@pytest.mark.parametrize(("architecture", "second", "slots", "least"), [("gpt2", None, (0, 0), 3), ("roberta", "b", (2, 3), 11)])
def test_two_tokens_of_text_must_fit(architecture: str, second: str | None, slots: tuple[int, int], least: int) -> None:
    backbone = shared(architecture)
    assert len(row_of(example("abcdef", second), 0.0, backbone, slots, least)[0].ids) == least
    for length in (least - 1, 0):
        refused(lambda n=length: row_of(example("a", second), 0.0, backbone, slots, n), f"data.max_length={length}")


# --- batches


def golden_rows() -> list[Encoded]:
    return [
        Encoded([5, 9, 7, 9], [-1, 0, -1, -1], [0, 0, 1, 1], 4, 1),
        Encoded([5, 9, 7, 7, 7, 9], [-1, -1, -1, -1, 1, -1], [0, 0, 0, 1, 1, 1], 6, 0),
    ]


@pytest.mark.parametrize("pad", [9, 3])
def test_a_golden_batch(pad: int) -> None:
    batch = collate(golden_rows(), pad)
    assert batch.ids.tolist() == [[5, 9, 7, 9, pad, pad], [5, 9, 7, 7, 7, 9]]
    # Of lengths: where the padding is eos (9), the real eos (9) is attended to and the padding is not.
    assert batch.attention.tolist() == [[1, 1, 1, 1, 0, 0], [1] * 6]
    assert batch.virtual.tolist() == [[-1, 0, -1, -1, -1, -1], [-1, -1, -1, -1, 1, -1]]
    assert batch.segments.tolist() == [[0, 0, 1, 1, 0, 0], [0, 0, 0, 1, 1, 1]]
    assert batch.lengths.tolist() == [4, 6] and batch.labels.tolist() == [1, 0]
    assert {x.dtype for x in (batch.ids, batch.attention, batch.segments, batch.labels)} == {torch.long}
    numbers = collate([replace(row, label=row.label + 0.75) for row in golden_rows()], pad).labels
    assert numbers.tolist() == [1.75, 0.75] and numbers.dtype == torch.float32
    assert batch.features is None and batch.tokens == 12 and (batch.targets == -100).all()


def test_features_are_batched_only_if_every_row_has_them() -> None:
    rows = [replace(row, features=torch.full((3,), float(i))) for i, row in enumerate(golden_rows())]
    batch = collate(rows, 9)
    assert batch.features is not None and batch.features.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert collate([rows[0], golden_rows()[1]], 9).features is None


def test_a_batch_moves_as_a_whole_but_for_its_slots_which_are_sought_on_the_host() -> None:
    batch = collate([replace(row, features=torch.zeros(3)) for row in golden_rows()], 9)
    copy = batch.to(torch.device("meta"))
    assert torch.equal(copy.virtual, batch.virtual)
    for name in ("ids", "attention", "segments", "targets", "lengths", "labels", "features"):
        value = getattr(copy, name)
        assert value.device.type == "meta"
        assert value.shape == getattr(batch, name).shape and value.dtype == getattr(batch, name).dtype
    assert collate(golden_rows(), 9).to(torch.device("cpu")).features is None


# --- encoding a split


def test_encode_counts_the_rows_that_were_cut_and_keeps_their_order() -> None:
    task, inputs = Classification(LABELS), examples(pairs=False)
    rows, cut = task.encode(inputs, shared("gpt2"), (0, 0), 8)
    assert [row.ids for row in rows] == [[*codes(e.input[:7]), 256] for e in inputs]
    assert cut == sum(len(e.input) > 7 for e in inputs) == 2
    assert [row.label for row in rows] == [0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 0.0, 1.0]
    assert task.encode(inputs, shared("gpt2"), (0, 0), 64)[1] == 0
    assert [task.count(row) for row in rows] == [1] * 8


def test_labels_are_places_in_the_task_s_own_order() -> None:
    for labels in itertools.permutations(LABELS):
        task = Classification(labels)
        rows, _ = task.encode([example("a", target=t) for t in (*labels, "")], shared("gpt2"), (0, 0), 9)
        assert [row.label for row in rows] == [0.0, 1.0, 2.0, 0.0]
    with pytest.raises(ValueError):
        Classification(LABELS).encode([example("a", target="perhaps")], shared("gpt2"), (0, 0), 9)


def test_numbers_are_read_from_their_texts() -> None:
    inputs = [example("a", target=text) for text in ("5.000", "0.0", "-1.5e-1", "")]
    rows, _ = Classification(()).encode(inputs, shared("gpt2", 1), (0, 0), 9)
    assert [row.label for row in rows] == [5.0, 0.0, -0.15, 0.0]
    assert Classification(()).regression and not Classification(LABELS).regression


# What a body can tell apart: the whole table, but RoBERTa's of 258 from behind its pad token's.
POSITIONS = {"gpt2": 256, "bert": 512, "llama": 2048, "roberta": 256}


@pytest.mark.parametrize("architecture", list(POSITIONS))
def test_more_positions_than_the_model_has_are_refused(architecture: str) -> None:
    backbone, limit = shared(architecture), POSITIONS[architecture]
    long = [example("a" * 3000)]
    rows, cut = Classification(LABELS).encode(long, backbone, (0, 0), limit)
    assert (len(rows[0].ids), cut) == (limit, 1)
    assert one_by_one(backbone, rows).isfinite().all()
    refused(lambda: Classification(LABELS).encode(long, backbone, (0, 0), limit + 1), f"={limit + 1}", f"{limit} positions")


# --- from hidden states to logits


@every_architecture
@pytest.mark.parametrize(("pooling", "pad"), [("first", EOS), ("last", PAD), ("mean", EOS)])
def test_padding_changes_no_logits(architecture: str, pooling: str, pad: str) -> None:
    backbone = shared(architecture, pooling=pooling, pad=pad)
    rows = encoded(backbone)
    assert len({len(row.ids) for row in rows}) > 4
    logits = one_by_one(backbone, rows)
    assert (
        logits.shape == (8, 3) and float(logits.std(dim=0).min()) > 1e-3
    )  # rows differ, so a mix-up would show
    with torch.no_grad():
        batch = collate(rows, backbone.pad)
        batch_logits = logits_of(backbone, features_of(backbone, batch))
        torch.testing.assert_close(batch_logits, logits, atol=1e-5, rtol=0)
        # The same batch without its mask, or with every row's length the longest's, is off by far more.
        wide = replace(
            batch, attention=torch.ones_like(batch.attention), lengths=batch.lengths * 0 + batch.ids.shape[1]
        )
        wrong = logits_of(backbone, features_of(backbone, wide))
    if not (architecture in DECODERS and pooling == "first"):
        assert float((wrong - logits).abs().max()) > 1e-3


@every_architecture
def test_logits_equal_those_of_transformers_own_classifier(architecture: str) -> None:
    backbone = shared(architecture)
    assert backbone.pooling == ("last" if architecture in DECODERS else "first")
    for row in encoded(backbone):
        ids = torch.tensor([row.ids])
        extra = {"token_type_ids": torch.tensor([row.segments])} if architecture == "bert" else {}
        with torch.no_grad():
            expected = backbone.model(input_ids=ids, attention_mask=torch.ones_like(ids), **extra).logits
        assert sum(row.segments) > 0 and expected.shape == (1, 3)
        torch.testing.assert_close(one_by_one(backbone, [row]), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", [*DECODERS, "bert", "roberta"])
def test_what_each_pooling_reads(architecture: str) -> None:
    rows = encoded(shared(architecture))[:3]
    features = {}
    for pooling in ("first", "last", "mean"):
        backbone = shared(architecture, pooling=pooling)
        with torch.no_grad():
            features[pooling] = features_of(backbone, collate(rows, backbone.pad))
    body: Any = shared(architecture).decoder
    for b, row in enumerate(rows):
        extra = {"token_type_ids": torch.tensor([row.segments])} if architecture == "bert" else {}
        with torch.no_grad():
            out = body(input_ids=torch.tensor([row.ids]), **extra)
        hidden = out.last_hidden_state[0]  # (T, d)
        first = out.pooler_output[0] if architecture == "bert" else hidden[0]
        torch.testing.assert_close(features["first"][b], first, atol=1e-5, rtol=0)
        torch.testing.assert_close(features["last"][b], hidden[-1], atol=1e-5, rtol=0)
        mean = sum(hidden[t] for t in range(len(row.ids))) / len(row.ids)
        torch.testing.assert_close(features["mean"][b], mean, atol=1e-5, rtol=0)


def test_what_each_pooling_reads_of_virtual_slots() -> None:
    """A mean is over the slots, too (docs/protocol.md); the first position is none."""
    for pooling in ("mean", "first"):
        backbone = classifier("bert", pooling=pooling)
        PromptTuning(prefix=2, infix=1, init="gaussian", std=1.0).apply(backbone)
        rows = [row_of(example(text), 0.0, backbone, (2, 1), 100)[0] for text in ("abc", "a longer text")]
        batch = collate(rows, backbone.pad)
        with torch.no_grad():
            features = features_of(backbone, batch)
            keywords = position_keywords(backbone, batch)
            hidden = backbone.hidden(batch.ids, batch.attention, token_type_ids=batch.segments, **keywords)
            for b, row in enumerate(rows):
                every, text = hidden[b, : len(row.ids)], [place for place, slot in enumerate(row.virtual) if slot < 0]
                assert len(text) == len(row.ids) - 3
                if pooling == "first":
                    torch.testing.assert_close(features[b], backbone.decoder.pooler(every[None])[0])
                    continue
                torch.testing.assert_close(features[b], every.mean(dim=0))
                assert float((features[b] - every[text].mean(dim=0)).abs().max()) > 1e-3


class Recorder(nn.Module):
    """A body that keeps the names of what it is given, and returns zeros of `width`."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.width = width
        self.given: dict[str, Any] = {}

    def forward(self, **given: Any) -> Any:
        self.given = given
        return type("Out", (), {"last_hidden_state": torch.zeros(*given["input_ids"].shape, self.width)})


@every_architecture
@pytest.mark.parametrize("slots", [(0, 0), (1, 1)])
def test_the_body_is_told_of_slots_and_segments_where_it_can_use_them(
    architecture: str, slots: tuple[int, int]
) -> None:
    backbone = classifier(architecture)
    rows, _ = Classification(LABELS).encode(examples(), backbone, slots, 64)
    batch = collate(rows, backbone.pad)
    recorder = Recorder(backbone.model.config.hidden_size)
    backbone.decoder = recorder
    backbone.table = replace(backbone.table, packs=False)
    features_of(backbone, batch)
    expected = {"input_ids": batch.ids, "attention_mask": batch.attention}
    if sum(slots):
        expected["virtual"] = batch.virtual
    if architecture == "bert":
        expected["token_type_ids"] = batch.segments
    assert recorder.given.pop("use_cache", True) is (architecture not in DECODERS)
    assert recorder.given.keys() == expected.keys()
    assert all(recorder.given[name] is value for name, value in expected.items())


# --- the objective


def batch_of(backbone: Backbone, regression: bool = False) -> Batch:
    return collate(encoded(backbone, regression), backbone.pad)


@pytest.mark.parametrize(("architecture", "smoothing"), [("llama", 0.0), ("bert", 0.1)])
def test_the_loss_of_classes_is_literal(architecture: str, smoothing: float) -> None:
    backbone = shared(architecture)
    rows = encoded(backbone)
    total = 0.0
    for logits, row in zip(one_by_one(backbone, rows).double().tolist(), rows, strict=True):
        normaliser = math.log(sum(math.exp(x) for x in logits))
        for c, x in enumerate(logits):
            target = (1 - smoothing) * (c == row.label) + smoothing / 3
            total -= target * (x - normaliser)
    loss = Classification(LABELS).summed(backbone, batch_of(backbone), smoothing)
    assert loss.shape == () and float(loss) == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_number_is_its_squared_error(smoothing: float) -> None:
    backbone = shared("roberta", 1)
    rows = encoded(backbone, regression=True)
    predictions = one_by_one(backbone, rows)[:, 0].double().tolist()
    total = sum((x - row.label) ** 2 for x, row in zip(predictions, rows, strict=True))
    assert [row.label for row in rows[:4]] == [0.5, 3.25, 5.0, 1.75]
    loss = Classification(()).summed(backbone, batch_of(backbone, regression=True), smoothing)
    assert float(loss) == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("regression", [False, True])
def test_micro_batches_add_up_to_the_whole_batch(regression: bool) -> None:
    backbone = classifier("bert", 1 if regression else 3)
    head: Any = backbone.classifier[-1]
    head.weight.requires_grad_(True)
    task = Classification(() if regression else LABELS)
    rows = encoded(backbone, regression)

    def mean(sizes: list[int]) -> tuple[float, torch.Tensor]:
        head.weight.grad, total, start = None, 0.0, 0
        for size in sizes:
            part = rows[start : start + size]
            loss = task.summed(backbone, collate(part, backbone.pad), 0.1) / sum(map(task.count, rows))
            loss.backward()
            total, start = total + float(loss.detach()), start + size
        return total, head.weight.grad

    full_loss, gradient = mean([8])
    assert float(gradient.abs().max()) > 1e-3
    for sizes in ([4, 4], [1, 5, 2], [1] * 8):
        micro_loss, its_gradient = mean(sizes)
        assert micro_loss == pytest.approx(full_loss, rel=1e-5)
        torch.testing.assert_close(its_gradient, gradient, atol=1e-5, rtol=0)


# --- validation and answers


def expected_answers(backbone: Backbone, rows: list[Encoded], regression: bool) -> list[str]:
    logits = one_by_one(backbone, rows).tolist()
    if regression:
        return [f"{values[0]:.4f}" for values in logits]
    return [LABELS[values.index(max(values))] for values in logits]


@pytest.mark.parametrize(("architecture", "size"), [("gpt2", 1), ("gpt2", 8), ("bert", 3), ("bert", 64)])
def test_answers_are_in_order_whatever_the_batch_size(architecture: str, size: int) -> None:
    backbone = shared(architecture)
    rows, sizes = encoded(backbone), []
    expected = expected_answers(backbone, rows, regression=False)
    assert len({*expected}) > 1
    answers, calls = Classification(LABELS, decoder=Labeller(size)).answer(backbone, rows, sizes.append)
    assert answers == expected
    assert calls == len(sizes) == math.ceil(8 / size) and sum(sizes) == 8


@pytest.mark.parametrize("size", [1, 3, 64])
def test_numbers_are_answered_with_four_decimals_in_order(size: int) -> None:
    backbone = shared("bert", 1)
    rows = encoded(backbone, regression=True)
    answers, _ = Classification((), decoder=Labeller(size)).answer(backbone, rows, lambda n: None)
    assert all(re.fullmatch(r"-?\d+\.\d{4}", text) for text in answers) and len({*answers}) == 8
    expected = expected_answers(backbone, rows, regression=True)
    assert [float(text) for text in answers] == pytest.approx([float(text) for text in expected], abs=1.01e-4)


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_the_untouched_encoder_answers_a_pair_by_the_cosine_of_its_sentences_each_on_its_own(architecture: str) -> None:
    backbone = classifier(architecture, 1, pooling="mean")
    Cosine().apply(backbone)
    texts = [("one two", "three"), ("a longer sentence", "one two"), ("x", "x"), ("so", "another sentence")]
    examples = [Example(f"{i}", one, "1", second=other) for i, (one, other) in enumerate(texts)]
    rows, _ = Classification(()).ask(examples, backbone, (0, 0), 64)
    answers, _ = Classification((), decoder=Labeller(3)).answer(backbone, rows, lambda n: None)

    def vector(text: str) -> torch.Tensor:
        ids = torch.tensor([[*backbone.cls, *token_ids([text], backbone.tokenizer)[0], backbone.eos]])
        with torch.no_grad():
            return backbone.model.base_model(ids).last_hidden_state[0].mean(0)

    literal = [float(torch.nn.functional.cosine_similarity(vector(one), vector(other), dim=0)) for one, other in texts]
    assert [float(answer) for answer in answers] == pytest.approx(literal, abs=1e-4) and answers[2] == "1.0000"
    single = [replace(examples[0], second=None)]
    refused(lambda: Classification(LABELS).ask(examples, backbone, (0, 0), 64), "method=cosine", "task=stsb")
    refused(lambda: Classification(()).ask(single, backbone, (0, 0), 64), "method=cosine", "task=stsb")


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("size", [1, 3, 64])
def test_validation_is_a_mean_over_rows_whatever_the_batch_size(regression: bool, size: int) -> None:
    backbone = shared("roberta", 1 if regression else 3)
    rows, pairs = encoded(backbone, regression, n=7), []

    def score(answers: list[str], gold: list[str]) -> float:
        pairs.append((answers, gold))
        return 0.25

    logits = one_by_one(backbone, rows).double()
    labels = torch.tensor([row.label for row in rows], dtype=torch.float64)
    if regression:
        expected = float(((logits[:, 0] - labels) ** 2).mean())
        gold = [float(e.target) for e in examples(regression=True, n=7)]
    else:
        expected = float(-logits.log_softmax(1)[torch.arange(7), labels.long()].mean())
        gold = [e.target for e in examples(n=7)]
    task = Classification(() if regression else LABELS, score)
    metrics = task.validate(backbone, rows, size)
    assert metrics == {"dev_loss": pytest.approx(expected, rel=1e-4)} | dict.fromkeys(("dev_score", *HALVES), 0.25)
    answers, right = pairs[0]
    assert pairs[1:] == [(answers[half::2], right[half::2]) for half in (0, 1)]
    assert answers == task.answer(backbone, rows, lambda n: None)[0]
    assert ([float(text) for text in right] if regression else right) == gold
    assert replace(task, score=None).validate(backbone, rows, size).keys() == {"dev_loss"}


def test_one_held_out_row_has_a_score_and_half_of_it_none() -> None:
    backbone = shared("bert", 2)
    task = Classification(LABELS, lambda answers, gold: len(answers) / len(gold))
    metrics = task.validate(backbone, encoded(backbone)[:1], 4)
    assert metrics["dev_score"] == metrics[HALVES[0]] == 1 and math.isnan(metrics[HALVES[1]])


def test_nothing_is_differentiated_while_answering() -> None:
    backbone = classifier("bert")
    for parameter in backbone.model.parameters():
        parameter.requires_grad_(True)
    rows = encoded(backbone)
    task = Classification(LABELS)
    assert task.summed(backbone, batch_of(backbone), 0.0).requires_grad
    cache = task.frozen(backbone, rows, 4, 1)
    assert not any(row.features.requires_grad for row in cache if row.features is not None)
    task.validate(backbone, rows, 4)
    assert all(parameter.grad is None for parameter in backbone.model.parameters())


def test_the_best_checkpoint_has_the_highest_score_or_else_the_lowest_loss() -> None:
    by_loss, by_score = Classification(LABELS), Classification(LABELS, lambda answers, gold: 0.0)
    assert by_loss.figure({"dev_loss": 0.75}) == 0.75
    assert by_score.figure({"dev_loss": 0.75, "dev_score": 0.5}) == -0.5
    # An undefined correlation is worse than the worst one, and never equal to anything better.
    nan_figure = by_score.figure({"dev_loss": 0.0, "dev_score": math.nan})
    assert nan_figure == math.inf > by_score.figure({"dev_loss": 9.0, "dev_score": -1.0})
    numbers, backbone = Classification((), lambda answers, gold: math.nan), shared("bert", 1)
    assert math.isnan(numbers.validate(backbone, encoded(backbone, regression=True), 4)["dev_score"])


def test_predictions_that_are_no_numbers_are_not_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop sees the loss and says that the run has diverged; a scorer would refuse `nan` as the user's mistake."""
    backbone = shared("bert", 1)
    task = Classification((), lambda answers, gold: pytest.fail("scored"))
    monkeypatch.setattr(Classification, "_logits", lambda self, backbone, batch: torch.full((len(batch.labels), 1), math.nan))
    metrics = task.validate(backbone, encoded(backbone, regression=True), 4)
    assert list(metrics) == ["dev_loss"] and math.isnan(metrics["dev_loss"])


def test_a_batch_size_below_one_is_refused() -> None:
    assert Labeller().batch_size == 64 and Labeller(1).batch_size == 1
    for size in (0, -1):
        refused(lambda n=size: Labeller(n), "decode.batch_size", f"not {size}")


# --- cached features of a frozen body


@every_architecture
@pytest.mark.parametrize("size", [3, 64])
def test_cached_rows_give_the_same_logits_without_the_body(architecture: str, size: int) -> None:
    backbone = classifier(architecture)
    task, rows = Classification(LABELS), encoded(backbone)
    before, expected = task.validate(backbone, rows, 3), one_by_one(backbone, rows)
    cache = task.frozen(backbone, rows, size, 1)
    assert [replace(row, features=None) for row in cache] == rows
    assert all(row.features is not None and row.features.shape == (32,) for row in cache)
    assert all(row.features is None for row in rows)
    backbone.decoder = Recorder()  # whose features are zeros of another width
    with torch.no_grad():
        logits = task._logits(backbone, collate(cache, backbone.pad))
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
    assert task.validate(backbone, cache, 3) == {"dev_loss": pytest.approx(before["dev_loss"], rel=1e-5)}
    assert backbone.decoder.given == {}


def test_cached_features_have_no_dropout_and_the_mode_comes_back() -> None:
    backbone = classifier("bert", dropout=0.5)
    task, rows = Classification(LABELS), encoded(backbone)
    expected = one_by_one(backbone, rows)
    for mode in (True, False):
        backbone.model.train(mode)
        cache = task.frozen(backbone, rows, 4, 1)
        assert backbone.model.training is mode and backbone.decoder.training is mode
        backbone.model.eval()
        with torch.no_grad():
            logits = task._logits(backbone, collate(cache, backbone.pad))
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


def test_a_head_is_drawn_alike_wherever_the_model_is() -> None:
    """Random directions only move the head that a run began with, and its files do not have it."""
    states = []
    for device in ("cpu", "meta"):
        backbone = classifier("bert")
        backbone.model.to(device)
        torch.manual_seed(0)
        backbone.reset_head()
        states.append(torch.get_rng_state())  # what was drawn, was drawn by the CPU's generator
    assert torch.equal(*states)


def probed(architecture: str, folder: Path, cache: bool, dropout: float) -> dict[str, torch.Tensor]:
    """The head after three epochs of linear probing, on features kept once or computed at every step."""
    backbone = classifier(architecture, dropout=dropout)
    torch.manual_seed(0)
    backbone.reset_head()
    trainable = LinearProbe().apply(backbone)
    task, rows = Classification(LABELS), encoded(backbone)
    if cache:
        rows = task.frozen(backbone, rows, 3, 1)
        backbone.decoder = Recorder()  # the body is not asked again
    settings = TrainConfig(lr=1e-2, epochs=3, batch_size=4, warmup=0, precision="fp32", select="last")
    train(backbone, trainable, Rows(rows, rows), task, settings, 0, folder, silent)
    return {name: parameter.detach().clone() for name, parameter in trainable.head.items()}


@pytest.mark.parametrize("architecture", ["gpt2", "bert", "roberta"])
def test_training_on_cached_features_gives_the_uncached_head_unless_the_body_has_dropout(
    architecture: str, tmp_path: Path
) -> None:
    start = head_of(classifier(architecture))
    once = probed(architecture, tmp_path / "a", cache=True, dropout=0.0)
    always = probed(architecture, tmp_path / "b", cache=False, dropout=0.0)
    assert once and once.keys() == always.keys()
    for name, weight in once.items():
        torch.testing.assert_close(weight, always[name], atol=1e-5, rtol=0)
        assert (weight - start[name]).abs().max() > 1e-2
    noisy = probed(architecture, tmp_path / "c", cache=False, dropout=0.5)
    assert max(float((weight - noisy[name]).abs().max()) for name, weight in once.items()) > 1e-3


# --- a new head


def head_of(backbone: Backbone) -> dict[str, torch.Tensor]:
    body = {id(parameter) for parameter in backbone.decoder.parameters()}
    return {n: p for n, p in backbone.model.named_parameters() if id(p) not in body}


def fresh_head(
    architecture: str, seed: int, weights: int = 0, before: float = 0.0
) -> dict[str, torch.Tensor]:
    backbone = classifier(architecture, random_seed=weights)
    with torch.no_grad():
        for parameter in head_of(backbone).values():
            parameter.fill_(before)
    torch.manual_seed(seed)
    backbone.reset_head()
    return head_of(backbone)


HEADS = {
    "gpt2": {"score.weight"},
    "llama": {"score.weight"},
    "bert": {"classifier.weight", "classifier.bias"},
    "roberta": {f"classifier.{part}.{kind}" for part in ("dense", "out_proj") for kind in ("weight", "bias")},
    "mpnet": {f"classifier.{part}.{kind}" for part in ("dense", "out_proj") for kind in ("weight", "bias")},
    "deberta-v2": {
        f"{part}.{kind}" for part in ("pooler.dense", "classifier") for kind in ("weight", "bias")
    },
}


@every_architecture
def test_a_new_head_depends_on_the_seed_alone(architecture: str) -> None:
    backbone = classifier(architecture)
    before = {name: value.clone() for name, value in backbone.decoder.state_dict().items()}
    torch.manual_seed(7)
    backbone.reset_head()
    head = head_of(backbone)
    assert head.keys() == HEADS[architecture]
    assert all(torch.equal(value, before[name]) for name, value in backbone.decoder.state_dict().items())
    again = fresh_head(architecture, seed=7, weights=3, before=9.0)
    other = fresh_head(architecture, seed=8)
    for name, value in head.items():
        assert torch.equal(value, again[name])
        if name.endswith("bias"):
            assert not value.any()
        else:
            assert not torch.equal(value, other[name])
            assert float(value.std()) == pytest.approx(0.02, rel=0.25) and abs(float(value.mean())) < 0.008


@pytest.mark.parametrize("architecture", DECODERS)
def test_a_language_model_gets_no_new_head(architecture: str) -> None:
    backbone = tiny_backbone(architecture)
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    state = torch.get_rng_state()
    backbone.reset_head()
    assert all(torch.equal(value, before[name]) for name, value in backbone.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
