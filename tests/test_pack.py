"""Trainings in lockstep over one frozen backbone, against the same trainings alone."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import text_row, tiny_backbone

from lora_repro.backbone.model import Backbone
from lora_repro.data import Encoded, Rows
from lora_repro.errors import Preempted, UserError
from lora_repro.methods.base import AbstractMethod
from lora_repro.methods.full import Full
from lora_repro.methods.lora import Lora
from lora_repro.objectives.base import Objective
from lora_repro.objectives.classification import Classification
from lora_repro.objectives.completion import Completion
from lora_repro.stages import Adapted, Pack, adapt
from lora_repro.sweep import tune
from lora_repro.train.loop import TrainConfig, own_gradients, silent, train
from lora_repro.train.pack import Joint, Member, gradients, train_together
from lora_repro.train.precision import loss_scaler
from lora_repro.train.progress import Trained
from lora_repro.train.ranks import Ranks

CPU = torch.device("cpu")
# A large eps: else AdamW makes steps of full length of what rounding does to gradients near zero.
CONFIG = TrainConfig(
    eps=1e-2, lr=1e-2, epochs=2, batch_size=4, warmup=0.2, precision="fp32", eval_every=3, checkpoint_every=2
)
RATES, SEEDS = (6e-3, 2e-3, 1e-2), (7, 8, 7)
TEXTS = [
    text_row([65 + i % 20, 66, *[10] * (i % 4), 32, 70 + i % 7, *[71 + i % 5] * (1 + i % 3), 256], 3 + i % 4) for i in range(22)
]
TARGETS = {"llama": ("query", "value", "mlp"), "gpt2": ("query", "value"), "bert": ("query", "output"), "roberta": ("key", "mlp")}


def labelled(row: Encoded, label: float) -> Encoded:
    return dataclasses.replace(row, segments=[0] * len(row.ids), prompt_length=len(row.ids), label=label)


def accuracy(answers: list[str], gold: list[str]) -> float:
    return sum(a == b for a, b in zip(answers, gold, strict=True)) / len(gold)


def of(architecture: str) -> tuple[Objective, Rows]:
    if architecture in ("llama", "gpt2"):
        return Completion(), Rows(TEXTS, TEXTS[:5])
    rows = [labelled(row, i % 2) for i, row in enumerate(TEXTS)]
    return Classification(("a", "b"), accuracy), Rows(rows, rows[:6])


class Spec:
    """What `Pack` and `adapt` ask of a backbone's specification."""

    def __init__(self, architecture: str) -> None:
        self.architecture = architecture

    def load(self) -> Backbone:
        shape = {} if self.architecture in ("llama", "gpt2") else {"n_labels": 2}
        return tiny_backbone(self.architecture, **shape)


def packed(
    architecture: str, folder: Path, rates: Sequence[float] = RATES, config: TrainConfig = CONFIG, stop_at: int | None = None,
    method: AbstractMethod | None = None,
) -> tuple[list[Trained], list[Adapted], Joint]:  # fmt: skip
    objective, rows = of(architecture)
    pack = Pack.of(Spec(architecture), None, CPU)  # type: ignore[arg-type]
    method = method or Lora(rank=2, dropout=0.0, targets=TARGETS[architecture])
    models = [adapt(pack, method, seed, CPU) for seed in SEEDS]
    joint = pack.joined([model.backbone for model in models])

    def log(step: int, values: dict[str, float]) -> None:
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    members = []
    for number, (model, lr, seed) in enumerate(zip(models, rates, SEEDS, strict=True)):
        own, told = dataclasses.replace(config, lr=lr), log if number == 1 else silent
        members.append(Member(model.backbone, model.trainable, own, seed, folder / f"{number}", told, "x"))
    return train_together(joint, members, rows, objective), models, joint


def alone(architecture: str, folder: Path, lr: float, seed: int, config: TrainConfig = CONFIG) -> tuple[Trained, Adapted]:
    objective, rows = of(architecture)
    model = adapt(Spec(architecture), Lora(rank=2, dropout=0.0, targets=TARGETS[architecture]), seed, CPU)
    config = dataclasses.replace(config, lr=lr)
    return train(model.backbone, model.trainable, rows, objective, config, seed, folder), model


@pytest.mark.parametrize("asking", [(0, 1, 2), (2, 0), (1,)])
@pytest.mark.parametrize("batching", ["packed", "padded"])
@pytest.mark.parametrize("architecture", list(TARGETS))
def test_a_shared_step_gives_each_member_the_gradients_of_its_own(
    architecture: str, batching: str, asking: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backbone, "batching", batching)
    objective, rows = of(architecture)
    _, models, joint = packed(architecture, tmp_path)  # B is not zero any more
    members = [Member(model.backbone, model.trainable, CONFIG, 0, tmp_path, silent, "") for model in models]
    scaler = loss_scaler(CPU, None)
    batches = {number: [*rows.train[number : 2 * number + 2], rows.train[20 - number]] for number in asking}
    for model in models:
        model.backbone.model.train()
        model.backbone.model.zero_grad()
    told = gradients(joint, members, {number: (batch, scaler) for number, batch in batches.items()}, objective)
    found = [{name: tensor.grad for name, tensor in model.trainable.named.items()} for model in models]
    for number, model in enumerate(models):
        if number not in asking:
            assert not any(grad is not None and grad.any() for grad in found[number].values())
            continue
        model.backbone.model.zero_grad()
        loss, tokens = own_gradients(model.backbone, model.trainable, batches[number], objective, CONFIG, scaler, Ranks(CPU))
        assert tokens == told[number][1] and float(told[number][0]) == pytest.approx(float(loss), abs=1e-6)
        for name, tensor in model.trainable.named.items():
            own, shared = tensor.grad, found[number][name]
            assert own is not None and shared is not None and own.any(), name
            assert torch.allclose(own, shared, rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize("batching", ["packed", "padded"])
@pytest.mark.parametrize("architecture", list(TARGETS))
def test_each_member_ends_where_it_ends_alone(
    architecture: str, batching: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backbone, "batching", batching)
    together, models, _ = packed(architecture, tmp_path / "together")
    for number, (lr, seed) in enumerate(zip(RATES, SEEDS, strict=True)):
        expected, own = alone(architecture, tmp_path / f"alone{number}", lr, seed)
        found = together[number]
        assert (found.status, found.steps, found.best_step) == ("finished", expected.steps, expected.best_step)
        assert found.tokens == expected.tokens and len(found.dev_losses) == len(expected.dev_losses)
        for (_, one), (_, other) in zip(found.dev_losses, expected.dev_losses, strict=True):
            assert one == pytest.approx(other, abs=2e-4)
        assert [step for step, _ in found.train_losses] == [step for step, _ in expected.train_losses]
        for (_, one), (_, other) in zip(found.train_losses, expected.train_losses, strict=True):
            assert one == pytest.approx(other, abs=2e-4)
        theirs = own.trainable.named
        for name, tensor in models[number].trainable.named.items():
            assert torch.allclose(tensor, theirs[name], atol=2e-4), name
    assert len({trained.dev_loss for trained in together}) == 3


def test_the_frozen_tensors_are_all_members_and_stay_what_they_were(tmp_path: Path) -> None:
    plain = tiny_backbone("llama")
    _, models, joint = packed("llama", tmp_path)
    before = dict(plain.model.named_parameters())
    trees = [dict(model.backbone.model.named_parameters()) for model in models]
    frozen = {name for name, tensor in trees[0].items() if not tensor.requires_grad}
    assert len(frozen) == len(before)  # LoRA's bases among them, under longer names
    for name in frozen:
        assert len({tree[name].data_ptr() for tree in trees}) == 1
        assert torch.equal(trees[0][name], before[name.replace(".base", "")])
    assert not any(tensor.requires_grad for tensor in joint.backbone.model.parameters())


def test_a_member_that_diverges_leaves_the_others_alone(tmp_path: Path) -> None:
    rates = (RATES[0], 1e30, RATES[2])
    together, _, _ = packed("llama", tmp_path / "together", rates)
    assert [trained.status for trained in together] == ["finished", "diverged", "finished"]
    for number in (0, 2):
        expected, _ = alone("llama", tmp_path / f"alone{number}", rates[number], SEEDS[number])
        assert together[number].dev_loss == pytest.approx(expected.dev_loss, abs=1e-5)


@pytest.mark.parametrize("stop_at", [1, 5])
def test_a_stopped_pack_goes_on_from_its_checkpoints(tmp_path: Path, stop_at: int) -> None:
    whole, _, _ = packed("llama", tmp_path / "whole")
    with pytest.raises(Preempted):
        packed("llama", tmp_path / "cut", stop_at=stop_at)
    assert {path.parent.name for path in (tmp_path / "cut").glob("*/step_*")} == {"0", "1", "2"}  # each has saved its state
    again, _, _ = packed("llama", tmp_path / "cut")
    assert [trained.dev_losses for trained in again] == [trained.dev_losses for trained in whole]
    assert [trained.train_losses for trained in again] == [trained.train_losses for trained in whole]


@pytest.mark.parametrize("setting", [{"micro_batch_size": 2}, {"compile": True}, {"recompute": True}])
def test_what_a_pack_cannot_share_is_refused(setting: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be combined with train\.micro_batch_size, compile or recompute"):
        packed("llama", tmp_path, config=dataclasses.replace(CONFIG, **setting))


def test_only_methods_that_leave_the_weights_alone_are_packed() -> None:
    assert Lora.packs and not Full.packs


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, unsearched: Path) -> Path:
    monkeypatch.setattr(tune.provenance, "code", lambda: {"git_sha": "abc", "dirty": False})
    return unsearched


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("seeds", [1, 2])
def test_a_packed_search_finds_what_trials_one_by_one_find(tmp_path: Path, seeds: int) -> None:
    given = ["experiment=e2e", "row/e2e=lora", "profile=smoke", "method.dropout=0", "tune.most=3", f"tune.seeds={seeds}"]
    ((_, whole),) = tune.tune([*given, f"paths.runs={tmp_path / 'one'}"])
    for path in tmp_path.rglob("trials/*.json"):
        path.unlink()
    ((_, together),) = tune.tune([*given, f"paths.runs={tmp_path / 'pack'}", "tune.packed=true"])
    assert together["chosen"] == whole["chosen"] and len(together["trials"]) == 3 * seeds
    for one, other in zip(together["trials"], whole["trials"], strict=True):
        assert one["packed"] == 3 * seeds and "packed" not in other
        assert (one["lr"], one["steps"], one["parameters"]) == (other["lr"], other["steps"], other["parameters"])
        assert one["dev_loss"] == pytest.approx(other["dev_loss"], abs=1e-5)
        left = {path.name for path in (tmp_path / "pack" / "smoke" / "trials" / one["signature"]).iterdir()}
        assert left == {"trial.json", "metrics.jsonl", "lock"}


@pytest.mark.usefixtures("clean")
def test_a_method_that_cannot_be_packed_is_tried_one_by_one(tmp_path: Path) -> None:
    given = ["experiment=e2e", "row/e2e=bitfit", "profile=smoke", "tune.most=3", f"paths.runs={tmp_path}", "tune.packed=true"]
    ((_, found),) = tune.tune(given)
    assert len(found["trials"]) == 3 and not any("packed" in one for one in found["trials"])


