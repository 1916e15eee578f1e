"""metrics.jsonl whatever happens, and mirrors that sleep, raise or die beside it."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lora_repro.errors import Preempted, UserError
from lora_repro.tracking.background import Background, closers, join_all, unfinished
from lora_repro.tracking.metrics import Ending, Metrics, Mirror, NoTracker, flat

ROOT = Path(__file__).resolve().parents[1]
RECORD = {
    "status": "finished",
    "measured": {"scores": {"bleu": 0.5, "nist": None}, "parameters": {"method": 8}, "steps": 2, "dev_losses": [[1, 2.0]]},
    "where": {"git_sha": "abc", "dirty": False, "device": "cpu", "precision": "fp32", "backbone": {"sha256": "00"}},
}
PREDICTIONS = [{"key": "k", "output": "o", "words": 1}]


class Heard:
    """A mirror that keeps what it is told, and the thread that told it."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, dict[str, float]]] = []
        self.endings: list[Ending] = []
        self.threads: set[str] = set()

    def log(self, step: int, values: dict[str, float]) -> None:
        self.steps.append((step, values))
        self.threads.add(threading.current_thread().name)

    def finish(self, ending: Ending) -> None:
        self.endings.append(ending)


def behind(start: Any, patience: float = 10, **more: Any) -> Background:
    return Background("Board", start, patience, **more)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def whole_run(path: Path, mirror: Mirror | None) -> None:
    with Metrics(path, mirror) as metrics:
        for step in range(1, 6):
            metrics.log(step, {"train_loss": 1 / step})
        metrics.finish(RECORD, PREDICTIONS)


def test_a_resumed_run_drops_the_steps_that_come_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = Metrics(path)
    for step in (1, 2, 3):
        first.log(step, {"train_loss": step})
    with path.open("a") as file:
        file.write('{"step": 4, "tra')  # killed while writing
    again = Metrics(path)
    again.log(2, {"train_loss": 20})
    again.log(2, {"dev_loss": 21})
    assert [(line["step"], line.get("train_loss")) for line in lines(path)] == [(1, 1), (2, 20), (2, None)]


def test_a_mirror_hears_everything_in_order_from_a_thread_of_its_own(tmp_path: Path) -> None:
    heard = Heard()
    mirror = behind(lambda: heard)
    whole_run(tmp_path / "metrics.jsonl", mirror)
    assert mirror.join(10)
    assert heard.steps == [(step, {"train_loss": 1 / step}) for step in range(1, 6)] and heard.threads == {"Board"}
    (ending,) = heard.endings
    assert ending.status == "finished" and ending.predictions == PREDICTIONS
    assert ending.summary == {
        "scores/bleu": 0.5,
        "parameters/method": 8,
        "steps": 2,
        "where/git_sha": "abc",
        "where/dirty": False,
        "where/device": "cpu",
        "where/precision": "fp32",
    }
    assert mirror not in unfinished


def test_texts_of_the_data_stay_here() -> None:
    human = {**RECORD, "where": {"backbone": {"sha256": ""}}}
    assert Ending.of(human, PREDICTIONS).predictions == []


def test_answers_about_data_whose_licence_keeps_them_stay_here() -> None:
    private = {**RECORD, "where": {**RECORD["where"], "data": {"caption": "SAMSum", "outputs_private": True}}}
    ending = Ending.of(private, PREDICTIONS)
    assert ending.predictions == [] and ending.summary["scores/bleu"] == 0.5


def test_flat_names_nested_values_and_leaves_lists_out() -> None:
    assert dict(flat({"a": {"b": {"c": 1}, "d": [1]}, "e": None, "f": "x"})) == {"a/b/c": 1, "f": "x"}


@pytest.mark.parametrize(
    ("error", "status"),
    [(Preempted("stopped", 15), "preempted"), (KeyboardInterrupt(), "preempted"), (ValueError("x"), "failed")],
)
def test_an_attempt_that_ends_early_is_named_and_its_error_passes(
    tmp_path: Path, error: BaseException, status: str
) -> None:
    heard = Heard()
    mirror = behind(lambda: heard)
    with pytest.raises(type(error)), Metrics(tmp_path / "metrics.jsonl", mirror) as metrics:
        metrics.log(1, {"train_loss": 1.0})
        raise error
    assert mirror.join(10) and [ending.status for ending in heard.endings] == [status]


def test_a_run_that_fails_before_its_first_step_leaves_no_trace(tmp_path: Path) -> None:
    mirror = behind(lambda: pytest.fail("started"))
    with pytest.raises(UserError), Metrics(tmp_path / "metrics.jsonl", mirror):
        raise UserError("no such data")
    assert mirror.join(0) and mirror not in unfinished


class Raises:
    def log(self, step: int, values: dict[str, float]) -> None:
        raise RuntimeError("no\nnetwork")

    def finish(self, ending: Ending) -> None:
        raise BrokenPipeError


def no_start() -> Mirror:
    raise ImportError("no such package")


@pytest.mark.parametrize(
    ("start", "said"),
    [(Raises, "Board failed (no); the run continues"), (no_start, "Board did not start (no such package); the run continues")],
)
def test_a_mirror_that_raises_is_named_once(
    tmp_path: Path, start: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror = behind(start)
    whole_run(tmp_path / "metrics.jsonl", mirror)
    assert mirror.join(10) and len(lines(tmp_path / "metrics.jsonl")) == 5
    messages = capsys.readouterr().err.splitlines()
    assert len(messages) == 1 and messages[0].startswith(said)


class Sleeps:
    def __init__(self, gate: threading.Event) -> None:
        self.gate = gate

    def log(self, step: int, values: dict[str, float]) -> None:
        self.gate.wait()

    def finish(self, ending: Ending) -> None: ...


@pytest.mark.parametrize("asleep", ["start", "log"])
def test_a_mirror_that_sleeps_for_ever_costs_no_time(
    tmp_path: Path, asleep: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = threading.Event()

    def start() -> Mirror:
        if asleep == "start":
            gate.wait()
        return Sleeps(gate)

    mirror = behind(start, patience=0.2, room=3)
    began = time.monotonic()
    try:
        whole_run(tmp_path / "metrics.jsonl", mirror)
        assert join_all() == ["Board"] and not unfinished
        assert time.monotonic() - began < 60  # it sleeps until the gate opens
        assert len(lines(tmp_path / "metrics.jsonl")) == 5
        assert capsys.readouterr().err == "Board does not keep up; some of this run's steps will be missing there\n"
    finally:
        gate.set()
    assert mirror.join(10)


def test_patience_is_granted_to_all_at_once_and_an_unfinished_mirror_is_told(tmp_path: Path) -> None:
    gate, heard = threading.Event(), Heard()
    sleepers = [behind(lambda: Sleeps(gate), patience=0.5) for _ in range(100)]
    for mirror in sleepers:
        mirror.log(1, {})
    left = behind(lambda: heard)
    left.log(1, {})  # its run never said how it ended
    began = time.monotonic()
    try:
        assert join_all() == 100 * ["Board"] and time.monotonic() - began < 25  # one after another: 50 seconds
        assert [ending.status for ending in heard.endings] == ["failed"]
    finally:
        gate.set()


def test_a_tracker_is_closed_when_its_mirrors_are_done_and_left_where_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, calls = threading.Event(), []
    monkeypatch.setattr("lora_repro.tracking.background.CLOSING", 0.2)
    monkeypatch.setitem(closers, "Quick", lambda: calls.append(1))
    monkeypatch.setitem(closers, "Broken", lambda: 1 / 0)
    assert join_all() == [] and calls == [1]
    monkeypatch.setitem(closers, "Slow", gate.wait)
    try:
        assert join_all() == ["Slow"]
    finally:
        gate.set()


def test_nothing_of_it_draws_random_numbers(tmp_path: Path) -> None:
    heard = Heard()
    mirror = behind(lambda: heard)
    before = random.getstate()
    whole_run(tmp_path / "metrics.jsonl", mirror)
    assert mirror.join(10) and random.getstate() == before


def test_no_tracker_is_no_mirror(tmp_path: Path) -> None:
    assert NoTracker().start("s", {}, tmp_path) is None


@pytest.mark.parametrize("patience", [None, "30", True, -1, math.nan, math.inf])
def test_a_patience_that_is_no_time_is_refused_before_the_run(patience: Any) -> None:
    """The program's end waits for it, where it would be a traceback behind hours of training."""
    with pytest.raises(UserError, match=f"^tracker.patience must be a number of seconds >= 0, not {patience!r}$"):
        behind(Heard, patience)
    assert behind(Heard, 0).patience == 0


PROGRAM = """
import atexit, sys, threading, time
from lora_repro.tracking.background import Background, awaited

class Hangs:
    def log(self, step, values): time.sleep(3600)
    def finish(self, ending): ...

@awaited()
def main():
    atexit.register(time.sleep, 3600)  # as a tracker's own exit hook would
    mirror = Background("Board", Hangs, 0.2)
    mirror.log(1, {})
    print("result")
    LEAVE

main()
"""


@pytest.mark.parametrize(("leave", "code"), [("sys.exit(75)", 75), ("sys.exit()", 0), ("pass", 0), ("1 / 0", 1)])
def test_a_program_ends_with_its_own_exit_code_though_a_mirror_hangs(leave: str, code: int) -> None:
    program = [sys.executable, "-c", PROGRAM.replace("LEAVE", leave)]
    process = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert process.returncode == code and process.stdout == "result\n"
    assert (
        "Board did not answer in time (tracker.patience=120 waits longer); losses and scores are in the runs'" in process.stderr
    )
    assert ("ZeroDivisionError" in process.stderr) == (leave == "1 / 0")


def test_a_mirror_hears_of_speed_and_memory_and_the_file_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard()
    clock = iter([10.0, 10.5, 12.0, 12.2, 13.2, 15.2])
    monkeypatch.setattr("lora_repro.tracking.metrics.time", SimpleNamespace(monotonic=lambda: next(clock)))
    metrics = Metrics(tmp_path / "metrics.jsonl", heard, lambda: {"memory_mb": 7.0})
    for step, tokens in ((1, 100), (2, 150), (3, 400)):  # the first has no time before it, the second comes too soon
        metrics.log(step, {"train_loss": 1.0, "tokens": tokens})
    metrics.log(4, {"train_loss": 1.0, "tokens": 460})
    metrics.log(4, {"dev_loss": 2.0, "dev_score": math.nan})  # one second of validation, whose tokens count as much as its time
    metrics.log(5, {"train_loss": 1.0, "tokens": 560})
    logs = [values for _, values in heard.steps]
    assert [values.get("tokens_per_second") for values in logs] == [None, None, 150.0, None, None, 50.0]
    assert [values.get("memory_mb") for values in logs] == [7.0, None, 7.0, None, None, 7.0]
    assert "dev_score" not in logs[4] and '"dev_score": null' in (tmp_path / "metrics.jsonl").read_text()
    assert not any("tokens_per_second" in line or "memory_mb" in line for line in lines(tmp_path / "metrics.jsonl"))
