"""Which GPU a run of a sweep has, on machines whose cards are made up."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest

from lora_repro.errors import Busy
from lora_repro.planning.cells import cells
from lora_repro.sweep import gpus, parallel, supervise


def test_every_run_has_a_gpu_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    with gpus.own_gpu() as one, gpus.own_gpu() as other:
        assert [one, other] == [{"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "7"}]
        monkeypatch.setattr("time.sleep", lambda seconds: pytest.exit("waits"))
        with pytest.raises(pytest.exit.Exception), gpus.own_gpu():
            pytest.fail("a third run on two GPUs")
        with pytest.raises(Busy, match="stopped"), gpus.own_gpu(stopping=lambda: True):
            pytest.fail("started after the sweep was stopped")
    with gpus.own_gpu() as again:
        assert again == {"CUDA_VISIBLE_DEVICES": "4"}
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with gpus.own_gpu(2) as one, gpus.own_gpu(2) as two, gpus.own_gpu(2) as three:
        assert [next(iter(c.values())) for c in (one, two, three)] == ["4", "7", "4"]  # two on one only where both are taken
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        with gpus.own_gpu() as none:
            assert none == {}
    for spelled, names in (("3,-1,5", ["3"]), (" 3, 5,", ["3", "5"]), ("3, -1,5", ["3"])):  # one card has one name, so one lock
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", spelled)
        assert gpus.visible_gpus() == names


def test_cards_are_counted_without_the_driver_where_no_variable_lists_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.visible_gpus() == []
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)  # a container without nvidia-smi
    assert gpus.visible_gpus() == ["0", "1", "2"]
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\necho "GPU 0: A100 (UUID: x)"\necho "  MIG 1g"\necho "GPU 1: A100 (UUID: y)"\n')
    program.chmod(0o755)
    assert gpus.visible_gpus() == ["0", "1"]


@pytest.fixture
def four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of four cards."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setattr(gpus.shutil, "which", lambda name: None)


@pytest.mark.parametrize(
    ("settings", "runs"),
    [
        ("", 4),
        ("launch.per_gpu=3", 9),
        ("device=cuda:2", 1),
        ("device=cuda:2 launch.per_gpu=3", 3),
        ("launch.processes=2", 1),
        ("launch.together=2", 2),
    ],
)
def test_a_sweep_has_as_many_runs_at_a_time_as_there_are_cards(settings: str, runs: int, four: None) -> None:
    overrides = ["profile=smoke", "task=sentiment", "method=lora,bitfit,full", "seed=0,1,2", *settings.split()]
    assert parallel.at_once(cells(overrides)) == runs


@pytest.mark.parametrize(("threads", "runs"), [("", 4), ("1", 4), ("2,1", 2), ("many", 4)])
def test_threads_are_told_as_openmp_has_them(threads: str, runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number for each level of nesting, the outermost first."""
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setattr(parallel, "cores", lambda: 4)
    monkeypatch.setattr("lora_repro.costs.forecast.memory", lambda config: 1)
    overrides = ["profile=smoke", "task=sentiment", "method=lora,bitfit", "seed=0,1", "device=cpu"]
    assert parallel.at_once(cells(overrides)) == runs


@pytest.mark.parametrize(("settings", "at_once"), [([], 1), (["launch.per_gpu=3"], 3)])
def test_no_two_runs_of_a_sweep_meet_on_one_card(
    settings: list[str], at_once: int, four: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    busy: Counter[str] = Counter()
    most: Counter[str] = Counter()
    counting, full = threading.Lock(), threading.Barrier(4 * at_once)

    def once(module: str, arguments: list[str], environment: dict[str, str]) -> int:
        card = environment["CUDA_VISIBLE_DEVICES"]
        with counting:
            busy[card] += 1
            most[card] = max(most[card], busy[card])
        full.wait(30)  # until a run is on each place: there are 12
        with counting:
            busy[card] -= 1
        return 0

    monkeypatch.setattr(supervise, "_once", once)
    grid = ["profile=smoke", "task=sentiment", "method=lora,bitfit,full", "seed=0,1,2,3"]
    sweep = cells([*grid, f"paths.runs={tmp_path}", *settings])
    with parallel.side_by_side(parallel.at_once(sweep)):
        for cell in sweep:
            launch = cell.asked["launch"]
            how = (launch["tries"], launch["processes"], launch["per_gpu"], cell.asked["device"])
            parallel.submit(lambda cell=cell, how=how: supervise.start("x", [], cell.folder, *how))  # type: ignore[misc]
    assert sorted(most) == ["0", "1", "2", "3"] and max(most.values()) == at_once


def test_a_run_on_a_named_card_locks_it_and_one_on_the_cpu_none(four: None) -> None:
    with gpus.own_gpu(1, "cuda:2") as cuda, gpus.own_gpu(1, "cpu") as none, gpus.own_gpu() as other:
        assert (cuda, none, other) == ({}, {}, {"CUDA_VISIBLE_DEVICES": "0"})


def test_falling_back_to_the_cpu_is_said_where_a_gpu_was_to_be_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(gpus, "visible_gpus", lambda: ["0", "1"])
    assert "2 GPUs are here, but torch" in str(gpus.cpu_fallback_warning("auto", "mini"))
    assert gpus.cpu_fallback_warning("cpu", "mini") is None
    monkeypatch.setattr(gpus, "visible_gpus", list)
    assert gpus.cpu_fallback_warning("auto", "mini") is None
    assert "takes the CPU" in str(gpus.cpu_fallback_warning("auto", "paper"))
