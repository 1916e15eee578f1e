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

from lora_repro import console
from lora_repro.config import compose
from lora_repro.config.blocks import FileConfigSource
from lora_repro.errors import Terminated, UserError
from lora_repro.records import record
from lora_repro.signals import deferred

SLOW = """
import signal, sys, time
from lora_repro import cli, console
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits it as ignored
cli.install_signal_handlers()
print("importing", flush=True)
{stage}
"""
STAGES = {
    "imports": "time.sleep(60)",
    "anything": "sys.exit(console.command(lambda arguments: time.sleep(60))([]))",
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
            _, message = process.communicate(timeout=20)
        finally:
            process.kill()  # nothing to one that has ended; left running, its pipes would fail another test
    assert (process.returncode, message) == (code, f"error: stopped by {name}; run the same command again to resume\n")


def test_sigterm_inside_a_command_is_75(capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(arguments: list[str]) -> int:
        raise Terminated

    assert console.command(stopped)([]) == 75
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("number", "says"), [(errno.ENOSYS, "no file can be locked"), (errno.ENOLCK, "no file can be locked"),
                                              (errno.EROFS, "cannot write")])  # fmt: skip
def test_a_file_system_without_locks_is_said(number: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refused)
    with pytest.raises(UserError, match=rf"{says} in .*; choose another folder with paths.runs"), record.lock(tmp_path / "run"):
        pass


def test_a_signal_amid_composing_waits_until_nothing_is_half_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """OmegaConf, interrupted, tidies up a container that is not whole, and hides the signal behind an AttributeError."""
    read = FileConfigSource.load_config

    def interrupted(self: FileConfigSource, config_path: str) -> object:
        whole = False
        try:
            if config_path.startswith("method/"):
                signal.raise_signal(signal.SIGTERM)
            whole = True
        finally:
            if not whole:
                raise AttributeError("_invalidate_flags_cache")
        return read(self, config_path)

    def stop(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        monkeypatch.setattr(FileConfigSource, "load_config", interrupted)
        monkeypatch.setattr(sys, "argv", ["run", "method=bitfit", f"paths.runs={tmp_path}"])
        with pytest.raises(Terminated):
            compose.hydra_program(lambda config: pytest.fail("it went on"))
        steps = []
        with pytest.raises(Terminated), compose._tree():  # all that composes outside a Hydra program
            signal.raise_signal(signal.SIGTERM)
            steps.append("and what comes next")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert steps and capfd.readouterr().err == ""


def test_a_deferred_signal_outlives_the_error_that_it_meets() -> None:
    def stop(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(Terminated), deferred():
            signal.raise_signal(signal.SIGTERM)
            raise ValueError("what the work says when it ends")
    finally:
        signal.signal(signal.SIGTERM, before)
