"""Runs each run of a sweep in a process of its own: one that crashes or is killed is tried again, without harm to the others.

Failed tries leave `attempts.json` in the run's folder: how many there were, and why the last one ended. SIGTERM is passed on to
the run, which writes its checkpoint; a run whose supervisor is gone stops in the same way.

Importing torch, transformers and scikit-learn takes 15 seconds of CPU. A sweep pays for it once: its runs are forked from a
server that has done nothing but those imports (it has made no tensor and touched no GPU).
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from uuid import uuid4

from lora_repro import console
from lora_repro.errors import INTERRUPTED, STOPPED, Busy, Terminated
from lora_repro.files import running
from lora_repro.records import attempts, record
from lora_repro.sweep.gpus import own_gpu

APART = "LORA_REPRO_APART"  # set if the process group of a dead supervisor is killed, as by Ray: runs then leave the group
# Modules that the server imports. joblib registers the start method that its workers pass on. The others are imported by a run,
# some of them lazily; a name that no longer exists only costs time.
PRELOADED = [
    *("lora_repro.sweep.fork_server", "joblib", "lora_repro.sweep.launch", "lora_repro.run.run"),
    *("pandas", "accelerate", "safetensors.torch", "scipy.optimize", "scipy.stats", "sklearn.metrics", "sympy"),
    *("lora_repro.metrics.glue", "lora_repro.metrics.nlg", "torch._dynamo", "transformers.tokenization_utils_tokenizers"),
    *(f"transformers.models.{name}.modeling_{name}" for name in ("bert", "gpt2", "llama", "roberta")),
]
PROCESS = uuid4().hex  # tells this process from one with the same id in another container that shares paths.runs
ANSWERS = (0, 2, 3, STOPPED, INTERRUPTED)  # exit codes of a run that ended by its own decision and is not tried again

_signals: list[int] = []
_patience = 0.0  # seconds that `start` waits for a run's folder
_reading = threading.Lock()  # starting a process reaps all that have ended: if two threads read one exit, the second finds none


def mark_of(folder: Path) -> Path:
    """The path of the file that appears when this process's sweep is to stop. One left by its earlier sweep is removed.

    It stays the same for all sweeps of a process, whose joblib workers live on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / f"stop-{os.getpid()}-{PROCESS}"
    mark.unlink(missing_ok=True)
    return mark


def stopping() -> bool:
    """Whether this process or its sweep was told to stop, or the sweep's process is gone (joblib's workers outlive it)."""
    if _signals:
        return True
    if console.MARK not in os.environ:
        return False
    mark = Path(os.environ[console.MARK])
    return mark.exists() or not running(int(mark.name.split("-")[1]))


def _note_signal(number: int, frame: FrameType | None) -> None:
    _signals.append(number)
    if console.MARK in os.environ:
        with suppress(OSError):  # of a full disk: what it interrupts goes on
            Path(os.environ[console.MARK]).write_text(_reason())


def _reason() -> str:
    """What stopped this process or its sweep."""
    return console.CTRL_C if signal.SIGINT in _signals or console.interrupted() else "SIGTERM"


def stop(number: int = signal.SIGTERM) -> None:
    """Make the runs of this process's sweep stop in order, as on SIGTERM. `number`: the signal that they name as the reason."""
    _note_signal(number, None)


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM stop the runs in order instead of killing this process."""
    before = signal.signal(signal.SIGTERM, _note_signal) if threading.current_thread() is threading.main_thread() else None
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def patient(seconds: float) -> Iterator[None]:
    """Make `start` wait up to `seconds` for the run of a killed supervisor, which writes its checkpoint and frees its folder."""
    global _patience
    before, _patience = _patience, seconds
    try:
        yield
    finally:
        _patience = before


def _let_go(folder: Path) -> None:
    """Return when no process holds a run's folder, or after `_patience` seconds."""
    until = time.monotonic() + _patience
    while time.monotonic() < until and not stopping():
        try:
            with record.lock(folder):
                return
        except Busy:
            time.sleep(1)


def start(
    module: str,
    overrides: Sequence[str],
    folder: Path,
    tries: int,
    processes: int = 1,
    per_gpu: int = 1,
    device: str = "auto",
) -> int:
    """Run `python -m <module> <overrides>` until it ends by its own decision, at most `tries` times; returns its exit code."""
    arguments = [*overrides, "hydra.mode=RUN"]
    if processes > 1:
        arguments = ["--standalone", f"--nproc-per-node={processes}", "-m", module, *arguments]
        module = "torch.distributed.run"
    code = 0
    _let_go(folder)
    for tries_left in reversed(range(max(1, tries))):
        before = attempts.attempts(folder)["attempts"]
        card: AbstractContextManager[dict[str, str]] = own_gpu(per_gpu, device, stopping) if processes == 1 else nullcontext({})
        try:
            with card as gpu_env:
                attempt_env = {attempts.SUPERVISED: str(folder), attempts.ATTEMPT: str(before + 1)}
                code = _once(module, arguments, {**os.environ, **gpu_env, **attempt_env})
        except Busy:  # stopped while it waited for a card
            return STOPPED
        if processes > 1:
            code = _decided(folder, before, code)
        if code == -signal.SIGTERM or (code and stopping()):
            if attempts.attempts(folder)["attempts"] == before:  # the run could not record it itself
                attempts.note(folder, STOPPED, f"stopped by {console.CTRL_C if code == INTERRUPTED else _reason()}")
            return STOPPED
        if code in ANSWERS:
            break
        reason = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"crashed with exit code {code}"
        attempts.note(folder, code, reason)
        print(f"run {folder.name} {reason}; {'trying again' if tries_left else 'giving up'}", file=sys.stderr, flush=True)
    return code


def _decided(folder: Path, before: int, code: int) -> int:
    """The exit code of a run of several processes: torchrun itself exits with 1, whatever its ranks exit with."""
    if code and attempts.attempts(folder)["attempts"] > before:
        return int(attempts.attempts(folder)["exit"])
    try:
        with record.lock(folder):
            pass
    except Busy as error:
        return error.exit_code
    return code


NO_SERVER = 255  # Python's exit code of a process whose server died while it ran


def _once(module: str, arguments: list[str], environment: dict[str, str]) -> int:
    """One try in a new process; returns its exit code, or minus the number of the signal that killed it."""
    # Apple's frameworks do not survive a fork, so on macOS each run imports everything again.
    linux = sys.platform == "linux"
    context = multiprocessing.get_context("forkserver") if linux else multiprocessing.get_context("spawn")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_run, args=(module, arguments, environment))
    terminated = False
    try:
        try:
            with _reading:
                process.start()
        except (EOFError, ConnectionError):  # the fork server was killed; the next try starts another
            return NO_SERVER
        while (code := _ended(process)) is None:
            if stopping() and not terminated:
                process.terminate()
                terminated = True
            wait([process.sentinel], timeout=1)
    except BaseException as error:  # Ctrl-C, or the launcher cancels its job: the run writes its checkpoint first
        if isinstance(error, KeyboardInterrupt) and not isinstance(error, Terminated):
            stop(signal.SIGINT)
        if process.pid is not None:
            process.terminate()
            process.join()
        raise
    return code


def _ended(process: BaseProcess) -> int | None:
    with _reading:
        return process.exitcode


def _run(module: str, arguments: list[str], environment: dict[str, str]) -> None:
    """In the new process: act as `python -m <module> <arguments>`, and stop as on SIGTERM when the supervisor is gone."""
    os.environ.clear()
    os.environ.update(environment)
    if APART in environment:
        os.setpgrp()
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # SLURM sends it to all processes of a job; the supervisor handles it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGUSR2})
    supervisor = multiprocessing.parent_process()
    assert supervisor is not None

    def watch() -> None:
        supervisor.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    sys.argv[1:] = arguments  # runpy sets the first
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # multiprocessing skips them, and a scorer's Java process would be left behind
