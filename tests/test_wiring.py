"""What is declared reaches what computes: settings, seeds, splits and starts, each against a literal of its own.

Tests that compare a run with itself (resumed, packed, on two ranks) cannot see a setting that no run reads.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import text_row, tiny_backbone
from torch import nn

from lora_repro.backbone.model import Backbone
from lora_repro.config.compose import build, compose
from lora_repro.data import DataConfig, Encoded, Rows, collate, epoch_order, subset, training_batches
from lora_repro.errors import Preempted
from lora_repro.files import sealed
from lora_repro.methods._subspace import Moved
from lora_repro.methods.adapter_h import AdaptedOutput, AdapterH
from lora_repro.methods.base import AbstractMethod, Trainable
from lora_repro.methods.intrinsic_dimension import IntrinsicDimension
from lora_repro.methods.lora import Lora, LoraPart
from lora_repro.methods.pissa import Pissa
from lora_repro.methods.update import updates
from lora_repro.methods.vera import Vera
from lora_repro.objectives.completion import Completion
from lora_repro.run import run, stages
from lora_repro.run.stages import objective_of
from lora_repro.tasks.base import Example, Splits
from lora_repro.train import loop
from lora_repro.train.loop import TrainConfig, train
from lora_repro.train.ranks import Ranks

CPU = torch.device("cpu")
ROWS = Rows([text_row([65 + i % 20, 66, 10, 32, 70 + i % 7, 256], 3) for i in range(22)], [text_row([80, 66, 10, 81, 256], 3)])
CONFIG = TrainConfig(lr=1e-2, epochs=2, batch_size=4, warmup=0, precision="fp32", select="last")


@pytest.mark.parametrize(
    "method", [Lora(rank=2, dropout=0.3), Pissa(rank=2, alpha=2, dropout=0.3), Vera(rank=4, dropout=0.3)], ids=lambda m: m.name
)
def test_the_dropout_of_an_update_is_the_method_s(method: AbstractMethod) -> None:
    backbone = tiny_backbone("llama")
    method.apply(backbone)
    modules: list[Any] = list(updates(backbone.model))
    assert modules and {one.dropout.p for one in modules} == {0.3}


def test_lora_s_start_is_the_method_s() -> None:
    """`gaussian` draws N(0, std^2): the spread of A is the std that was asked for, and not Kaiming's."""
    for std in (0.01, 0.5):
        backbone = tiny_backbone("llama")
        Lora(rank=16, init="gaussian", std=std).apply(backbone)
        samples = torch.cat([part.A.flatten() for part in backbone.model.modules() if isinstance(part, LoraPart)])
        assert float(samples.detach().std()) == pytest.approx(std, rel=0.1)


@pytest.mark.parametrize("name, literal", [("silu", F.silu), ("tanh", torch.tanh), ("relu", F.relu), ("gelu", F.gelu)])
def test_an_adapter_has_the_activation_that_was_asked_for(name: str, literal: Any) -> None:
    backbone = tiny_backbone("bert")
    AdapterH(bottleneck=3, activation=name).apply(backbone)
    adapter = next(one for one in backbone.model.modules() if isinstance(one, AdaptedOutput)).adapter
    h = torch.randn(5, 32)
    for linear in (adapter.down, adapter.up):
        nn.init.normal_(linear.weight)
    torch.testing.assert_close(adapter(h), h + adapter.up(literal(adapter.down(h))))


def test_an_adapter_s_start_is_cut_off_or_not_as_asked() -> None:
    for init, std in (("normal", 0.01), ("normal", 0.03), ("gaussian", 0.02)):
        backbone = tiny_backbone("bert")
        AdapterH(bottleneck=500, init=init, std=std).apply(backbone)
        weight = next(one for one in backbone.model.modules() if isinstance(one, AdaptedOutput)).adapter.down.weight.detach()
        cut = 0.88 if init == "normal" else 1.0  # the standard deviation of a normal that is cut off at two of its own
        assert float(weight.std()) == pytest.approx(cut * std, rel=0.03)
        assert (float(weight.abs().max()) > 2.5 * std) == (init == "gaussian")


def test_every_matrix_has_random_directions_of_its_own() -> None:
    def seeds(projection_seed: int) -> list[int]:
        backbone = tiny_backbone("gpt2")
        IntrinsicDimension(d=9, projection_seed=projection_seed).apply(backbone)
        return [one.projection.seed for one in backbone.model.modules() if isinstance(one, Moved)]

    first, second = seeds(0), seeds(1)
    assert len(first) > 20 and len(set(first + second)) == len(first) + len(second)


def test_new_values_are_drawn_from_the_seed() -> None:
    def drawn(seed: int) -> torch.Tensor:
        spec = stages.backbone_of(compose(["profile=smoke", "task=sentiment"]))
        model = stages.adapt(spec, Lora(rank=2), seed, CPU)
        parts = [part.A.detach() for part in model.backbone.model.modules() if isinstance(part, LoraPart)]
        return torch.cat([*(part.flatten() for part in parts), model.backbone.head.module.weight.detach().flatten()])

    assert torch.equal(drawn(1), drawn(1)) and not torch.isclose(drawn(0), drawn(1)).any()


def lengths(count: int = 70) -> list[Encoded]:
    return [text_row([65] * (4 + i * 7 % 13), 3) for i in range(count)]


@pytest.mark.parametrize("by_length", [False, True])
def test_batches_are_those_of_the_epochs_in_turn_from_where_a_run_stopped(by_length: bool) -> None:
    rows = lengths()
    sizes = [len(row.ids) for row in rows] if by_length else None
    literal = [*epoch_order(70, 4, 3, 0, sizes)[2:], *epoch_order(70, 4, 3, 1, sizes), *epoch_order(70, 4, 3, 2, sizes)]
    batches = itertools.islice(training_batches(rows, 4, 3, by_length, 2), len(literal))
    assert [[id(row) for row in batch] for batch in batches] == [[id(rows[i]) for i in batch] for batch in literal]
    assert literal[:18] != epoch_order(70, 4, 3, 0, sizes)  # the next epoch has another order


def test_a_training_takes_its_batches_by_its_seed_and_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int, bool, int]] = []
    plain = loop.training_batches

    def spied(rows: list[Encoded], *how: Any) -> Any:
        assert rows is ROWS.train
        calls.append(how)
        return plain(rows, *how)

    monkeypatch.setattr(loop, "training_batches", spied)
    for seed, by_length in ((7, False), (8, True)):
        settings = dataclasses.replace(CONFIG, group_by_length=by_length, steps=1)
        train(*prepared(), ROWS, Completion(), settings, seed, tmp_path / str(seed))
    assert calls == [(4, 7, False, 0), (4, 8, True, 0)]


def prepared() -> tuple[Backbone, Trainable]:
    backbone = tiny_backbone("llama")
    torch.manual_seed(0)
    return backbone, Lora(rank=2).apply(backbone)


def test_what_is_validated_is_the_dev_rows_once_per_epoch(tmp_path: Path) -> None:
    """With the loss written out; and a checkpoint is kept once per epoch, too, unless a step count is asked for."""
    checkpoints: list[list[str]] = []

    def log(step: int, values: dict[str, float]) -> None:
        checkpoints.append(sorted(path.name for path in tmp_path.glob("step_*")))

    backbone, trainable = prepared()
    result = train(backbone, trainable, ROWS, Completion(), CONFIG, 7, tmp_path, log)
    assert [step for step, _ in result.dev_losses] == [6, 12]  # ceil(22 / 4) steps an epoch
    assert {name for names in checkpoints for name in names} == {"step_00000006"}
    batch = collate(ROWS.dev, backbone.pad)
    with torch.no_grad():
        logits = backbone.model(input_ids=batch.ids).logits
    assert result.dev_losses[-1][1] == pytest.approx(float(F.cross_entropy(logits[0], batch.targets[0])), abs=1e-5)


def test_training_rows_and_dev_rows_are_encoded_as_what_they_are() -> None:
    backbone = tiny_backbone("gpt2")
    examples = [[Example(f"{letter}{i}", letter * (i + 1), "x") for i in range(6)] for letter in "abc"]
    data = DataConfig(n_train=4, n_dev=3, max_length=32)
    rows = stages.encode(Splits(*examples, caption="", hashes={}), Completion(), backbone, Lora(rank=2), data)
    for split, letter, n in ((rows.train, "a", 4), (rows.dev, "b", 3)):
        inputs = [backbone.tokenizer.decode(row.ids[: row.prompt_length]) for row in split]
        assert len(split) == n and all(set(text.strip()) == {letter} for text in inputs), inputs


def test_a_few_shot_run_shows_training_examples_before_each_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shots: list[list[Example]] = []
    prompts: list[Encoded] = []
    plain, ask = stages.answer, Completion.ask

    def answered(*how: Any) -> Any:
        shots.append(list(how[7]))
        return plain(*how)

    def asked(self: Completion, *how: Any) -> Any:
        rows, cut = ask(self, *how)
        prompts.extend(rows)
        return rows, cut

    monkeypatch.setattr(run, "answer", answered)
    monkeypatch.setattr(Completion, "ask", asked)
    few = ["profile=smoke", "task=wikisql", "method=untuned", "data.shots=2", "data.max_length=2048", "data.n_test=1", "seed=3"]
    config = compose([*few, f"paths.runs={tmp_path}"])
    run.run(config)
    splits = build(config.task).load(None)
    assert [[one.key for one in each] for each in shots] == [[one.key for one in subset(splits.train, 2, 3)]]
    text = stages.backbone_of(config).load().tokenizer.decode(prompts[0].ids)
    assert all(one.target in text for one in shots[0])


def test_how_a_text_is_decoded_is_what_the_configuration_says() -> None:
    """GPT-3's tasks are decoded greedily without a penalty, the released E2E scripts with 0.8."""
    for values in ((3, 0.5, 2), (1, 0.0, 0)):
        settings = dict(zip(("beam", "length_penalty", "no_repeat_ngram"), values, strict=True))
        config = compose(["profile=smoke", "task=e2e", *(f"decode.{key}={value}" for key, value in settings.items())])
        decoder: Any = objective_of(config).decoding
        assert {key: getattr(decoder, key) for key in settings} == settings


def test_seconds_of_earlier_attempts_count(tmp_path: Path) -> None:
    backbone, trainable = prepared()
    settings = dataclasses.replace(CONFIG, checkpoint_every=2)

    def log(step: int, values: dict[str, float]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Preempted):
        train(backbone, trainable, ROWS, Completion(), settings, 7, tmp_path, log)
    (path,) = tmp_path.glob("step_*/state.json")
    path.write_text(json.dumps(sealed({**json.loads(path.read_text()), "seconds": 1000.0})))
    result = train(*prepared(), ROWS, Completion(), settings, 7, tmp_path)
    assert 1000 < result.seconds < 1100


def test_each_rank_drops_other_values_and_a_resumed_step_the_same() -> None:
    def drawn(rank: int, seed: int, step: int) -> float:
        Ranks(CPU, rank, 2).seed(seed, step)
        return float(torch.rand(()))

    places = [(rank, seed, step) for rank in (0, 1) for seed in (0, 1) for step in (1, 2)]
    draws = [drawn(*place) for place in places]
    assert len(set(draws)) == len(draws) and draws == [drawn(*place) for place in places]
