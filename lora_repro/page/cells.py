"""Cells of the page's tables: what is shown, and the number by which a column is sorted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

MISSING = ("", "—")
# A number, then at most a factor, a spread, an interval and a mark. "1 collapsed" or a date is no number.
NUMBER = re.compile(r"([+−-]?\d[\d,]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\s?([kMB%]?)(?: ± [\d.,]+)?(?: ?\[[^\]]*\])?\s?[†‡*]*")
FACTOR = {"": 1.0, "%": 1.0, "k": 1e3, "M": 1e6, "B": 1e9}


@dataclass(frozen=True)
class Cell:
    """`html` is safe to print. repeats: the printed table leaves it blank because it says what stands above."""

    html: Markup
    text: str
    repeats: bool = False
    code: bool = False

    @property
    def number(self) -> str | None:
        """What the column is sorted by, as text that a script reads back."""
        value = number(self.text)
        return None if value is None else f"{value:.10g}"

    @property
    def missing(self) -> bool:
        return self.text in MISSING


@dataclass(frozen=True)
class Grid:
    """A table: `numeric` says which columns stand right."""

    caption: str
    header: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def numeric(self) -> list[bool]:
        """A column of numbers holds at least one, and more of them than of words."""
        columns = [[row[i] for row in self.rows if not row[i].missing] for i in range(len(self.header))]
        return [2 * sum(cell.number is not None for cell in column) > len(column) for column in columns]


def number(text: str) -> float | None:
    """The number that a printed cell begins with: `−0.3`, `74.7 ± 0.4†`, `354.92M`, `+3.5 [+0.8, +6.3]`; else None."""
    found = NUMBER.fullmatch(text.strip())
    if not found:
        return None
    digits, factor = found.groups()
    return float(digits.replace(",", "").replace("−", "-")) * FACTOR[factor]


def plain(text: object, code: bool = False) -> Cell:
    """A cell of foreign text: escaped, never markup."""
    return Cell(escape(str(text)), str(text), code=code)


def grid(caption: str, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Grid:
    return Grid(caption, tuple(map(plain, header)), tuple(map(tuple, rows)))
