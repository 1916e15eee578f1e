"""The loop: exact resume, honest accumulation, divergence, schedule."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import json
import math
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import text_row, tiny_backbone
from safetensors.torch import load_file
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from lora_repro.backbone import nf4
from lora_repro.backbone.model import Backbone
from lora_repro.config.compose import compose, resolved
from lora_repro.data import Encoded, Rows, collate
from lora_repro.errors import NotAvailable, Preempted, UserError
from lora_repro.files import sealed
from lora_repro.methods.adapter_h import AdapterH
from lora_repro.methods.base import Trainable, named
from lora_repro.methods.bitfit import BitFit
from lora_repro.methods.dora import Dora
from lora_repro.methods.full import Full
from lora_repro.methods.intrinsic_dimension import IntrinsicDimension
from lora_repro.methods.lora import Lora
from lora_repro.methods.pissa import Pissa
from lora_repro.methods.prelayer import PreLayer
from lora_repro.methods.vera import Vera
from lora_repro.objectives.completion import Completion
from lora_repro.records import provenance
from lora_repro.run import run
from lora_repro.sweep import preflight
from lora_repro.train import loop, optimizer, progress
from lora_repro.train.loop import TrainConfig, learning_rate, silent, train
from lora_repro.train.precision import loss_scaler
from lora_repro.train.ranks import Ranks

SEQUENCES = [text_row([65 + i % 20, 66, 10, 32, 70 + i % 7, 71 + i % 5, 256], 3) for i in range(22)]
ROWS = Rows(SEQUENCES, SEQUENCES[:5])
CONFIG = TrainConfig(lr=1e-2, epochs=2, batch_size=4, warmup=0.2, precision="fp32", eval_every=3, checkpoint_every=2)
OVERSHOT = TrainConfig(lr=0.3, epochs=3, batch_size=4, warmup=0, precision="fp32", eval_every=1)  # its dev loss rises again


# PiSSA's tensors come out of a decomposition and lie otherwise in memory than those of a file.
METHODS = {"lora": Lora(rank=2, dropout=0.2), "pissa": Pissa(rank=2, alpha=2), "dora": Dora(rank=2), "vera": Vera(rank=4),
           "full": Full(), "adapter_h": AdapterH(bottleneck=2), "prelayer": PreLayer(prefix=2, infix=0, form="key_value"),
           "said": IntrinsicDimension(d=40, form="said"), "bitfit": BitFit()}  # fmt: skip

Whole = Callable[..., list[torch.Tensor]]


def prepared(method: str = "lora") -> tuple[Backbone, Trainable]:
    backbone = tiny_backbone("llama")
    torch.manual_seed(0)
    return backbone, METHODS[method].apply(backbone)


def weights(folder: Path, config: TrainConfig = CONFIG, stop_at: int | None = None, method: str = "lora") -> list[torch.Tensor]:
    backbone, trainable = prepared(method)

    def log(step: int, values: dict[str, float]) -> None:
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    train(backbone, trainable, ROWS, Completion(), config, 7, folder, log)
    return [parameter.detach().clone() for parameter in trainable.named.values()]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The weights that a training by some method ends with."""

    @functools.cache
    def trained(method: str = "lora", lr: float = CONFIG.lr) -> list[torch.Tensor]:
        return weights(tmp_path_factory.mktemp(method), dataclasses.replace(CONFIG, lr=lr), method=method)

    return trained


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, float], None]:
    """Puts what a training leaves that SIGTERM stops at step 9 into a folder."""

    @functools.cache
    def stopped(lr: float) -> Path:
        folder = tmp_path_factory.mktemp("left")
        with pytest.raises(Preempted):
            weights(folder, dataclasses.replace(CONFIG, lr=lr), stop_at=9)
        return folder

    return lambda folder, lr=CONFIG.lr: shutil.copytree(stopped(lr), folder, dirs_exist_ok=True)


@pytest.mark.parametrize("method, stop_at", [("lora", 1), ("lora", 12), *((name, 5) for name in METHODS)])
def test_a_run_stopped_by_sigterm_ends_with_the_bits_of_an_uninterrupted_one(
    tmp_path: Path, uninterrupted: Whole, method: str, stop_at: int
) -> None:
    with pytest.raises(Preempted) as error:
        weights(tmp_path, stop_at=stop_at, method=method)
    assert error.value.exit_code == 75
    torch.manual_seed(999)  # whatever the new process did before
    resumed = weights(tmp_path, method=method)
    assert all(torch.equal(a, b) for a, b in zip(uninterrupted(method), resumed, strict=True))


def test_a_paused_training_ends_with_the_bits_of_an_uninterrupted_one(
    tmp_path: Path, uninterrupted: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "BINS", 5)  # of 12 steps: four bins of three
    half = train(*prepared(), ROWS, Completion(), CONFIG, 7, tmp_path, pause_after=0.5)
    assert (half.status, half.steps, len(half.train_losses)) == ("paused", 6, 2)
    assert all(torch.equal(a, b) for a, b in zip(uninterrupted(), weights(tmp_path), strict=True))
    again = train(*prepared(), ROWS, Completion(), CONFIG, 7, tmp_path, pause_after=0.5)  # its checkpoint lies beyond
    assert again.status == "paused" and again.train_losses[:2] == half.train_losses


@pytest.mark.parametrize(
    "total, share, step", [(128, 1 / 3, 49), (1316, 1 / 2, 660), (16, 1 / 3, 16), (20, 1 / 3, 7), (41, 1 / 2, 21)]
)
def test_a_training_pauses_where_a_bin_of_losses_ends(total: int, share: float, step: int) -> None:
    assert progress.pause_step(total, share) == step
    assert step in (total, step // progress.bin_size(total) * progress.bin_size(total))


def test_an_fp16_training_resumes_with_its_scale_and_follows_the_fp32_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where gradients are clipped, too: their own length counts, not that of what is scaled for fp16."""
    half = dataclasses.replace(CONFIG, precision="fp16", clip=1e-3)
    scales = []
    update = torch.amp.GradScaler.update
    monkeypatch.setattr(torch.amp.GradScaler, "update", lambda scaler: update(scaler) or scales.append(scaler.get_scale()))
    reference = weights(tmp_path / "whole", half)
    assert len(scales) == 12 and scales[0] == scales[-1]  # nothing overflowed
    with pytest.raises(Preempted):
        weights(tmp_path / "cut", half, stop_at=5)
    (newest,) = (tmp_path / "cut").glob("step_*5/state.json")
    assert json.loads(newest.read_text())["scaler"]["scale"] == scales[0]
    resumed = weights(tmp_path / "cut", half)
    assert all(torch.equal(a, b) for a, b in zip(reference, resumed, strict=True))
    plain = weights(tmp_path / "fp32", dataclasses.replace(half, precision="fp32"))
    assert max(float((a - b).abs().max()) for a, b in zip(reference, plain, strict=True)) < 0.02


def test_a_step_whose_gradients_overflow_is_skipped_and_the_scale_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)
    monkeypatch.setattr(loop, "loss_scaler", lambda device, dtype: scaler)
    backbone, trainable = prepared("full")
    before = [p.detach().clone() for p in trainable.named.values()]
    logs = []
    one = dataclasses.replace(CONFIG, precision="fp16", steps=1, select="last")
    result = train(backbone, trainable, ROWS, Completion(), one, 7, tmp_path, lambda step, values: logs.append(values))
    assert result.status == "finished" and "grad_norm" not in logs[0] and scaler.get_scale() == 2.0**125
    assert all(torch.equal(a, b) for a, b in zip(before, trainable.named.values(), strict=True))


def test_a_paged_optimizer_makes_the_same_steps_and_resumes_to_the_bit(
    tmp_path: Path, uninterrupted: Whole
) -> None:
    """bitsandbytes' AdamW, a factor of the rate for B, beside torch's; on a CPU nothing is paged."""
    pytest.importorskip("bitsandbytes")
    config = dataclasses.replace(CONFIG, paged=True)
    reference = weights(tmp_path / "whole", config)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(reference, uninterrupted(), strict=True))
    with pytest.raises(Preempted):
        weights(tmp_path / "cut", config, stop_at=5)
    resumed = weights(tmp_path / "cut", config)
    assert all(torch.equal(a, b) for a, b in zip(reference, resumed, strict=True))
    _, trainable = prepared()
    rates = {name: 16.0 for name in trainable.method if name.endswith(".B")}
    adamw = optimizer.adamw(trainable.named, rates, config)
    optimizer.set_rate(adamw, 0.5)
    assert [(group["lr"], group["eps"], group["weight_decay"]) for group in adamw.param_groups] == [
        (0.5, CONFIG.eps, CONFIG.weight_decay), (8.0, CONFIG.eps, CONFIG.weight_decay),
    ]  # fmt: skip


class Paging(torch.optim.AdamW):
    """Keeps its state in memory of its own, as bitsandbytes' paged optimizers do on a GPU."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.pages: list[torch.Tensor] = []

    def get_state_buffer(self, parameter: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        self.pages.append(torch.zeros_like(parameter, dtype=dtype))
        return self.pages[-1]


def test_what_a_paged_optimizer_restores_is_paged_again() -> None:
    weight = torch.nn.Parameter(torch.ones(4, 3))
    first, again = Paging([weight]), Paging([weight])
    weight.grad = torch.rand(4, 3)
    first.step()
    optimizer.restore(again, {"w": weight}, *optimizer.state_of(first, {"w": weight}))
    for key in ("exp_avg", "exp_avg_sq"):
        assert any(again.state[weight][key] is page for page in again.pages)
        assert torch.equal(again.state[weight][key], first.state[weight][key])


def test_a_paged_optimizer_without_bitsandbytes_is_one_line_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nf4.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotAvailable, match=r"^train.paged needs bitsandbytes: pip install -e '.\[qlora\]'$"):
        dataclasses.replace(CONFIG, paged=True).ready()
    CONFIG.ready()
    overrides = ["profile=smoke", "task=sentiment", "train.paged=true", f"paths.runs={tmp_path}"]
    with pytest.raises(NotAvailable):
        preflight.check([resolved(compose(overrides))])
    with pytest.raises(NotAvailable):
        run.run(compose(overrides), overrides)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def killed(folder: Path) -> None:
    """Train until the log of step 9, and no further."""

    def log(step: int, values: dict[str, float]) -> None:
        if step == 9:
            os.kill(os.getpid(), signal.SIGKILL)

    train(*prepared(), ROWS, Completion(), CONFIG, 7, folder, log)


def test_a_run_killed_outright_resumes_to_the_same_bits(tmp_path: Path, uninterrupted: Whole, one_thread: None) -> None:
    reference = uninterrupted()
    process = multiprocessing.get_context("fork").Process(target=killed, args=(tmp_path / "cut",))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert sorted(path.name for path in (tmp_path / "cut").glob("step_*")) == ["step_00000006", "step_00000008"]
    assert all(torch.equal(a, b) for a, b in zip(reference, weights(tmp_path / "cut"), strict=True))


def test_a_corrupt_newest_checkpoint_falls_back_and_says_so(
    tmp_path: Path, uninterrupted: Whole, left: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    left(tmp_path)
    newest = sorted(tmp_path.glob("step_*"))[-1] / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-40])
    assert all(torch.equal(a, b) for a, b in zip(uninterrupted(), weights(tmp_path), strict=True))
    assert "step_00000009 cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "gone"])
def test_damaged_best_weights_are_said_and_made_again(
    damage: str, tmp_path: Path, uninterrupted: Whole, left: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config = dataclasses.replace(CONFIG, lr=10.0)  # the best is an early one
    left(tmp_path, config.lr)
    (best,) = sorted(tmp_path.glob("best_*"))
    data = bytearray(best.read_bytes())
    data[-5] ^= 1
    best.write_bytes({"empty": b"", "cut": bytes(data[:-9]), "flipped": bytes(data), "gone": b""}[damage])
    if damage == "gone":
        best.unlink()
    assert all(torch.equal(a, b) for a, b in zip(uninterrupted("lora", 10.0), weights(tmp_path, config), strict=True))
    message = capsys.readouterr().err
    assert f"cannot be used ({best.name}" in message and "Traceback" not in message


@pytest.mark.parametrize("damage", [b"", b"{}", b"null", b"\xff", "flipped"])
def test_a_damaged_state_falls_back_too(
    damage: bytes | str, tmp_path: Path, uninterrupted: Whole, left: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    left(tmp_path)
    for path in tmp_path.glob("step_*/state.json"):
        path.write_bytes(path.read_bytes().replace(b'"tokens": ', b'"tokens": 1') if isinstance(damage, str) else damage)
    assert all(torch.equal(a, b) for a, b in zip(uninterrupted(), weights(tmp_path), strict=True))
    assert "cannot be used" in capsys.readouterr().err


def test_a_method_that_changed_between_two_attempts_begins_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other names ended in a KeyError at every attempt; another shape could be filled by broadcasting."""
    with pytest.raises(Preempted):
        weights(tmp_path, stop_at=5, method="full")
    assert weights(tmp_path) and "it is of other parameters: the method has changed" in capsys.readouterr().err


def test_a_checkpoint_on_a_failing_disk_is_kept(tmp_path: Path, left: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    left(tmp_path)
    before = sorted(tmp_path.rglob("*"))

    def failing(path: Path) -> str:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("lora_repro.train.checkpoint.sha256", failing)
    with pytest.raises(OSError, match="Input/output error"):
        weights(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_code_and_peak_of_every_attempt_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = {"git_sha": "a" * 40, "dirty": False}
    for before, now, dirty in (({}, clean, False), (clean, clean, False), ({**clean, "git_sha": "b" * 40}, clean, True)):
        assert provenance.joined(before, now) == {**clean, "dirty": dirty}
    monkeypatch.setattr(provenance, "_IMPORTED", {"git_sha": "b" * 40, "dirty": False})
    monkeypatch.setattr(provenance, "peak_memory_mb", lambda device: 4321)
    with pytest.raises(Preempted):
        weights(tmp_path, stop_at=5)
    monkeypatch.setattr(provenance, "_IMPORTED", clean)
    monkeypatch.setattr(provenance, "peak_memory_mb", lambda device: 1)
    backbone, trainable = prepared()
    result = train(backbone, trainable, ROWS, Completion(), CONFIG, 7, tmp_path, silent)
    code = {key: result.code[key] for key in clean}
    assert code == {**clean, "dirty": True} and result.peak_memory_mb == 4321


def test_every_machine_that_a_training_ran_on_is_named_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kernels, stop_at in (("AVX2", 3), ("AVX512", 5), ("AVX512", 7)):
        monkeypatch.setattr(provenance, "kernels", lambda device, kernels=kernels: kernels)
        with pytest.raises(Preempted):
            weights(tmp_path, stop_at=stop_at)
    backbone, trainable = prepared()
    result = train(backbone, trainable, ROWS, Completion(), CONFIG, 7, tmp_path, silent)
    assert result.code["kernels"] == "AVX2, then AVX512" and result.code["precision"] == "fp32"
    monkeypatch.setattr(provenance, "kernels", lambda device: "AVX2")  # it answers elsewhere than it was trained
    where = provenance.where(provenance.attempt(torch.device("cpu"), None, result.code))
    assert where["kernels"] == "AVX2, then AVX512, then AVX2" and where["precision"] == "fp32"


def test_a_signal_after_the_last_step_is_heeded_at_the_end(
    tmp_path: Path, uninterrupted: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best weights are read back then, which takes seconds for a whole model."""
    config = dataclasses.replace(CONFIG, lr=10.0)  # the best is an early one
    reference, signals = uninterrupted("lora", config.lr), []

    def reading(path: Path) -> dict[str, torch.Tensor]:
        os.kill(os.getpid(), signal.SIGTERM)
        assert not signals
        return load_file(path)

    monkeypatch.setattr(progress, "load_file", reading)
    before = signal.signal(signal.SIGTERM, lambda number, frame: signals.append(number))
    try:
        cut = weights(tmp_path, config)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signals == [signal.SIGTERM] and all(torch.equal(a, b) for a, b in zip(reference, cut, strict=True))


def test_a_compiled_step_is_not_split_on_a_gpu() -> None:
    gpu = Ranks(torch.device("cuda"))
    with pytest.raises(UserError, match=r"^train\.compile and train\.micro_batch_size cannot be combined on a GPU"):
        loop.check_ranks(gpu, dataclasses.replace(CONFIG, compile=True, micro_batch_size=2))
    for config, ranks in (({"compile": True}, gpu), ({"compile": True, "micro_batch_size": 2}, Ranks(torch.device("cpu")))):
        loop.check_ranks(ranks, dataclasses.replace(CONFIG, **config))


def test_a_checkpoint_of_an_older_version_is_not_gone_on_from(
    tmp_path: Path, uninterrupted: Whole, left: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    left(tmp_path / "cut")
    for path in (tmp_path / "cut").glob("step_*/state.json"):
        facts = json.loads(path.read_text())
        del facts["code"]
        path.write_text(json.dumps(sealed(facts)))
    steps: list[int] = []

    def log(step: int, values: dict[str, float]) -> None:
        steps.append(step)
        if steps.count(3) == 1 and step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Preempted):
        backbone, trainable = prepared()
        train(backbone, trainable, ROWS, Completion(), CONFIG, 7, tmp_path / "cut", log)
    assert steps[0] == 1 and "another version's" in capsys.readouterr().err
    backbone, trainable = prepared()
    train(backbone, trainable, ROWS, Completion(), CONFIG, 7, tmp_path / "cut", log)
    assert steps.count(1) == 1  # what this version wrote is found, though it is of fewer steps
    assert all(torch.equal(a, b.detach()) for a, b in zip(uninterrupted(), trainable.named.values(), strict=True))


def test_a_checkpoint_keeps_its_own_best_weights(tmp_path: Path) -> None:
    """Killed after a newer best than the checkpoint's: what the older one calls best must still be that."""
    config = dataclasses.replace(OVERSHOT, checkpoint_every=3)
    backbone, trainable = prepared("full")
    name, first = next(iter(trainable.named.items()))
    copies: dict[int, torch.Tensor] = {}

    def log(step: int, values: dict[str, float]) -> None:
        copies[step] = first.detach().clone()
        if step == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Preempted):
        train(backbone, trainable, ROWS, Completion(), config, 7, tmp_path, log)
    best_steps = {json.loads(path.read_text())["best_step"] for path in tmp_path.glob("step_*/state.json")}
    tensors = {int(path.stem.split("_")[1]): load_file(path)[name] for path in tmp_path.glob("best_*")}
    assert set(tensors) == best_steps and all(torch.equal(copies[step], best) for step, best in tensors.items())


def test_training_learns_and_reports_what_it_did(tmp_path: Path) -> None:
    backbone, trainable = prepared("full")
    logs: list[tuple[int, dict[str, float]]] = []
    result = train(backbone, trainable, ROWS, Completion(), CONFIG, 7, tmp_path, lambda s, v: logs.append((s, v)))
    assert (result.status, result.steps) == ("finished", 12)  # ceil(22 / 4) = 6 steps an epoch
    assert result.tokens == 12 * 4 * 7
    assert [step for step, _ in result.dev_losses] == [3, 6, 9, 12]
    assert result.dev_losses[-1][1] < result.dev_losses[0][1] - 1
    assert result.dev_loss == min(loss for _, loss in result.dev_losses)
    assert [v["lr"] for _, v in logs if "lr" in v] == [learning_rate(s, 12, CONFIG) for s in range(1, 13)]


def test_a_batch_of_more_rows_than_there_are_is_refused(tmp_path: Path) -> None:
    """It would hold rows several times, up to all of the memory."""
    backbone, trainable = prepared()
    with pytest.raises(UserError, match=r"train\.batch_size=10+ exceeds the 22 training rows"):
        train(backbone, trainable, ROWS, Completion(), dataclasses.replace(CONFIG, batch_size=10**9), 7, tmp_path)
    config = dataclasses.replace(CONFIG, batch_size=22, steps=1)
    assert train(backbone, trainable, ROWS, Completion(), config, 7, tmp_path).steps == 1


@pytest.mark.parametrize("zero", [0, 0.0])
def test_a_first_moment_without_memory_is_one(zero: float, tmp_path: Path) -> None:
    """yaml reads 0 as a whole number, which torch refuses."""
    backbone, trainable = prepared()
    config = dataclasses.replace(CONFIG, beta1=zero, steps=1)
    assert train(backbone, trainable, ROWS, Completion(), config, 7, tmp_path).steps == 1


@pytest.mark.parametrize("every", [1, 10])
def test_a_curve_of_the_training_loss_survives_every_stop(every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "BINS", 5)  # of 12 steps: four bins of three
    monkeypatch.setattr(loop, "READ", {"cpu": every})
    losses: dict[int, float] = {}

    def curve(folder: str, stop_at: int = 0) -> list[tuple[int, float]]:
        backbone, trainable = prepared()

        def observe(step: int, total: int) -> None:
            if step == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)

        def log(step: int, values: dict[str, float]) -> None:
            losses.update({step: values["train_loss"]} if "train_loss" in values else {})

        return train(backbone, trainable, ROWS, Completion(), CONFIG, 7, tmp_path / folder, log, observe=observe).train_losses

    reference = curve("whole")
    assert reference == [(last, sum(losses[step] for step in range(last - 2, last + 1)) / 3) for last in (3, 6, 9, 12)]
    for stop_at in (5, 6, 10):
        with pytest.raises(Preempted):
            curve("cut", stop_at)
    assert curve("cut") == reference


def test_a_long_training_has_twenty_losses_at_most_and_a_short_one_each_step_s() -> None:
    cases = ((3, [1, 2, 3]), (20, [*range(1, 21)]), (21, [*range(2, 21, 2), 21]), (1000, [*range(50, 1001, 50)]))
    for total, lasts in cases:
        state = progress.State([], 0, 0.0, 0, math.inf)
        for step in range(1, total + 1):
            state.saw(step, float(step), total)
        result = state.result("finished", total)
        assert [step for step, _ in result.train_losses] == lasts
        assert result.facts()["train_losses"][0] == [lasts[0], (1 + lasts[0]) / 2]
    assert "train_losses" not in progress.State([], 0, 0.0, 0, math.inf).result("diverged", 0).facts()


def test_a_nan_loss_stops_the_run_as_diverged(tmp_path: Path) -> None:
    backbone, trainable = prepared("full")
    with torch.no_grad():
        next(iter(trainable.named.values()))[0, 0] = float("nan")
        backbone.embedding.weight.fill_(float("nan"))
    result = train(backbone, trainable, ROWS, Completion(), CONFIG, 7, tmp_path, silent)
    assert result.status == "diverged" and result.steps == 0


def test_a_dev_loss_that_is_no_number_stops_the_run_as_diverged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Completion, "validate", lambda *_: {"dev_loss": math.inf})
    result = train(*prepared(), ROWS, Completion(), CONFIG, 7, tmp_path)
    assert (result.status, result.steps, result.dev_losses) == ("diverged", 3, [])


@pytest.mark.parametrize(("epochs", "steps"), [(0.6, 4), (0.01, 1)])  # of 6 steps each
def test_an_epoch_may_end_in_the_middle(epochs: float, steps: int, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, epochs=epochs, select="last")
    assert train(*prepared(), ROWS, Completion(), config, 7, tmp_path).steps == steps


def test_losses_read_together_are_those_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a GPU: at a look, at a checkpoint, at a stop, and every ten steps.
    def told(folder: str, every: int, stop_at: int | None = None) -> list[tuple[int, dict[str, float]]]:
        monkeypatch.setattr(loop, "READ", {"cpu": every})
        logs: list[tuple[int, dict[str, float]]] = []
        backbone, trainable = prepared()
        calm = dataclasses.replace(CONFIG, eval_every=5, checkpoint_every=12)

        def observe(step: int, total: int) -> None:
            if step == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)

        def log(step: int, values: dict[str, float]) -> None:
            logs.append((step, values))

        with contextlib.suppress(Preempted):
            train(backbone, trainable, ROWS, Completion(), calm, 7, tmp_path / folder, log, observe=observe)
        return logs

    one_by_one = told("one", 1)
    assert len(one_by_one) == 12 + 3 and told("ten", 10) == one_by_one
    cut = told("cut", 10, stop_at=8)
    assert cut == one_by_one[: len(cut)] and cut[-1][0] == 8
    assert cut + told("cut", 10) == one_by_one

    monkeypatch.setattr(loop, "READ", {"cpu": 10})
    backbone, trainable = prepared("full")
    plain, calls = Completion.summed, iter(range(99))
    monkeypatch.setattr(Completion, "summed", lambda *given: plain(*given) * (math.nan if next(calls) == 2 else 1))
    result = train(backbone, trainable, ROWS, Completion(), CONFIG, 7, tmp_path / "nan", silent)
    assert result.status == "diverged" and result.steps == 2 and [step for step, _ in result.train_losses] == [1, 2]


def test_the_schedule_by_hand() -> None:
    config = TrainConfig(lr=1.0, warmup=2)
    assert [learning_rate(step, 6, config) for step in range(1, 7)] == [0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
    half = TrainConfig(lr=1.0, warmup=0.5)
    assert [learning_rate(step, 4, half) for step in range(1, 5)] == [0.5, 1.0, 0.5, 0.0]


def test_each_parameter_has_its_factor_of_the_scheduled_rate(tmp_path: Path) -> None:
    """LoRA+ in miniature: B at 16 times A's rate is Adam on B with that rate, at every step of the schedule."""
    backbone, plain = prepared()
    rates = {name: 16.0 for name in plain.method if name.endswith(".B")}
    trainable = Trainable(plain.method, rates=rates)
    groups = optimizer.adamw(trainable.named, rates, CONFIG).param_groups
    assert [(group["factor"], len(group["params"])) for group in groups] == [(1.0, 4), (16.0, 4)]
    first = {name: parameter.detach().clone() for name, parameter in trainable.named.items()}
    config = TrainConfig(lr=1e-3, steps=2, batch_size=4, warmup=0, weight_decay=0, precision="fp32", select="last")
    sizes: dict[str, float] = {}

    def log(step: int, values: dict[str, float]) -> None:
        if step == 1 and "lr" in values:
            changes = {name: (p.detach() - first[name]).abs().max() for name, p in trainable.named.items()}
            sizes.update({letter: max(float(m) for name, m in changes.items() if name.endswith(letter)) for letter in "AB"})
            sizes["lr"] = values["lr"]

    train(backbone, trainable, ROWS, Completion(), config, 7, tmp_path, log)
    assert sizes["lr"] == 5e-4  # what is logged is the rate itself
    assert sizes["B"] == pytest.approx(16 * 5e-4, rel=1e-2) and sizes["A"] < 1e-6  # Adam's first step is the rate; A waits for B


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adagrad, torch.optim.RMSprop, torch.optim.Rprop])
def test_any_optimizer_s_state_comes_back_by_name(kind: type[torch.optim.Optimizer]) -> None:
    def made() -> tuple[dict[str, nn.Parameter], torch.optim.Optimizer]:
        torch.manual_seed(0)
        parameters = {f"layer.{n}": nn.Parameter(torch.randn(3)) for n in range(3)}
        extra: dict[str, object] = {"momentum": 0.9} if kind in (torch.optim.SGD, torch.optim.RMSprop) else {}
        values = list(parameters.values())
        groups = [{"params": values[1:], "factor": 1.0}, {"params": values[:1], "factor": 2.0}]
        return parameters, kind(groups, lr=0.1, **extra)  # type: ignore[call-arg]

    def step(parameters: dict[str, nn.Parameter], made: torch.optim.Optimizer) -> None:
        sum((p**3).sum() for p in parameters.values()).backward()  # type: ignore[union-attr]
        made.step()
        made.zero_grad()

    (one, ours), (two, theirs) = made(), made()
    step(one, ours)
    with torch.no_grad():
        for name, parameter in two.items():
            parameter.copy_(one[name])
    tensors, rest = optimizer.state_of(ours, one)
    optimizer.restore(theirs, two, {name: value.clone() for name, value in tensors.items()}, json.loads(json.dumps(rest)))
    for _ in range(2):
        step(one, ours)
        step(two, theirs)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_shared_parameter_is_counted_saved_and_trained_once(tmp_path: Path) -> None:
    backbone, _ = prepared()
    parameter = nn.Parameter(torch.zeros(32))
    for layer in backbone.layers:
        layer.register_parameter("shared", parameter)
        layer.register_forward_pre_hook(lambda layer, args: (args[0] + layer.shared, *args[1:]))
    trainable = Trainable(method=named(backbone.model, [parameter, parameter]))
    parameter.requires_grad_(True)
    assert trainable.counts(backbone.model)["method"] == 32 and len(trainable.named) == 1
    result = train(backbone, trainable, ROWS, Completion(), CONFIG, 7, tmp_path)
    assert result.dev_losses[-1][1] < result.dev_losses[0][1] and all(layer.shared is parameter for layer in backbone.layers)


def test_every_parameter_decays_alike() -> None:
    """As the authors' code has it: biases and norms too."""
    _, trainable = prepared("full")
    groups = optimizer.adamw(trainable.named, {}, CONFIG).param_groups
    assert min(p.dim() for group in groups for p in group["params"]) == 1
    assert sum(len(group["params"]) for group in groups) == len(trainable.named)
    expected = (CONFIG.weight_decay, (CONFIG.beta1, CONFIG.beta2), CONFIG.eps)
    assert all((group["weight_decay"], group["betas"], group["eps"]) == expected for group in groups)


def test_clipping_scales_the_whole_gradient_to_its_norm(tmp_path: Path) -> None:
    def first(clip: float | None) -> torch.Tensor:
        backbone, trainable = prepared("full")
        grads: list[torch.Tensor] = []

        def look(made: torch.optim.Optimizer, *_: object) -> None:
            grads.append(torch.cat([p.grad.flatten().clone() for group in made.param_groups for p in group["params"]]))

        hook = register_optimizer_step_pre_hook(look)
        try:
            config = dataclasses.replace(CONFIG, steps=1, clip=clip, select="last")
            train(backbone, trainable, ROWS, Completion(), config, 7, tmp_path / str(clip))
        finally:
            hook.remove()
        return grads[0]

    plain, clipped = first(None), first(0.01)
    assert plain.norm() > 0.02 and torch.equal(first(1e6), plain)
    torch.testing.assert_close(clipped, plain * 0.01 / plain.norm(), rtol=1e-3, atol=1e-9)


def test_dropout_is_on_in_training_and_off_where_it_is_validated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = set()
    for name in ("summed", "validate"):
        plain = getattr(Completion, name)

        def spied(self: Completion, backbone: Backbone, *rest: Any, name: str = name, plain: Any = plain) -> Any:
            modes.add((name, backbone.model.training))
            return plain(self, backbone, *rest)

        monkeypatch.setattr(Completion, name, spied)
    train(*prepared(), ROWS, Completion(), dataclasses.replace(CONFIG, steps=4, eval_every=2), 7, tmp_path)
    assert modes == {("summed", True), ("validate", False)}


def gradients(
    backbone: Backbone, trainable: Trainable, rows: list[Encoded], micro: int | None
) -> tuple[float, list[torch.Tensor]]:
    """The loss that is told of these rows, and what the optimizer would get."""
    cpu, config = torch.device("cpu"), dataclasses.replace(CONFIG, micro_batch_size=micro)
    loss, _ = loop.own_gradients(backbone, trainable, rows, Completion(), config, loss_scaler(cpu, None), Ranks(cpu))
    return float(loss), [p.grad.clone() for p in trainable.parameters()]


def test_parts_of_a_batch_weigh_by_their_tokens() -> None:
    """Adam hides a constant factor, so that the gradients are looked at; the rows are of unlike lengths."""
    rows = [text_row([65, 66, 10, *[70 + i] * n, 256], 3) for i, n in enumerate((1, 9, 2, 5))]
    backbone, _ = prepared("full")
    loss = float(Completion().summed(backbone, collate(rows, backbone.pad), CONFIG.label_smoothing).detach()) / (2 + 10 + 3 + 6)
    (_, gradient), *split = pairs = [gradients(*prepared("full"), rows, n) for n in (None, 1, 3)]
    assert [part_loss for part_loss, _ in pairs] == pytest.approx([loss] * 3)
    for _, parts in split:
        torch.testing.assert_close(parts, gradient, rtol=1e-3, atol=1e-6)


def test_a_penalty_adds_its_own_gradient_once() -> None:
    pairs = []
    for weight in (0.0, 0.5):
        backbone, trainable = prepared("full")
        values = [p.detach().clone() for p in trainable.parameters()]

        def penalty(weight: float = weight, moved: Trainable = trainable) -> torch.Tensor:
            return weight * sum(p.square().sum() for p in moved.parameters())

        pairs.append(gradients(backbone, dataclasses.replace(trainable, penalty=penalty), ROWS.train[:3], 1))
    (loss, plain), (more, penalised) = pairs
    assert more - loss == pytest.approx(0.5 * sum(float(value.square().sum()) for value in values), rel=1e-4)
    for ours, theirs, value in zip(penalised, plain, values, strict=True):
        torch.testing.assert_close(ours - theirs, value, rtol=1e-3, atol=1e-5)


def test_the_best_weights_are_kept_and_a_resumed_run_knows_its_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, names = Completion.validate, ("dev_score", "dev_score_even", "dev_score_odd")

    def scored(*given: Any) -> dict[str, float]:
        scores = plain(*given)
        return scores | {name: place - scores["dev_loss"] for place, name in enumerate(names)}

    monkeypatch.setattr(Completion, "validate", scored)
    copies: dict[int, torch.Tensor] = {}

    def learn(folder: Path, stop_at: int | None = None) -> tuple[progress.Trained, list[torch.Tensor]]:
        def log(step: int, values: dict[str, float]) -> None:
            copies[step] = first.detach().clone()
            if step == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)

        backbone, trainable = prepared("full")
        first = next(iter(trainable.named.values()))
        result = train(backbone, trainable, ROWS, Completion(), OVERSHOT, 7, folder, log)
        assert torch.equal(first.detach(), copies[result.best_step])
        return result, [parameter.detach().clone() for parameter in trainable.parameters()]

    reference, expected = learn(tmp_path / "whole")
    assert reference.best_step == min(reference.dev_losses, key=lambda pair: pair[1])[0] < reference.steps - 2
    with pytest.raises(Preempted):
        learn(tmp_path / "stopped", reference.best_step + 1)
    again, resumed = learn(tmp_path / "stopped")
    assert (again.best_step, again.dev_loss, again.dev_losses) == (reference.best_step, reference.dev_loss, reference.dev_losses)
    assert again.dev_scores == reference.dev_scores and again.dev_halves == reference.dev_halves
    assert len(again.dev_scores) == len(again.dev_halves) == reference.steps
    assert all(map(torch.equal, expected, resumed))


def test_the_last_weights_come_with_the_last_loss(tmp_path: Path) -> None:
    result = train(*prepared("full"), ROWS, Completion(), dataclasses.replace(OVERSHOT, select="last"), 7, tmp_path)
    assert (result.best_step, result.dev_loss) == result.dev_losses[-1]
    assert result.dev_loss > min(loss for _, loss in result.dev_losses)


def test_of_equal_looks_the_later_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Completion, "validate", lambda *_: {"dev_loss": 1.0})
    assert train(*prepared(), ROWS, Completion(), CONFIG, 7, tmp_path).best_step == 12
