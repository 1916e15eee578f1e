"""A run's own process: killed ones are tried again, decisions are not, and nobody is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lora_repro import supervise
from lora_repro.errors import Busy, UserError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where to write `program.py`, which stands in for lora_repro.run; each start adds a line to `starts`."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    monkeypatch.setenv("STARTS", str(tmp_path / "starts"))
    monkeypatch.setattr(supervise, "_signals", [])
    monkeypatch.delenv(supervise.MARK, raising=False)
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
    assert supervise.attempts(tmp_path / "run") == {"attempts": 1, "exit": -9, "why": "was killed by SIGKILL"}
    assert "was killed by SIGKILL; it is tried again" in capsys.readouterr().err


@pytest.mark.parametrize(("ending", "code"), [("os.kill(os.getpid(), signal.SIGKILL)", -9), ("1 / 0", 1)])
def test_a_run_that_always_fails_is_given_up_at_the_cap(program: Path, tmp_path: Path, ending: str, code: int) -> None:
    program.write_text(HEAD + ending + "\n")
    assert supervise.start("program", [], tmp_path / "run", tries=3) == code
    assert len(starts(program)) == 3 and supervise.attempts(tmp_path / "run")["attempts"] == 3


@pytest.mark.parametrize("code", [2, 3, 75, 130])
def test_what_a_run_decides_is_not_tried_again(program: Path, tmp_path: Path, code: int) -> None:
    program.write_text(HEAD + f"sys.exit({code})\n")
    assert supervise.start("program", [], tmp_path / "run", tries=3) == code
    assert len(starts(program)) == 1 and supervise.attempts(tmp_path / "run")["attempts"] == 0


def test_the_reason_of_a_run_is_kept_but_not_that_another_process_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervise.confess(UserError("not supervised"))
    monkeypatch.setenv(supervise.SUPERVISED, str(tmp_path))
    supervise.confess(Busy("elsewhere"))
    assert supervise.attempts(tmp_path) == {"attempts": 0}
    supervise.confess(UserError("rank 99 exceeds 32"))
    assert supervise.attempts(tmp_path) == {"attempts": 1, "exit": 2, "why": "rank 99 exceeds 32"}


def test_a_stop_reaches_the_run_as_sigterm_and_no_try_follows(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program.write_text(HEAD + "signal.signal(signal.SIGTERM, lambda *a: sys.exit(75))\ntime.sleep(60)\n")
    mark = tmp_path / "mark"
    mark.touch()
    monkeypatch.setenv(supervise.MARK, str(mark))
    before = time.monotonic()
    assert supervise.start("program", [], tmp_path / "run", tries=3) == 75
    assert time.monotonic() - before < 50
    assert supervise.attempts(tmp_path / "run")["exit"] == 75 and len(starts(program)) <= 1


def test_sigterm_marks_the_sweep_as_stopping(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(supervise.MARK, str(tmp_path / "mark"))
    with supervise.stoppable():
        assert not supervise.stopping()
        os.kill(os.getpid(), signal.SIGTERM)
        assert supervise.stopping() and (tmp_path / "mark").exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_every_run_has_a_gpu_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    with supervise.own_gpu() as one, supervise.own_gpu() as other:
        assert [one, other] == [{"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "7"}]
        monkeypatch.setattr("time.sleep", lambda seconds: pytest.exit("waits"))
        with pytest.raises(pytest.exit.Exception), supervise.own_gpu():
            pytest.fail("a third run on two GPUs")
    with supervise.own_gpu() as again:
        assert again == {"CUDA_VISIBLE_DEVICES": "4"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    with supervise.own_gpu() as only:
        assert only == {}


ORPHAN = """
import signal, sys, time
from pathlib import Path
from lora_repro import supervise
signal.signal(signal.SIGTERM, lambda *a: (Path({gone!r}).touch(), sys.exit(75)))
supervise.obey()
Path({here!r}).touch()
time.sleep(60)
"""


def test_a_run_whose_supervisor_was_killed_outright_stops_in_order(program: Path, tmp_path: Path) -> None:
    here, gone = tmp_path / "here", tmp_path / "gone"
    program.write_text(ORPHAN.format(here=str(here), gone=str(gone)))
    code = f"import pathlib; from lora_repro import supervise; supervise.start('program', [], pathlib.Path({str(tmp_path)!r}), 1)"
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 120
    while not here.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert here.exists() and not gone.exists()
    process.kill()
    process.wait()
    while not gone.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert gone.exists()
