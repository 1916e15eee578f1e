"""Weights and facts that survive until the record is written."""

from __future__ import annotations

import errno
import math
import os
import signal
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import tiny_backbone
from torch import nn

from lora_repro.config.compose import compose
from lora_repro.data import Rows
from lora_repro.files import remove_temporaries
from lora_repro.methods.lora import Lora
from lora_repro.objectives.completion import Completion
from lora_repro.records import attempts, record, run_folder
from lora_repro.run import run, stages
from lora_repro.run.stages import adapt
from lora_repro.sweep import launch, run_summary
from lora_repro.train import checkpoint, resume_files
from lora_repro.train.loop import TrainConfig
from lora_repro.train.progress import Trained
from lora_repro.train.ranks import Ranks

TRAINED = Trained(
    "finished", 8, 1.5, 4, 1000, 2.5, [(4, 1.5), (8, 1.75)], peak_memory_mb=7, dev_scores=[(4, 0.5), (8, None)],
    dev_halves=[(4, 0.25, 0.75), (8, None, 0.5)], train_losses=[(4, 1.6), (8, 1.25)],
)  # fmt: skip


def test_kept_weights_and_facts_come_back(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.randn(3, 2))
    original = parameter.detach().clone()
    resume_files.save_trained(tmp_path, {"a": parameter}, TRAINED)
    with torch.no_grad():
        parameter.zero_()
    assert resume_files.restore(tmp_path, {"a": parameter}) == TRAINED
    assert torch.equal(parameter.detach(), original)


def test_a_damaged_or_foreign_file_means_training_goes_on(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.randn(3, 2))
    assert resume_files.restore(tmp_path, {"a": parameter}) is None
    resume_files.save_trained(tmp_path, {"a": parameter}, TRAINED)
    assert resume_files.restore(tmp_path, {"b": parameter}) is None
    path = tmp_path / run_folder.ADAPTER
    path.write_bytes(path.read_bytes()[:-8])
    assert resume_files.restore(tmp_path, {"a": parameter}) is None


def test_a_diverged_training_has_no_dev_loss(tmp_path: Path) -> None:
    training = Trained("diverged", 3, math.inf, 0, 10, 0.1, [])
    assert training.facts()["dev_loss"] is None
    parameter = nn.Parameter(torch.zeros(1))
    resume_files.save_trained(tmp_path, {"a": parameter}, training)
    copy = resume_files.restore(tmp_path, {"a": parameter})
    assert copy is not None and copy.status == "diverged" and math.isnan(copy.dev_loss)


@pytest.mark.parametrize("name", [run_folder.ADAPTER, run_folder.FACTS, run_folder.ANSWERS])
@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "[]", "{}", "null"])
def test_what_is_damaged_is_said_and_not_believed(
    name: str, damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parameter = nn.Parameter(torch.randn(3, 2))
    resume_files.save_trained(tmp_path, {"a": parameter}, TRAINED)
    resume_files.save_answers(tmp_path, {"outputs": ["a text"], "seconds": 1.0, "calls": 2, "code": {}})
    assert resume_files.restore(tmp_path, {"a": parameter}) and resume_files.load_answers(tmp_path)
    data = (tmp_path / name).read_bytes()
    corruption = data[:-1] + bytes([data[-1] ^ 1]) if name == run_folder.ADAPTER else data.replace(b"1", b"2", 1)
    (tmp_path / name).write_bytes({"flipped": corruption, "cut": data[:-9], "empty": b""}.get(damage, damage.encode()))
    if name == run_folder.ANSWERS:
        content = resume_files.load_answers(tmp_path)
    else:
        content = resume_files.restore(tmp_path, {"a": parameter})
    assert content is None and f"{name} is damaged" in capsys.readouterr().err
    assert run_folder.leftovers(tmp_path)
    run_folder.clean(tmp_path)
    assert not run_folder.leftovers(tmp_path)


def test_weights_beyond_what_is_kept_go_with_the_record_and_the_run_is_not_repeated(tmp_path: Path) -> None:
    small = ["profile=smoke", "method=bitfit", "task=sentiment", "train.steps=1", "tracker=none", f"paths.runs={tmp_path}"]
    for most, present in (("1", True), ("1e-9", False)):
        overrides = [*small, f"seed={int(present)}", f"launch.keep_gb={most}"]
        run_record = run.run(compose(overrides), overrides)
        adapter = tmp_path / "smoke" / run_record["signature"] / run_folder.ADAPTER
        assert adapter.is_file() is present and (run_folder.ADAPTER in run_record["files"]) is present
        assert run.run(compose(overrides), overrides) == run_record


@pytest.mark.parametrize("umask", [0, 0o027])
def test_a_run_s_files_have_the_mode_of_the_umask(umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that shares runs/ reads the weights, too; who lets everybody write does so knowingly."""
    small = ["profile=smoke", "method=bitfit", "task=sentiment", "train.steps=2", "train.checkpoint_every=1"]
    overrides = [*small, "tracker=none", f"paths.runs={tmp_path}"]
    monkeypatch.setattr(checkpoint.shutil, "rmtree", lambda *given, **how: None)  # the checkpoints stay
    before = os.umask(umask)
    try:
        run_record = run.run(compose(overrides), overrides)
    finally:
        os.umask(before)
    folder = tmp_path / "smoke" / run_record["signature"]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file() and path.name != "lock"}
    assert {run_folder.ADAPTER, "state.safetensors"} <= set(modes) and set(modes.values()) == {0o666 & ~umask}, modes


def test_what_a_killed_sweep_noted_stays_in_the_finished_run_and_is_counted_there(tmp_path: Path) -> None:
    config = compose(["profile=smoke", "task=sentiment", "method=bitfit", "train.steps=1", f"paths.runs={tmp_path}"])
    cell = launch.cell_of(config, [])
    attempts.note(cell.folder, 75, "stopped by SIGTERM")
    run.run(config)
    status = run_summary.Status.of(cell)
    assert (status.status, status.attempts, status.why) == ("finished", 2, "")
    assert "SIGTERM" not in run_summary.table([status]) and not run_folder.leftovers(cell.folder)


@pytest.mark.parametrize("failures", [1, 2])
def test_a_deletion_that_the_disk_fails_leaves_no_checkpoints_or_is_said(
    failures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Met by torture: an I/O error at one deletion left them all beside the record, and nothing was said."""
    (tmp_path / run_folder.CHECKPOINTS / "step_00000001").mkdir(parents=True)
    (tmp_path / run_folder.CHECKPOINTS / "step_00000001" / "state.json").write_text("{}")
    unlink, left = os.unlink, [failures]

    def failing(*given: Any, **named: Any) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.EIO, "Input/output error")
        unlink(*given, **named)

    monkeypatch.setattr(os, "unlink", failing)
    run_folder.clean(tmp_path)
    present = (tmp_path / run_folder.CHECKPOINTS).exists()
    assert present == (failures == 2) == ("cannot delete" in capsys.readouterr().err)


def test_a_sweep_tidies_up_after_a_run_killed_between_its_record_and_its_clean_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Met by torture: the record is there, so no sweep came back to what the killed one had left beside it."""
    config = compose(["profile=smoke", "task=entailment", "method=bitfit", f"paths.runs={tmp_path}"])
    cell = launch.cell_of(config, [])
    cell.folder.mkdir(parents=True)
    (cell.folder / "checkpoints").mkdir()
    (cell.folder / run_folder.ANSWERS).write_text("{}")
    monkeypatch.setattr(launch, "job_overrides", lambda: [])
    monkeypatch.setattr(launch.record, "find", lambda *asked: {"status": "finished"})
    monkeypatch.setattr(launch, "summary_line", lambda *said, **how: "")
    with record.lock(cell.folder):  # a process is at it
        record.tidy(cell.folder)
        assert run_folder.leftovers(cell.folder)
    launch.job(config)
    assert not run_folder.leftovers(cell.folder)


def test_a_signal_after_the_training_waits_until_its_weights_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone("llama")
    model = adapt(SimpleNamespace(load=lambda: backbone), Lora(rank=2), 0, torch.device("cpu"))
    flags: list[bool] = []

    def trained(*rest: Any) -> Trained:
        signal.raise_signal(signal.SIGTERM)
        return TRAINED

    monkeypatch.setattr(stages, "train", trained)
    before = signal.signal(signal.SIGTERM, lambda number, frame: flags.append((tmp_path / run_folder.FACTS).exists()))
    try:
        config, ranks = TrainConfig(lr=1.0), Ranks(torch.device("cpu"))
        log = SimpleNamespace(log=None)
        stages.learn(model, Rows([], []), Completion(), config, 0, tmp_path, log, "", ranks)  # type: ignore[arg-type]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert flags == [True]


def test_what_a_killed_write_leaves_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / ".step_00000002.tmp").mkdir()
    for name in (".step_00000002.tmp/state.safetensors", ".best_00000002.safetensors.12.tmp", "best_00000001.safetensors"):
        (tmp_path / name).write_bytes(b"x")
    remove_temporaries(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["best_00000001.safetensors"]
