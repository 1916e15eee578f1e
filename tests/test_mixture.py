"""Several sentence tasks as one, and the multi-task adapter that it trains: frozen then, with a head a task."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import tiny_backbone

from lora_repro.config.compose import build, compose, resolved
from lora_repro.errors import UserError
from lora_repro.methods.adapter_p import AdapterP
from lora_repro.methods.base import Shape
from lora_repro.planning.cells import cells, with_starts
from lora_repro.run import run
from lora_repro.run.stages import trained_tensors
from lora_repro.tasks.glue.mixture import Mixture, drawn

ASKED = ["task=mixture", "profile=smoke"]


def mixed(*overrides: str) -> Mixture:
    task = build(compose([*ASKED, *overrides]).task)
    assert isinstance(task, Mixture)
    return task


def test_every_row_of_every_task_is_there_under_its_own_label() -> None:
    task = mixed()
    members = [build(compose([f"task={name}", "profile=smoke"]).task).load(None) for name in task.names]
    mix = task.load(None)
    assert [row.input for row in mix.train] == [row.input for splits in members for row in splits.train]
    assert [row.second for row in mix.test] == [row.second for splits in members for row in splits.test]
    assert task.labels[:4] == tuple(f"{n}: {x}" for n, x in zip(
        ["sentiment"] * 2 + ["entailment"] * 2, ["negative", "positive", "entailment", "not_entailment"], strict=True
    ))  # fmt: skip
    assert task.labels[4:] == tuple(f"similarity: {n}" for n in range(6))
    numbers = members[2].train
    for one, example in zip(numbers, mix.train[-len(numbers) :], strict=True):
        label = int(example.target.removeprefix("similarity: "))
        assert abs(label - float(one.target)) <= 0.5
    assert {row.target for row in mix.train} == set(task.labels) and {row.references[0] for row in mix.test} <= set(task.labels)


def test_no_row_that_chooses_for_one_task_is_trained_on_and_none_counts_for_more_than_most() -> None:
    task = mixed("task.most=20", "task.held_out=5")
    mix = task.load(None)
    assert len(mix.train) == 60 and len(mix.dev) == 15
    inputs = {row.input for name in task.names for row in build(compose([f"task={name}", "profile=smoke"]).task).load(None).dev}
    assert {row.input for row in mix.dev} <= inputs
    sentiment = build(compose(["task=sentiment", "profile=smoke"]).task).load(None)
    assert {row.input for row in mix.train[:20]} <= {row.input for row in sentiment.train} and mix.train == task.load(None).train


def test_a_member_that_holds_out_nothing_holds_out_as_many_as_the_mixture() -> None:
    """Else what chooses for the mixture at the paper's scale would be rows that are reported."""
    overrides = ["task=mixture", "profile=paper", "task.names=[mrpc,rte]"]
    default, with_dev = (build(resolved(compose([*overrides, *more]))["task"]) for more in ([], ["task.held_out=250"]))
    assert [member.held_out for member in default.members] == [0, 0] and [
        member.held_out for member in with_dev.members
    ] == [250, 250]


def test_its_size_is_known_without_its_data() -> None:
    task = build(resolved(compose(["task=mixture", "profile=laptop", "task.names=[rte,cola]", "task.most=3000"]))["task"])
    assert task.rows == {"train": 2490 - 250 + 3000 + task.held_out, "test": 277 + 1043} and mixed().rows == {}


def test_a_pair_is_asked_as_a_pair_and_a_sentence_as_one() -> None:
    pair, one = mixed().ask("A man sleeps. || A man is asleep."), mixed().ask("A good film.")
    assert (pair.input, pair.second) == ("A man sleeps.", "A man is asleep.") and one.second is None
    pairs = build(resolved(compose(["task=mixture", "task.names=[entailment,similarity]"]))["task"])
    with pytest.raises(UserError, match="takes two sentences"):
        pairs.ask("A good film.")


def test_it_is_scored_as_one_task() -> None:
    rows = mixed().load(None).test
    right = [row.references[0] for row in rows]
    scores = mixed().score([*right[:-1], "sentiment: negative"], rows)
    assert scores.values == {"accuracy": pytest.approx(1 - 1 / len(rows))} and len(scores.per_input) == len(rows)


@pytest.mark.parametrize(("override", "why"), [
    ("task.names=[rte]", "two different tasks"), ("task.names=[sentiment,sentiment]", "two different tasks"),
    ("task.names=[sentiment,e2e]", "e2e answers with text"), ("task.names=[sentiment,mixture]", "task.names must be a list"),
    ("task.names=[sentiment,nothing]", "nothing"), ("task.metrics=[f1]", "scored by accuracy alone"),
])  # fmt: skip
def test_what_cannot_be_mixed_is_refused_in_a_line(override: str, why: str) -> None:
    with pytest.raises(UserError, match=why) as error:
        build(resolved(compose([*ASKED, override]))["task"])
    assert "\n" not in str(error.value)


def test_one_adapter_of_all_tasks_stays_as_it_is_under_a_new_head(tmp_path: Path) -> None:
    base = ["experiment=fusion", "row/fusion=multi_task", "profile=smoke", f"paths.runs={tmp_path}"]
    runs = with_starts(cells([*base, "task=sentiment,entailment"]))
    assert [(cell.row.name, cell.task) for cell in runs] == [
        ("adapter_p", "mixture"), ("multi_task", "sentiment"), ("multi_task", "entailment"),
    ]  # fmt: skip
    overrides = [*base, "task=entailment"]
    record = run.run(compose(overrides), overrides)
    start, own = (trained_tensors(folder) for folder in (runs[0].folder, tmp_path / "smoke" / record["signature"]))
    adapters = {name for name in start if ".adapter." in name}
    assert adapters and all(torch.equal(own[name], start[name]) for name in adapters)
    assert record["measured"]["parameters"]["method"] == 0 and record["measured"]["parameters"]["head"] > 0
    assert any(name not in adapters and own[name].shape != start.get(name, own[name]).shape for name in own)  # 2 classes, not 10


def test_frozen_adapters_come_from_one_trained_run() -> None:
    method = AdapterP(bottleneck=3, frozen=True)
    backbone = tiny_backbone("bert")
    trainable = method.apply(backbone)
    assert not trainable.method and len(trainable.kept) == 8 and method.count(Shape.of(backbone)) == 0
    assert not any(parameter.requires_grad for parameter in trainable.kept.values())
    weights = {name: torch.randn_like(parameter) for name, parameter in trainable.kept.items()}
    method.begin(trainable, [weights])
    assert all(torch.equal(parameter, weights[name]) for name, parameter in trainable.kept.items())
    fresh_weights = {name: torch.zeros_like(value) if name.endswith(".bias") else value for name, value in weights.items()}
    with pytest.raises(UserError, match="that run trained nothing"):
        method.begin(trainable, [fresh_weights])
    for n in (0, 2):
        with pytest.raises(UserError, match=f"needs one run to start from, not {n}"):
            method.check_starts(n)


def test_rows_are_drawn_and_not_the_first() -> None:
    """STS-B's and CoLA's files are sorted by source."""
    rows = list(range(100))
    sample = drawn(rows, 10)
    assert list(sample) == sorted(set(sample)) and len(sample) == 10 and list(sample) != rows[:10] and max(sample) > 50
    assert drawn(rows, None) is rows and drawn(rows, 100) is rows and drawn(rows, 10) == sample
