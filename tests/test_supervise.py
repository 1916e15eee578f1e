"""A run's own process: killed ones are tried again, decisions are not, and nobody is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lora_repro import console
from lora_repro.commands import run
from lora_repro.errors import Busy, Terminated, UserError
from lora_repro.records import attempts, record
from lora_repro.sweep import supervise

ROOT = Path(__file__).resolve().parents[1]


# What these programs import; a run's own imports take twelve seconds.
ENOUGH = ["lora_repro.sweep.fork_server", "torch.distributed.run"]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where to write `program.py`, which stands in for lora_repro.run; each start adds a line to `starts`."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("STARTS", str(tmp_path / "starts"))
    monkeypatch.setattr(supervise, "_signals", [])
    monkeypatch.setattr(supervise, "PRELOADED", ENOUGH)
    monkeypatch.delenv(console.MARK, raising=False)
    return tmp_path / "program.py"


HEAD = """
import os, signal, sys, time
with open(os.environ["STARTS"], "a") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n")
starts = open(os.environ["STARTS"]).read().count("\\n")
"""


def starts(program: Path) -> list[str]:
    return program.with_name("starts").read_text().splitlines()


def test_a_killed_run_is_tried_again_with_the_same_overrides(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program.write_text(HEAD + "if starts == 1: os.kill(os.getpid(), signal.SIGKILL)\n")
    assert supervise.start("program", ["method=lora", "a='b c'"], tmp_path / "run", tries=2) == 0
    assert starts(program) == ["method=lora a='b c' hydra.mode=RUN"] * 2
    assert attempts.attempts(tmp_path / "run") == {"attempts": 1, "exit": -9, "why": "was killed by SIGKILL"}
    assert "was killed by SIGKILL; trying again" in capsys.readouterr().err


@pytest.mark.parametrize(("ending", "code"), [("os.kill(os.getpid(), signal.SIGKILL)", -9), ("1 / 0", 1)])
def test_a_run_that_always_fails_is_given_up_at_the_cap(program: Path, tmp_path: Path, ending: str, code: int) -> None:
    program.write_text(HEAD + ending + "\n")
    assert supervise.start("program", [], tmp_path / "run", tries=3) == code
    assert len(starts(program)) == 3 and attempts.attempts(tmp_path / "run")["attempts"] == 3


@pytest.mark.parametrize("code", [2, 3, 75, 130])
def test_what_a_run_decides_is_not_tried_again(program: Path, tmp_path: Path, code: int) -> None:
    program.write_text(HEAD + f"sys.exit({code})\n")
    assert supervise.start("program", [], tmp_path / "run", tries=3) == code
    assert len(starts(program)) == 1 and attempts.attempts(tmp_path / "run")["attempts"] == 0


def test_the_reason_of_a_run_is_kept_but_not_that_another_process_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts.record_failure(UserError("not supervised"))
    monkeypatch.setenv(attempts.SUPERVISED, str(tmp_path))
    attempts.record_failure(Busy("elsewhere"))
    assert attempts.attempts(tmp_path) == {"attempts": 0}
    attempts.record_failure(UserError("rank 99 exceeds 32"))
    assert attempts.attempts(tmp_path) == {"attempts": 1, "exit": 2, "why": "rank 99 exceeds 32"}


def test_where_nothing_can_be_written_a_run_s_own_message_is_said(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a full disk a run must still say so, and a sweep go on to its table."""
    folder = tmp_path / "file" / "run"
    folder.parent.touch()  # no folder can be made in a file
    monkeypatch.setenv(attempts.SUPERVISED, str(folder))

    def full(config: object) -> bool:
        raise UserError("free some space")

    monkeypatch.setattr(run, "row_has_seed", full)
    with pytest.raises(SystemExit) as left:
        run.job(OmegaConf.create())
    assert left.value.code == 2 and "error: free some space" in capsys.readouterr().err
    program.write_text("1 / 0")
    assert supervise.start("program", [], folder, tries=1) == 1 and "giving up" in capsys.readouterr().err
    monkeypatch.setenv(console.MARK, str(folder / f"stop-{os.getpid()}"))
    supervise.stop()
    assert supervise.stopping()


OBEDIENT = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *a: (open(os.environ["STARTS"] + ".told", "w").close(), sys.exit(75)))
"""


def test_a_stop_reaches_the_run_as_sigterm_and_no_try_follows(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program.write_text(OBEDIENT + HEAD + "time.sleep(600)\n")
    mark = supervise.mark_of(tmp_path)
    monkeypatch.setenv(console.MARK, str(mark))

    def stop() -> None:
        while not (tmp_path / "starts").exists():
            time.sleep(0.02)
        mark.touch()

    threading.Thread(target=stop, daemon=True).start()
    before = time.monotonic()
    assert supervise.start("program", [], tmp_path / "run", tries=3) == 75
    assert time.monotonic() - before < 500
    assert (tmp_path / "starts.told").exists() and len(starts(program)) == 1
    assert attempts.attempts(tmp_path / "run")["exit"] == 75
    # Told before it has begun, a run does not begin.
    assert supervise.start("program", [], tmp_path / "run", tries=3) == 75
    assert len(starts(program)) == 1


@pytest.mark.parametrize(("number", "said"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_a_run_says_what_stopped_its_sweep(
    number: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sweep stops its runs by SIGTERM, whatever stopped it: they said SIGTERM where Ctrl-C was pressed."""
    monkeypatch.setattr(supervise, "_signals", [])
    monkeypatch.setenv(console.MARK, str(supervise.mark_of(tmp_path)))
    assert not console.interrupted()
    supervise.stop(number)
    assert console.report_interrupt(Terminated()) == 75 and f"stopped by {said};" in capsys.readouterr().err
    assert supervise.stopping()


def test_sigterm_marks_the_sweep_as_stopping(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = supervise.mark_of(tmp_path / "not" / "there")
    monkeypatch.setenv(console.MARK, str(mark))
    before = signal.getsignal(signal.SIGTERM)
    with supervise.stoppable():
        assert not supervise.stopping()
        os.kill(os.getpid(), signal.SIGTERM)
        assert supervise.stopping() and mark.exists()
    assert signal.getsignal(signal.SIGTERM) is before
    monkeypatch.setattr(supervise, "_signals", [])
    with monkeypatch.context() as patch:
        patch.setattr(supervise, "PROCESS", "of another container, with the same process id")
        patch.setenv(console.MARK, str(supervise.mark_of(mark.parent)))
        assert not supervise.stopping() and mark.exists()
    assert supervise.mark_of(mark.parent) == mark and not mark.exists()  # the next sweep starts afresh


def test_a_sweep_that_is_gone_stops_its_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "_signals", [])
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    monkeypatch.setenv(console.MARK, str(tmp_path / f"stop-{process.pid}"))
    assert supervise.stopping()
    monkeypatch.setenv(console.MARK, str(supervise.mark_of(tmp_path)))
    assert not supervise.stopping()

    def anothers(pid: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(supervise.os, "kill", anothers)  # its process id is another user's by now
    assert supervise.stopping()


RANK = HEAD + """
from pathlib import Path
from lora_repro.records import attempts
from lora_repro.errors import Busy, UserError
attempts.record_failure({error})
sys.exit(2)
"""


@pytest.mark.parametrize(
    ("error", "code", "tries"), [('UserError("rank 99 exceeds 32")', 2, 1), ('Busy("elsewhere")', 1, 2)]
)
def test_a_run_of_two_processes_is_tried_again_only_if_it_did_not_decide_so(
    program: Path, tmp_path: Path, error: str, code: int, tries: int
) -> None:
    program.write_text(RANK.format(error=error))
    assert supervise.start("program", [], tmp_path / "run", tries=2, processes=2) == code
    assert attempts.attempts(tmp_path / "run")["attempts"] == tries


def test_a_run_of_two_processes_that_another_one_is_at_is_left_to_it(program: Path, tmp_path: Path) -> None:
    program.write_text(RANK.format(error='Busy("elsewhere")'))
    with record.lock(tmp_path / "run"):
        assert supervise.start("program", [], tmp_path / "run", tries=2, processes=2) == 75
    assert attempts.attempts(tmp_path / "run")["attempts"] == 0


ORPHAN = """
import signal, sys, time
from pathlib import Path
from lora_repro.sweep import supervise
signal.signal(signal.SIGTERM, lambda *a: (Path({gone!r}).touch(), sys.exit(75)))
Path({here!r}).touch()
time.sleep(60)
"""


def test_a_run_whose_supervisor_was_killed_outright_stops_in_order(program: Path, tmp_path: Path) -> None:
    start_file, end_file = tmp_path / "here", tmp_path / "gone"
    program.write_text(ORPHAN.format(here=str(start_file), gone=str(end_file)))
    start = f"supervise.PRELOADED = {ENOUGH[:1]}; supervise.start('program', [], pathlib.Path({str(tmp_path)!r}), 1)"
    process = subprocess.Popen(
        [sys.executable, "-c", f"import pathlib; from lora_repro.sweep import supervise; {start}"]
    )
    deadline = time.monotonic() + 120
    while not start_file.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert start_file.exists() and not end_file.exists()
    process.kill()
    process.wait()
    while not end_file.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert end_file.exists()


def test_a_job_whose_worker_was_killed_waits_for_the_run_that_it_left_behind(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program.write_text(HEAD)
    real, pauses = time.sleep, []

    def sleep(seconds: float) -> None:
        if seconds < 1:  # of the lock itself
            return real(seconds)
        pauses.append(seconds)
        stack.close()

    monkeypatch.setattr(time, "sleep", sleep)
    with ExitStack() as stack, supervise.patient(60):
        stack.enter_context(record.lock(tmp_path / "run"))
        assert supervise.start("program", [], tmp_path / "run", tries=1) == 0
    assert pauses == [1] and starts(program) == ["hydra.mode=RUN"]


@pytest.mark.parametrize("apart", [True, False])
def test_where_groups_are_killed_a_run_has_one_of_its_own(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: bool
) -> None:
    """Ray kills the group of a worker that died; a terminal's Ctrl-C goes to the group of a command."""
    monkeypatch.delenv(supervise.APART, raising=False)
    if apart:
        monkeypatch.setenv(supervise.APART, "1")
    program.write_text(HEAD + "sys.exit(0 if os.getpgrp() == os.getpid() else 2)\n")
    assert supervise.start("program", [], tmp_path / "run", tries=1) == (0 if apart else 2)
