"""The interface of a claim's test (the rows it reads, its rule in words, its readings at one profile), and how it names cells.

Here are also what a profile offers as evidence, the test of several parts, and the one that a test of this repository holds.
"""

from __future__ import annotations

import abc
import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from lora_repro.analysis.probed_run import ProbedRun, probed_runs
from lora_repro.config.paths import ROOT
from lora_repro.costs import measures
from lora_repro.errors import UserError
from lora_repro.planning.cells import Cell
from lora_repro.report.claims.reading import Reading
from lora_repro.results import Run, Store, declared_cells, published, runs
from lora_repro.stats.intervals import LEVEL
from lora_repro.stats.verdict import BESIDE, NOT_RUN, TESTED, combined

Record = dict[str, Any]


@dataclass
class Evidence:
    """results/<profile>, read once. `wanted`: table -> the rows that claims read; only these are composed."""

    profile: str
    folder: Path
    wanted: Mapping[str, Sequence[str]]
    store: Store = field(init=False)
    _cells: dict[str, list[Cell]] = field(init=False, default_factory=dict)
    _probed: dict[str, list[ProbedRun]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.store = published(self.folder)

    def cells(self, table: str) -> list[Cell]:
        """The declared cells of a table. Raises UserError for a table or row that conf/ does not declare."""
        if table not in self._cells:
            rows = ",".join(sorted(self.wanted[table]))
            self._cells[table] = declared_cells(table, self.profile, [f"row/{table}={rows}"])
        return self._cells[table]

    def runs(self, cells: Sequence[Cell]) -> dict[int, Run]:
        """seed -> run, of any status, for the cells of one row at one place."""
        return {run.cell.seed: run for run in runs(cells, self.store)}

    def probed(self, table: str) -> list[ProbedRun]:
        """The LoRA runs of a table that left arrays."""
        if table not in self._probed:
            self._probed[table] = [run for run in probed_runs(runs(self.cells(table), self.store)) if run.rank]
        return self._probed[table]

    def measures(self, name: str) -> dict[str, Record]:
        """path below results/ -> measurement, one per kind of device."""
        return {f"{self.profile}/measures/{stem}.json": record for stem, record in measures.load(self.folder, name).items()}

    def source(self, key: str) -> str:
        """Where the record of a signature lies, below results/."""
        return f"{self.profile}/records/{key}.json"


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
    operands = [replace(cell, size=str(ends[cell.size])) if cell.size in ends else cell for cell in cells]
    labels = {cell.size for cell in operands}
    many = {"*": [str(size) for size in sizes if str(size) not in labels], "mid": [str(size) for size in sorted(sizes)[1:-1]]}
    variants = [operands]
    for word in many.keys() & labels:
        variants = [
            [replace(cell, size=size) if cell.size == word else cell for cell in old] for old in variants for size in many[word]
        ]
    valid_sizes = {None, *map(str, sizes)}
    return [cells for cells in variants if all(cell.size in valid_sizes for cell in cells)]


class AllOf(ClaimTest):
    """`parts`: tests, each with a verdict from its own readings."""

    def __init__(self, parts: Sequence[ClaimTest]) -> None:
        self.parts = list(parts)
        for part in self.parts:
            part.fails /= len(self.parts)  # one part that fails decides

    @property
    def counts_looks(self) -> bool:  # type: ignore[override]
        return all(part.counts_looks for part in self.parts)

    def rows(self) -> dict[str, set[str]]:
        by_table: dict[str, set[str]] = {}
        for part in self.parts:
            for table, rows in part.rows().items():
                by_table.setdefault(table, set()).update(rows)
        return by_table

    @property
    def rule(self) -> str:
        return "; and ".join(part.rule for part in self.parts)

    def read(self, evidence: Evidence) -> list[Reading]:
        """The readings of all parts. A part without a reading counts as not run: the others cannot stand in for it."""
        all_readings = []
        for index, part in enumerate(self.parts):
            readings = part.read(evidence) or [Reading(part.rule, "", NOT_RUN)]
            all_readings += [replace(reading, part=index) for reading in readings]
        return all_readings

    def verdict(self, readings: Sequence[Reading]) -> str:
        by_part = [[reading for reading in readings if reading.part == index] for index in range(len(self.parts))]
        return combined([part.verdict(its_readings) for part, its_readings in zip(self.parts, by_part, strict=True)], "all")


def has_test(test: str) -> bool:
    """Whether tests/ has the test `file.py::name`."""
    file, _, name = test.partition("::")
    path = ROOT / "tests" / file
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
    return name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


class HeldByTests(ClaimTest):
    """Held by tests, each `file.py::name`. Raises UserError if one of them does not exist."""

    anywhere = True

    def __init__(self, tests: Sequence[str], says: str) -> None:
        self.tests, self.says = list(tests), says
        for test in self.tests:
            if not has_test(test):
                raise UserError(f"no test {test} in tests/")

    @property
    def rule(self) -> str:
        return f"{self.says}: {', '.join(f'`tests/{test}`' for test in self.tests)} must pass"

    def read(self, evidence: Evidence) -> list[Reading]:
        return [Reading("checked by tests of this repository, not by a record", "", TESTED, notes=tuple(self.tests))]
