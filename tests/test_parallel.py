"""Runs of a sweep side by side: how many, that they are, and how they stop."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lora_repro import console
from lora_repro.commands import run
from lora_repro.costs import forecast
from lora_repro.planning.cells import Cell, cells
from lora_repro.records import attempts
from lora_repro.sweep import parallel, supervise
from lora_repro.train.ranks import Ranks

GIB = 2**30


@pytest.fixture(autouse=True)
def _own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(supervise, "_signals", [])
    monkeypatch.setattr(parallel, "CGROUP", tmp_path / "no container")
    monkeypatch.delenv(console.MARK, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    yield
    os.environ.pop(console.MARK, None)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine of these cores and this memory, where a run takes so much."""

    def be(cores: int, free: float, needed: float, device: str = "cpu") -> None:
        monkeypatch.setattr(parallel, "cores", lambda: cores)
        monkeypatch.setattr(parallel.psutil, "virtual_memory", lambda: SimpleNamespace(available=free * GIB))
        monkeypatch.setattr(forecast, "memory", lambda config: needed * GIB)
        monkeypatch.setattr(Ranks, "here", lambda asked: SimpleNamespace(device=SimpleNamespace(type=device)))

    return be


def grid(*overrides: str) -> list[Cell]:
    return cells(["profile=smoke", "task=sentiment", "method=lora,bitfit", "seed=0,1,2", *overrides])


def test_as_many_runs_go_on_as_cores_and_memory_allow(machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    runs = grid()
    machine(cores=4, free=100, needed=2)
    assert parallel.at_once(runs) == 4 and parallel.at_once(runs[:3]) == 3 and parallel.at_once(runs[:1]) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert parallel.at_once(runs) == 2
    monkeypatch.delenv("OMP_NUM_THREADS")
    machine(cores=4, free=7, needed=2)
    assert parallel.at_once(runs) == 3
    machine(cores=4, free=1, needed=2)
    assert parallel.at_once(runs) == 1
    machine(cores=4, free=100, needed=2, device="cuda")  # of no card that it may use
    assert parallel.at_once(runs) == 1
    assert parallel.at_once(grid("launch.together=2")) == 2
    machine(cores=4, free=100, needed=2)
    assert parallel.at_once(grid("launch.together=1")) == 1 and parallel.at_once(grid("launch.processes=2")) == 2


V2 = {
    "cpu.max": "{quota} 100000",
    "memory.max": "{limit}",
    "memory.current": "{used}",
    "memory.stat": "anon 1\ninactive_file {cache}",
}
V1 = {
    "cpu/cpu.cfs_quota_us": "{quota}",
    "cpu/cpu.cfs_period_us": "100000",
    "memory/memory.limit_in_bytes": "{limit}",
    "memory/memory.usage_in_bytes": "{used}",
    "memory/memory.stat": "inactive_file 1\ntotal_inactive_file {cache}",
}


@pytest.mark.parametrize(("files", "none"), [(V2, "max"), (V1, "-1")])
def test_a_container_has_its_own_cores_and_memory(
    files: dict[str, str], none: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its runs would take each other's time, or be killed for want of memory."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(parallel.psutil, "virtual_memory", lambda: SimpleNamespace(available=100 * GIB))
    monkeypatch.setattr(parallel, "CGROUP", tmp_path)

    def be(quota: object, limit: object) -> tuple[int, int]:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text.format(quota=quota, limit=limit, used=6 * GIB, cache=2 * GIB) + "\n")
        return parallel.cores(), parallel.free_memory()

    assert be(150_000, 16 * GIB) == (2, 12 * GIB)  # files kept in memory give way
    assert be(1_000_000, 2**62) == be(none, none if none == "max" else 2**62) == (8, 100 * GIB)
    for name in files:
        (tmp_path / name).unlink()
    assert (parallel.cores(), parallel.free_memory()) == (8, 100 * GIB)


def test_memory_is_told_of_generated_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 2)
    monkeypatch.setattr(parallel.psutil, "virtual_memory", lambda: SimpleNamespace(available=10**15))
    assert parallel.at_once(grid("device=cpu")) == 2


def test_the_runs_of_a_sweep_are_side_by_side(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each waits for another one: one after another they would wait for ever."""
    machine(cores=2, free=100, needed=1)
    meeting = threading.Barrier(2, timeout=60)
    starts: list[Any] = []

    def start(module: str, overrides: list[str], folder: Path, *rest: int) -> int:
        meeting.wait()
        starts.append((folder, tuple(overrides), os.environ["OMP_NUM_THREADS"], os.environ[console.TOGETHER]))
        attempts.note(folder, 2, "rank 99 exceeds 32")
        return 2

    monkeypatch.setattr(supervise, "start", start)
    words = ["-m", "profile=smoke", "task=sentiment", "method=lora,bitfit", "seed=0,1", f"paths.runs={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["run", *words])
    with pytest.raises(SystemExit) as left:
        run.main()
    output = capsys.readouterr().out
    assert left.value.code == 2 and "2 runs at a time, 1 thread(s) each" in output and output.count("rank 99 exceeds") == 4
    assert {folder for folder, *_ in starts} == {cell.folder for cell in cells(words)}
    assert {(threads, mark) for _, _, threads, mark in starts} == {("1", "1")} and console.TOGETHER not in os.environ


def test_ctrl_c_stops_those_at_work_and_starts_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    at_work, starts = threading.Event(), []

    def start() -> None:
        if supervise.stopping():
            return
        starts.append(1)
        at_work.set()
        while not supervise.stopping():
            at_work.wait(0.01)

    def interrupted() -> None:
        with parallel.side_by_side(2):
            for _ in range(5):
                parallel.submit(start)
            at_work.wait(60)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert 1 <= len(starts) <= 2


def test_what_a_run_raises_is_raised_at_the_end() -> None:
    runs = []

    def bad() -> None:
        raise OSError("no such thing")

    def ends() -> None:
        with parallel.side_by_side(2):
            parallel.submit(bad)
            parallel.submit(lambda: runs.append(1))

    with pytest.raises(OSError, match="no such thing"):
        ends()
    assert runs == [1]
    parallel.submit(lambda: runs.append(2))  # outside, at once
    assert runs == [1, 2]


def test_runs_that_share_a_terminal_have_no_bars_of_their_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    for shared in (False, True):
        if shared:
            monkeypatch.setenv(console.TOGETHER, "1")
        with console.bar(3, "lora e2e seed 0", "step") as bar:
            bar.update(3)
        assert bool(capsys.readouterr().err) is not shared
