"""What every generated sentence task draws with, and the English that all of them need: articles, capitals, stops."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")
Row = tuple[str, str | None, str]  # sentence1, sentence2 (None where one sentence is classified), label

# One in so many cells (frame or first content word, second content word) is kept for dev.
HOLD_OUT = 5


class Example(NamedTuple):
    """A row, the kind of frame or rule that made it, and the cell of content words that decides its split."""

    row: Row
    kind: str
    cell: tuple[int, int]


class Draw:
    """Choices from `random.Random(seed).random()` alone, the stream that Python keeps between versions."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def chance(self, p: float) -> bool:
        """True with probability p."""
        return self._random() < p

    def index(self, n: int) -> int:
        """Each of 0..n-1 with equal probability."""
        return int(self._random() * n)

    def uniform(self, options: Sequence[T]) -> T:
        """Each option with equal probability."""
        return options[self.index(len(options))]

    def sample(self, options: Sequence[T], n: int) -> list[T]:
        """n options, no one twice, in random order."""
        rest = list(options)
        return [rest.pop(self.index(len(rest))) for _ in range(n)]


def held_out(cell: tuple[int, int]) -> bool:
    """Whether a pair of words is kept for dev. Each word alone is shown in train too."""
    return (cell[0] + 2 * cell[1]) % HOLD_OUT == 0


def with_article(phrase: str) -> str:
    """ "a plot", "an original plot", "a user-friendly phone"."""
    return ("an " if phrase[0] in "aeiou" and not phrase.startswith("user") else "a ") + phrase


def sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."
