"""`python -m <arguments>` in a fork of this process, which has imported already what every command would import for seconds."""

from __future__ import annotations

import atexit
import importlib
import logging
import multiprocessing
import os
import runpy
import sys
import threading
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import NoReturn

import torch
from accelerate.state import PartialState
from hydra.core.global_hydra import GlobalHydra

from lora_repro.sweep.supervise import PRELOADED

OURS = ("lora_repro", "experiments", *(path.stem for path in Path(__file__).parent.glob("*.py")))
SERVER = "lora_repro.sweep.fork_server"  # which leaves the signals of its own process to others


def forked(arguments: Sequence[str], folder: Path, outputs: Path, **variables: str) -> CompletedProcess[str]:
    """What `python -m <arguments>` does in a folder that holds a copy of the project. `outputs`: where its words are kept.

    It has none of this process's modules of the project and its tests, and what it would fork from a server that imports for
    seconds too it forks from itself.
    """
    for name in set(PRELOADED) - {SERVER}:
        importlib.import_module(name)
    sys.stdout.flush()
    sys.stderr.flush()
    if not (pid := os.fork()):
        _be(list(arguments), folder, outputs, variables)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    streams = [(outputs / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
    return CompletedProcess(list(arguments), code, *streams)


def _be(arguments: list[str], folder: Path, outputs: Path, variables: dict[str, str]) -> NoReturn:
    code = 1
    try:
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(outputs / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115  (until the process ends)
        _forget()
        os.chdir(folder)
        os.environ.update(variables)
        root = Path(__file__).resolve().parents[1]
        sys.path[:] = [str(folder), *(path for path in sys.path if Path(path or ".").resolve() != root)]
        sys.argv = arguments
        try:
            runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else int(left.code is not None)
        threading._shutdown()  # type: ignore[attr-defined]  # what an interpreter does at its end, in its order
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _forget() -> None:
    """Be as a new interpreter is: no module of the project or its tests, no exit function, handler or filter of theirs."""
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    PartialState._reset_state()  # a test that trained with accelerate has left that there is one process
    GlobalHydra.instance().clear()
    os.register_at_fork(after_in_child=GlobalHydra.instance().clear)
    atexit._clear()
    logging.root.handlers.clear()
    warnings.resetwarnings()
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning, "runpy")  # as in lora_repro.sweep.fork_server
    context = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda method=None: context  # type: ignore[assignment,misc]
    torch.set_num_threads(1)  # libgomp does not survive a fork with more
