"""SIGTERM and Ctrl-C around code that they must not interrupt at an arbitrary instruction."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def collected() -> Iterator[list[int]]:
    """The list of signals caught so far, for the caller to check between two steps; a second Ctrl-C interrupts at once.

    The first caught signal is raised again at the end, unless an error ends the block: that may be the caller's response to it.
    """
    signals: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if signals and number == signal.SIGINT:
            raise KeyboardInterrupt
        signals.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not in the main thread: signals are someone else's business
        before = {}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signals:
        signal.raise_signal(signals[0])


@contextmanager
def deferred() -> Iterator[None]:
    """Signals caught during the block are raised at its end: a library that they interrupt may hide them behind its own error."""
    signals: list[int] = []
    try:
        with collected() as signals:
            yield
    except BaseException:
        if signals:
            signal.raise_signal(signals[0])
        raise
