"""One run of a sweep in a process of its own: one that crashes or is killed is tried again and costs nothing but itself.

Failed tries leave `attempts.json` in the run's folder: how many there were, and why the last one ended. SIGTERM is passed on
to the run, which writes its checkpoint; a run whose supervisor is gone stops in the same way.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

from lora_repro import record
from lora_repro.errors import Busy, UserError

SUPERVISED = "LORA_REPRO_SUPERVISED"  # set for a supervised run: its folder
MARK = "LORA_REPRO_STOP"  # a file that appears when a sweep of several processes on one machine is to stop
STOPPED = 75  # exit code: again later
ANSWERS = (0, 2, 3, STOPPED, 130)  # the exit codes of a run that ended by its own decision: no use in trying again

_signals: list[int] = []


def stopping() -> bool:
    """Whether this process, or the sweep on this machine, was told to stop."""
    return bool(_signals) or (MARK in os.environ and Path(os.environ[MARK]).exists())


def _note_signal(number: int, frame: FrameType | None) -> None:
    _signals.append(number)
    if MARK in os.environ:
        Path(os.environ[MARK]).touch()


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM stop the runs in order instead of killing this process."""
    before = signal.signal(signal.SIGTERM, _note_signal) if threading.current_thread() is threading.main_thread() else None
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def attempts(folder: Path) -> dict[str, Any]:
    """What is known of a run's failed tries: `attempts`, and the last one's `exit` and `why`."""
    try:
        return dict(json.loads((folder / "attempts.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {"attempts": 0}


def note(folder: Path, code: int, why: str) -> None:
    """Write down that a try ended without a record."""
    record.write_json(
        folder / "attempts.json", {"attempts": attempts(folder)["attempts"] + 1, "exit": code, "why": why}
    )


def start(module: str, overrides: Sequence[str], folder: Path, tries: int, processes: int = 1) -> int:
    """Run `python -m <module> <overrides>` until it ends by its own decision, at most `tries` times. Returns its exit code."""
    command = [sys.executable, "-m", module, *overrides, "hydra.mode=RUN"]
    if processes > 1:
        command[1:2] = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    code = 0
    for left in reversed(range(max(1, tries))):
        before = attempts(folder)["attempts"]
        alone: AbstractContextManager[dict[str, str]] = own_gpu() if processes == 1 else nullcontext({})
        with alone as chosen:
            code = _once(command, {**os.environ, **chosen, SUPERVISED: str(folder)})
        if code == -signal.SIGTERM or (code and stopping()):
            if attempts(folder)["attempts"] == before:  # it could not say so itself
                note(folder, STOPPED, "stopped by SIGTERM")
            return STOPPED
        if code in ANSWERS:
            break
        ended = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"crashed with exit code {code}"
        note(folder, code, ended)
        print(f"the run {folder.name} {ended}; {'it is tried again' if left else 'given up'}", file=sys.stderr, flush=True)
    return code


@contextmanager
def own_gpu() -> Iterator[dict[str, str]]:
    """Of several GPUs that CUDA_VISIBLE_DEVICES lists, one that no other run on this machine has; waits for it."""
    listed = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if len(listed) < 2:
        yield {}
        return
    with ExitStack() as stack:
        while True:
            for name in listed:
                try:
                    stack.enter_context(record.lock(Path(tempfile.gettempdir()) / f"lora_repro_{os.getuid()}_gpu_{name}"))
                except Busy:
                    continue
                yield {"CUDA_VISIBLE_DEVICES": name}
                return
            time.sleep(1)


def _once(command: list[str], environment: dict[str, str]) -> int:
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE) as process:
        told = False
        try:
            while True:
                try:
                    return process.wait(timeout=1)
                except subprocess.TimeoutExpired:
                    if stopping() and not told:
                        process.terminate()
                        told = True
        except BaseException:  # Ctrl-C, or a launcher that takes its job back: the run writes its checkpoint first
            process.terminate()
            process.wait()
            raise


def obey() -> None:
    """In a supervised run: stop, as on SIGTERM, when the supervisor is gone."""
    if SUPERVISED not in os.environ:
        return
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # SLURM sends it to all of a job's processes; the supervisor answers

    def watch() -> None:
        while os.read(0, 1):  # returns nothing once the other end of the pipe is closed
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def confess(error: UserError) -> None:
    """In a supervised run: leave the reason for which it ends without a record."""
    if SUPERVISED in os.environ and not isinstance(error, Busy) and os.environ.get("RANK", "0") == "0":
        note(Path(os.environ[SUPERVISED]), error.exit_code, str(error))
