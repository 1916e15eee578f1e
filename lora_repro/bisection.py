"""A sweep that finds the smallest value of an axis at which a row reaches a share of another row's score, by bisection.

An experiment asks for it beside the axis; only the values of the axis may be tried:

    bisect: {axis: row.d, references: [full], share: 0.9}

- For each row, task and backbone it runs both ends, then the middle of the values between the largest that fell short and the
  smallest that was enough, until these are neighbours. If they are by other runs, the ends are not needed.
- A value is enough if the mean score of all its seeds is at least `share` of the first reference's mean score on the same
  backbone with pre-trained weights. A twin with random weights is held to the same line. It is searched after the same training
  of all its values, and not at all if that falls short: then no part of them is enough.
- The next value follows from the records alone. So the same command continues after a kill, on any launcher, and runs made by
  another command count.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_repro.errors import UserError
from lora_repro.metrics.corpus import counted_score
from lora_repro.planning.cells import Cell
from lora_repro.records import record
from lora_repro.records.run_folder import ATTEMPTS, LOCK, RECORD
from lora_repro.results import grouped, place

Records = Mapping[Path, Mapping[str, Any] | None]


@dataclass(frozen=True)
class Rule:
    """axis: what is searched. share: the share of the score of the first of `references` that is enough.

    references: the rows after the first are shown beside it, such as the same training of a twin's random weights.
    """

    axis: str
    references: Sequence[str]
    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UserError(f"bisect.share must be above 0 and at most 1, not {self.share}")


def rule_of(config: Mapping[str, Any]) -> Rule | None:
    """The rule of a resolved configuration, or None if it asks for no bisection."""
    return Rule(**config["bisect"]) if config.get("bisect") else None


@dataclass(frozen=True)
class Bisection:
    """One row's search. values: value -> its cells, one per seed, in increasing order. reference: the cells of the reference.

    whole: full training of the row's own weights, which are random for a twin; empty if it was not asked for.
    """

    values: Mapping[int, Sequence[Cell]]
    reference: Sequence[Cell]
    share: float
    whole: Sequence[Cell] = ()

    def enough(self, value: int, records: Records) -> bool | None:
        """Whether a value is enough. None if a run of it or of the reference has no record yet, or if one of the reference
        diverged, so that there is no line.
        """
        return self._reaches(self.values[value], records)

    def possible(self, records: Records) -> bool | None:
        """Whether full training of the row's own weights is enough; None if it was not run."""
        return self._reaches(self.whole, records) if self.whole else None

    @property
    def twin(self) -> bool:
        """Whether the row's weights are not those of the reference, and their full training was asked for."""
        return bool(self.whole) and self.whole[0].folder != self.reference[0].folder

    def _reaches(self, cells: Sequence[Cell], records: Records) -> bool | None:
        mean, reference_mean = (_mean(group, records) for group in (cells, self.reference))
        if mean is None or reference_mean is None or not math.isfinite(reference_mean):
            return None
        return round(mean - self.share * reference_mean, 12) >= 0  # equality is enough, but 0.9 * 0.8 > 0.72 in floats

    def bracket(self, records: Records) -> tuple[int | None, int | None]:
        """(the largest value that fell short, the smallest above it that was enough); None for either that does not exist."""
        verdicts = {value: self.enough(value, records) for value in self.values}
        low = max((value for value, verdict in verdicts.items() if verdict is False), default=None)
        high = min((value for value, verdict in verdicts.items() if verdict and (low is None or value > low)), default=None)
        return low, high

    def next(self, records: Records) -> int | None:
        """The value to run next; None once the bracket is two neighbours, an end decides, or while a twin is not `possible`."""
        if self.twin and not self.possible(records):
            return None
        values = list(self.values)
        low, high = self.bracket(records)
        between = [value for value in values if low is not None and high is not None and low < value < high]
        if low is None or high is None or between:
            for end in (values[0], values[-1]):
                if any(records[cell.folder] is None for cell in self.values[end]):
                    return end
        return between[len(between) // 2] if between else None


def bisections(all_cells: Sequence[Cell], rule: Rule) -> list[Bisection]:
    """A search per row that has the axis, task and backbone. Raises UserError if its reference is not among the cells."""
    searches = []
    references = [cell for cell in all_cells if cell.row.name in rule.references]
    searched = [cell for cell in all_cells if _swept(cell, rule)]
    for cells in grouped(searched, lambda cell: _where(cell, rule)):
        reference = [cell for cell in references if _says(cell, cells[0], rule)]
        if not reference:
            raise UserError(f"a search over {rule.axis} compares with row {rule.references[0]}: add that row")
        full_cells = [cell for cell in references if place(cell, rule.axis) == place(cells[0], rule.axis)]
        values = {int(group[0].axes[rule.axis]): group for group in grouped(cells, lambda cell: cell.axes[rule.axis])}
        searches.append(Bisection(dict(sorted(values.items())), reference, rule.share, full_cells))
    return searches


def referenced(cell: Cell, cells: Sequence[Cell], rule: Rule) -> bool:
    """Whether the reference of a cell is among `cells`."""
    return any(_says(other, cell, rule) for other in cells)


def _says(reference: Cell, cell: Cell, rule: Rule) -> bool:
    """Whether `reference` sets the line of `cell`: it is of the first reference row, and differs otherwise only in whether the
    backbone's weights are random.
    """
    reference_key, cell_key = ((item.asked["backbone"]["name"], place(item, rule.axis, "backbone")) for item in (reference, cell))
    return reference.row.name == rule.references[0] and reference_key == cell_key


def _where(cell: Cell, rule: Rule) -> Hashable:
    return cell.row.name, place(cell, rule.axis)


def due(all_cells: Sequence[Cell], rule: Rule, records: Records) -> list[Cell]:
    """The cells to run next: those outside the searches, and one value of each search."""
    searches = bisections(all_cells, rule)
    search_ids = {id(cell) for search in searches for cells in search.values.values() for cell in cells}
    queue = [cell for cell in all_cells if id(cell) not in search_ids]
    for search in searches:
        value = search.next(records)
        queue += search.values[value] if value is not None else []
    return [cell for cell in queue if records[cell.folder] is None]


def rule_among(cells: Sequence[Cell]) -> Rule | None:
    """The rule by which these cells are searched; None if they have one value of its axis, or belong to another sweep."""
    rule = rule_of(cells[0].asked) if cells else None
    values = {cell.axes[rule.axis] for cell in cells if _swept(cell, rule)} if rule else ()
    return rule if len(values) > 1 else None


def _swept(cell: Cell, rule: Rule) -> bool:
    return cell.row.name not in rule.references and rule.axis in cell.axes


def search_note(cells: Sequence[Cell]) -> str:
    """The note before a search starts: at most how many of the axis's values it runs; empty for any other sweep."""
    rule = rule_among(cells)
    n = len({cell.axes[rule.axis] for cell in cells if _swept(cell, rule)}) if rule else 0
    most = min(n, 2 + (n - 2).bit_length())
    return f"each row runs at most {most} of the {n} values of {rule.axis} (binary search)" if rule and most < n else ""


def rounds(all_cells: Sequence[Cell], rule: Rule) -> Iterator[list[Cell]]:
    """The cells of each round; run them before asking for the next round. A cell that failed is not tried again."""
    tried_folders: set[Path] = set()
    while True:
        records = {cell.folder: recorded(cell) for cell in all_cells}
        cells = [cell for cell in due(all_cells, rule, records) if cell.folder not in tried_folders]
        if not cells:
            return
        tried_folders |= {cell.folder for cell in cells}
        yield cells


def begun(cell: Cell) -> bool:
    """Whether the cell's run was started, here or by another process, which holds its lock."""
    return any((cell.folder / name).is_file() for name in (RECORD, ATTEMPTS, LOCK))


def recorded(cell: Cell) -> Mapping[str, Any] | None:
    """A cell's record, with which it will not run again; None also if it is of another configuration, which the run reports."""
    try:
        return record.find(cell.folder, cell.asked)
    except UserError:
        return None


def _mean(cells: Sequence[Cell], records: Records) -> float | None:
    """The mean score over seeds; None if a record is missing, minus infinity if a run diverged or has no score."""
    entries = [entry for cell in cells if (entry := records[cell.folder])]
    if len(entries) < len(cells):
        return None
    scores = [None if entry["status"] == "diverged" else counted_score(entry, cells[0].score) for entry in entries]
    return statistics.fmean(-math.inf if score is None else score for score in scores)
