"""SIGTERM and Ctrl-C where they may not interrupt at any instruction."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def collected() -> Iterator[list[int]]:
    """Those that come meanwhile, for who asks between two steps; a second Ctrl-C interrupts at once.

    One that came after the last question is heeded at the end, unless an error ends the block: who asked may have raised it.
    """
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not in the main thread: signals are someone else's business
        before = {}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if caught:
        signal.raise_signal(caught[0])


@contextmanager
def deferred() -> Iterator[None]:
    """Those that come meanwhile are heeded at the end: a library that tidies up what is half made hides them behind an error."""
    caught: list[int] = []
    try:
        with collected() as caught:
            yield
    except BaseException:
        if caught:
            signal.raise_signal(caught[0])
        raise
