"""How far the runs of a sweep are by their own steps, and how long it has still to go."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lora_repro.sweep import progress
from lora_repro.sweep.progress import Pace, steps_of


def cell(name: str, folder: Path = Path("/nowhere"), **train: Any) -> Any:
    config = {"train": {"steps": None, "epochs": 1, **train}}
    return cast(Any, SimpleNamespace(signature=name, folder=folder / name, asked=config))


def record(seconds: float, training: float = 0.0, answering: float = 0.0) -> dict[str, Any]:
    return {"measured": {"wall_seconds": seconds, "train_seconds": training, "decode_seconds": answering}}


def log(run: Any, step: int, of: int) -> None:
    run.folder.mkdir(parents=True, exist_ok=True)
    lines = [{"step": step, "epoch": step / of, "train_loss": 1.0}, {"step": step, "dev_loss": 1.0}]
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step"')


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_run_weighs_its_published_seconds_or_the_mean_of_the_others_(clock: list[float]) -> None:
    runs = [cell(name) for name in "abc"]
    pace = Pace(runs, {"a": record(60), "b": record(180), "z": record(1)})  # c: 120 s
    pace.began(runs[0])
    clock[0] += 30
    assert pace.ended(runs[0]) == "1 of 3 runs done, about 2 min left"  # 30 s for 60: 300 are left, 150 s
    pace.began(runs[1])
    clock[0] += 30
    assert pace.ended(runs[1]) == "2 of 3 runs done, about 30 s left"  # 60 s for 240: 120 are left
    pace.began(runs[2])
    assert pace.ended(runs[2]) == ""


def test_two_at_a_time_are_not_told_the_time_of_the_longest(clock: list[float], tmp_path: Path) -> None:
    """A long and a short run go on: the time left comes from the steps of both, and from where each of the others can begin."""
    long, short, last = (cell(name, tmp_path) for name in "lso")
    records = {"l": record(1000, 800), "s": record(100, 80), "o": record(100, 80)}
    pace = Pace([long, short, last], records, beside=2)
    assert pace.seconds() is None  # nothing has begun
    pace.began(long)
    pace.began(short)
    clock[0] += 50
    assert pace.seconds() is None  # neither has logged a step
    log(long, 50, 800)  # 12 % before the first step, 5 % of its steps
    log(short, 20, 80)  # 12 % and 20 %
    # 100 s of two runs for 170 + 32; then the long one has 830 left, the others 68 + 100
    assert pace.seconds() == pytest.approx(100 / 202 * 830)
    assert pace.at_work() == [(long, 50, 800), (short, 20, 80)]
    clock[0] += 50
    assert pace.ended(short).startswith("1 of 3 runs done, about ")


def test_what_an_earlier_attempt_had_done_says_nothing_of_the_pace(clock: list[float], tmp_path: Path) -> None:
    run = cell("r", tmp_path)
    log(run, 400, 800)
    pace = Pace([run], {"r": record(1000, 1000)})
    pace.began(run)
    clock[0] += 100
    log(run, 500, 800)  # an eighth in 100 s, three are left
    assert pace.seconds() == pytest.approx(300)


def test_the_steps_of_a_run_are_those_it_logged(tmp_path: Path) -> None:
    run, by_steps = cell("r", tmp_path, epochs=2), cell("a", tmp_path, steps=120)
    assert steps_of(run) == (0, 0)
    log(run, 8, 16)
    log(by_steps, 30, 7)
    assert steps_of(run) == (8, 32) and steps_of(by_steps) == (30, 120)
    (run.folder / "metrics.jsonl").write_bytes(b"\xff")
    assert steps_of(run) == (0, 0)


def test_a_failed_or_a_foreign_run_is_neither_done_nor_left(clock: list[float]) -> None:
    runs = [cell(name) for name in "abcd"]
    pace = Pace(runs, {})
    assert pace.ended(cell("x")) == ""
    pace.began(runs[0])
    clock[0] += 60
    assert pace.ended(runs[0]) == "1 of 4 runs done, about 3 min left"
    pace.began(runs[1])
    clock[0] += 60
    assert pace.ended(runs[1], failed=True) == ""
    pace.began(runs[2])
    clock[0] += 60
    assert pace.ended(runs[2]) == "2 of 4 runs done, about 60 s left"  # one is left, not two
