"""Ctrl-C and SIGTERM at any stage: one line, the documented exit code, no traceback; and locks that say what is wrong."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lora_repro import cli
from lora_repro.errors import Terminated, UserError
from lora_repro.records import record

SLOW = """
import signal, sys, time
from lora_repro import cli
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits it as ignored
cli.begin("__main__")
print("importing", flush=True)
{stage}
"""
STAGES = {
    "imports": "time.sleep(60)",
    "anything": "sys.exit(cli.command(lambda arguments: time.sleep(60))([]))",
}


@pytest.mark.parametrize("stage", ["imports", "anything"])
@pytest.mark.parametrize(("number", "code", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 75, "SIGTERM")])
def test_a_signal_is_one_line_and_its_exit_code(stage: str, number: int, code: int, name: str) -> None:
    command = [sys.executable, "-c", SLOW.format(stage=STAGES[stage])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "importing\n"
            time.sleep(0.05)
            process.send_signal(number)
            _, said = process.communicate(timeout=20)
        finally:
            process.kill()  # nothing to one that has ended; left running, its pipes would fail another test
    assert (process.returncode, said) == (code, f"error: stopped by {name}; the same command goes on from there\n")


def test_sigterm_inside_a_command_is_75(capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(arguments: list[str]) -> int:
        raise Terminated

    assert cli.command(stopped)([]) == 75
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("number", "says"), [(errno.ENOSYS, "no file can be locked"), (errno.ENOLCK, "no file can be locked"),
                                              (errno.EROFS, "cannot write")])  # fmt: skip
def test_a_file_system_without_locks_is_said(number: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("filelock._unix.fcntl.flock", refused)
    with pytest.raises(UserError, match=rf"{says} in .*; choose another place with paths.runs"), record.lock(tmp_path / "run"):
        pass
