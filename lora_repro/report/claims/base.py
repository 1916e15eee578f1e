"""The interface of a claim's test (the rows it reads, its rule in words, its readings at one profile), and how it names cells."""

from __future__ import annotations

import abc
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

from lora_repro.errors import UserError
from lora_repro.report.claims.evidence import Evidence
from lora_repro.report.claims.reading import Reading
from lora_repro.stats.intervals import LEVEL
from lora_repro.stats.verdict import BESIDE, combined


class ClaimTest(abc.ABC):
    """An operational test. Its parameters come from conf/claim/ and were fixed before results were read."""

    combine: str = "all"  # how several readings make one verdict: `reading.combined`
    looks: Mapping[str, int] = MappingProxyType({})  # profile -> how often its seeds were added to; each look costs (`levels`)
    counts_looks: ClassVar[bool] = False  # whether the test takes `looks` into account
    fails: float = LEVEL  # the level at which differences of scores may show that it fails; of a part (`AllOf`) its share
    anywhere: ClassVar[bool] = False  # whether the outcome is the same at every profile

    def rows(self) -> dict[str, set[str]]:
        """table -> declared rows that the test reads."""
        return {}

    @property
    @abc.abstractmethod
    def rule(self) -> str:
        """When the claim counts as replicated, in words."""

    @abc.abstractmethod
    def read(self, evidence: Evidence) -> list[Reading]:
        """The readings at a profile; empty if nothing was run. Raises UserError if records cannot be compared."""

    def verdict(self, readings: Sequence[Reading]) -> str:
        """The verdict over the readings of `read`, without those that are not judged."""
        return combined([reading.verdict for reading in readings if reading.verdict != BESIDE], self.combine)


@dataclass(frozen=True)
class Operand:
    """A cell that a claim names: `table/row` or `table/row@size`.

    size: a number; `min` or `max`; `mid`, every size between these two; or `*`, every size that no other cell of the comparison
    names.
    """

    table: str
    row: str
    size: str | None = None

    @classmethod
    def of(cls, text: str) -> Operand:
        match = re.fullmatch(r"(\w+)/(\w+)(?:@(\d+|min|max|mid|\*))?", text)
        if not match:
            raise UserError(f"a cell is table/row or table/row@size, not {text!r}")
        return cls(*match.groups())

    @property
    def name(self) -> str:
        return f"{self.table}/{self.row}{'' if self.size is None else '@' + self.size}"


def rows_by_table(cells: Iterable[Operand]) -> dict[str, set[str]]:
    """table -> the rows that these cells belong to."""
    by_table: dict[str, set[str]] = {}
    for cell in cells:
        by_table.setdefault(cell.table, set()).add(cell.row)
    return by_table


def expanded(cells: Sequence[Operand], sizes: Sequence[int]) -> list[list[Operand]]:
    """The cells with numbers as sizes, once for each size that `*` or `mid` stands for; empty if a size is not declared."""
    ends = {"min": min(sizes, default=0), "max": max(sizes, default=0)}
    named = [replace(cell, size=str(ends[cell.size])) if cell.size in ends else cell for cell in cells]
    taken = {cell.size for cell in named}
    many = {"*": [str(size) for size in sizes if str(size) not in taken], "mid": [str(size) for size in sorted(sizes)[1:-1]]}
    made = [named]
    for word in many.keys() & taken:
        made = [[replace(cell, size=size) if cell.size == word else cell for cell in old] for old in made for size in many[word]]
    known = {None, *map(str, sizes)}
    return [cells for cells in made if all(cell.size in known for cell in cells)]
