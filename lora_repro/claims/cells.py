"""How a claim names cells of the tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lora_repro.errors import UserError


@dataclass(frozen=True)
class Cell:
    """`table/row`, or `table/row@size` with a number, `min`, `max`, `mid` (each between these) or `*` (each that none names)."""

    table: str
    row: str
    size: str | None = None

    @classmethod
    def of(cls, text: str) -> Cell:
        found = re.fullmatch(r"(\w+)/(\w+)(?:@(\d+|min|max|mid|\*))?", text)
        if not found:
            raise UserError(f"a cell is table/row or table/row@size, not {text!r}")
        return cls(*found.groups())

    @property
    def name(self) -> str:
        return f"{self.table}/{self.row}{'' if self.size is None else '@' + self.size}"


def expanded(cells: Sequence[Cell], sizes: Sequence[int]) -> list[list[Cell]]:
    """The cells with numbers for sizes, once for each size that `*` or `mid` stands for; none where a size is not declared."""
    ends = {"min": min(sizes, default=0), "max": max(sizes, default=0)}
    named = [replace(cell, size=str(ends[cell.size])) if cell.size in ends else cell for cell in cells]
    taken = {cell.size for cell in named}
    many = {"*": [str(size) for size in sizes if str(size) not in taken], "mid": [str(size) for size in sorted(sizes)[1:-1]]}
    made = [named]
    for word in many.keys() & taken:
        made = [[replace(cell, size=size) if cell.size == word else cell for cell in old] for old in made for size in many[word]]
    known = {None, *map(str, sizes)}
    return [cells for cells in made if all(cell.size in known for cell in cells)]
