"""What the generated sentence tasks share: the row type, the held-out cells, and English articles, capitals and stops."""

from __future__ import annotations

from typing import NamedTuple

from lora_repro.tasks.glue.files import Row

# One in HOLD_OUT cells (frame or first content word, second content word) is kept out of train.
HOLD_OUT = 5


class Example(NamedTuple):
    """A row, and the cell of content words that decides its split."""

    row: Row
    cell: tuple[int, int]


def held_out(cell: tuple[int, int]) -> bool:
    """Whether a pair of words is kept out of train. Each word alone occurs in train, too."""
    return (cell[0] + 2 * cell[1]) % HOLD_OUT == 0


def with_article(phrase: str) -> str:
    """ "a plot", "an original plot", "a user-friendly phone"."""
    return ("an " if phrase[0] in "aeiou" and not phrase.startswith("user") else "a ") + phrase


def sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."
