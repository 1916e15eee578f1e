"""A mirror isolated from the run: a thread that the run never waits for makes all its calls, its start included.

A full queue drops new calls, a call that raises is reported once, and a mirror that hangs is abandoned when the program ends.
None of this affects the run's random numbers, files or exit code.
"""

from __future__ import annotations

import os
import queue
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from lora_repro.errors import UserError
from lora_repro.tracking.metrics import Ending, Mirror

ROOM = 10_000  # calls that the queue holds; a step's losses take about 500 bytes
CLOSING = 5.0  # seconds
unfinished: set[Background] = set()
# name -> function that ends the tracker's own process, for which Python's exit would wait without a limit.
closers: dict[str, Callable[[], object]] = {}


class Background:
    """A Mirror whose calls return at once.

    start: creates the mirror; called at the first log, so a run that fails earlier leaves no trace there.
    patience: seconds for which the end of the program (`awaited`) waits for its pending calls. Raises UserError if it is none.
    """

    def __init__(self, name: str, start: Callable[[], Mirror], patience: float, room: int = ROOM) -> None:
        number = isinstance(patience, int | float) and not isinstance(patience, bool)
        if not (number and 0 <= patience <= threading.TIMEOUT_MAX):
            raise UserError(f"tracker.patience must be a number of seconds >= 0, not {patience!r}")
        self.name, self.patience = name, patience
        self._start, self._said = start, False
        self._room = room
        self._calls: queue.SimpleQueue[Callable[[Mirror], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def log(self, step: int, values: dict[str, float]) -> None:
        if self._calls.qsize() >= self._room:
            self._say("does not keep up; some of this run's steps will be missing there")
            return
        snapshot = dict(values)
        self._put(lambda mirror: mirror.log(step, snapshot))

    def finish(self, ending: Ending) -> None:
        if self._thread is None and not ending.summary:
            return  # the run stopped before it logged anything
        self._put(lambda mirror: mirror.finish(ending))
        self._put(None)

    def join(self, seconds: float | None = None) -> bool:
        """Wait until its pending calls are done; False if that takes longer than `seconds`."""
        if self._thread is not None:
            self._thread.join(seconds)
        return self._thread is None or not self._thread.is_alive()

    def _put(self, call: Callable[[Mirror], None] | None) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
            unfinished.add(self)
            self._thread.start()
        self._calls.put(call)

    def _work(self) -> None:
        try:
            mirror = self._start()
        except Exception as error:
            self._say(f"did not start ({one_line(error)}); the run continues without it")
            mirror = None
        while (call := self._calls.get()) is not None:
            try:
                if mirror is not None:
                    call(mirror)
            except Exception as error:
                self._say(f"failed ({one_line(error)}); the run continues")
        unfinished.discard(self)

    def _say(self, text: str) -> None:
        """Report only the first failure of a run: a failing mirror fails at every step."""
        if not self._said:
            self._said = True
            print(f"{self.name} {text}", file=sys.stderr, flush=True)


def one_line(error: Exception) -> str:
    """The error's first line, without the user and password that a server's address may contain."""
    return re.sub(r"//[^/@\s]+@", "//", next(iter(str(error).splitlines()), "")) or type(error).__name__


def join_all() -> list[str]:
    """Wait for every mirror for its patience, all in parallel, then close their trackers. Returns those still busy."""
    start, busy, mirrors = time.monotonic(), [], sorted(unfinished, key=lambda item: item.patience)
    for mirror in mirrors:
        mirror.finish(Ending("failed"))  # if its run never did; a second finish has no effect
        if not mirror.join(max(0.0, start + mirror.patience - time.monotonic())):
            busy.append(mirror.name)
    unfinished.clear()
    for name, close in closers.items() if not busy else ():
        thread = threading.Thread(target=_shut, args=(close,), name=name, daemon=True)
        thread.start()
        thread.join(CLOSING)
        if thread.is_alive():
            busy.append(name)
    return busy


def _shut(close: Callable[[], object]) -> None:
    with suppress(Exception):  # its process may be gone already
        close()


@contextmanager
def awaited() -> Iterator[None]:
    """Around a program: wait for the mirrors at its end. A mirror that hangs would also hang Python's shutdown, whose exit hooks
    wait for it; then the process ends here, with the exit code that it was about to have.
    """
    code: object = 0
    try:
        yield
    except BaseException as error:
        code = error.code if isinstance(error, SystemExit) else error
        raise
    finally:
        if busy := join_all():
            if isinstance(code, BaseException):
                traceback.print_exception(code)
            names = ", ".join(sorted(set(busy)))
            hint = "losses and scores are in the runs' metrics.jsonl"
            print(f"{names} did not answer in time (tracker.patience=120 waits longer); {hint}", file=sys.stderr)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else int(code is not None))
