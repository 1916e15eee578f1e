"""Claims on d90, the fewest random directions that reach a share of full fine-tuning's score (`bisection`)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

from lora_repro.planning.cells import Cell
from lora_repro.report.claims.base import ClaimTest, Evidence
from lora_repro.report.claims.reading import Doubt, Reading
from lora_repro.report.claims.settled import unsettled
from lora_repro.report.columns import task_label
from lora_repro.report.subjects.intrinsic_dimension import DimensionSearch, find_searches, two_digits
from lora_repro.results import backbone_name, grouped
from lora_repro.stats.comparable import is_generated
from lora_repro.stats.verdict import INCONCLUSIVE, NOT_RUN, Region, inside, judge

KNOWN = ", wherever d90 lies between the values of d that were run"
IDLE = "a constant prediction already reaches the threshold"


def _idle(search: DimensionSearch) -> tuple[str, ...]:
    """A note if some threshold takes no learning, of all seeds or of one: then no d90 follows."""
    if search.idle:
        return (IDLE,)
    seeds = ", ".join(map(str, search.idle_seeds))
    return (f"{IDLE} of seed {seeds}",) if seeds else ()


class End(NamedTuple):
    """A seed's d90 as `enough`, the smallest value that was enough above all that fell short (infinite if none was), and its
    bounds: (short, most].
    """

    enough: float
    short: float
    most: float

    @classmethod
    def of(cls, low: int | None, high: int | None) -> End:
        top = math.inf if high is None else float(high)
        return cls(top, float(low or 0), top)


class Dimension(ClaimTest):
    """d90 of `row`, in per cent of the model's values or divided by d90 of the row `over`, lies below the ceiling on each task
    and backbone. The row `over` has the same backbone with random weights (its twin).

    Each seed is held to the same seed's full fine-tuning of the pre-trained weights, in both rows. A seed's d90 lies above the
    largest value that fell short and is at most the smallest that was enough. The claim holds if all of that range lies below
    the ceiling, and fails if none of it does. The reading is the median over seeds of the smallest value that was enough; its
    interval spans all that the seeds' d90 can be.

    There is no verdict at learning rates that were not searched; nor if full fine-tuning still rises (`settled`); nor if a
    constant prediction reaches the threshold of all seeds or of one; nor if full fine-tuning of the twin falls short too: then
    the training is too short to say anything about directions.
    """

    table: ClassVar[str] = "intrinsic_dimension"

    def __init__(self, row: str, references: Sequence[str], ceiling: float, over: str = "") -> None:
        self.row, self.over, self.references = row, over, list(references)
        self.region = Region.of(None, ceiling)

    def rows(self) -> dict[str, set[str]]:
        return {self.table: {self.row, *self.references, *filter(None, [self.over])}}

    @property
    def rule(self) -> str:
        quantity = f" / d90 of `{self.table}/{self.over}`" if self.over else ", in per cent of the model's values"
        terms = ", both held to the threshold of the pre-trained weights, which the other weights must reach when trained in full"
        quantity = f"d90 of `{self.table}/{self.row}`{quantity}{terms if self.over else ''}"
        return f"{quantity}: {self.region.words} for every seed on every task, at searched rates and settled thresholds{KNOWN}"

    def read(self, evidence: Evidence) -> list[Reading]:
        cells = evidence.cells(self.table)
        searches = find_searches(cells, evidence.store)
        groups = grouped(searches, lambda search: (search.cell.task, search.backbone))
        readings = [self._reading(group, evidence) for group in groups]
        return readings + _not_run(cells, searches, f"d90 of {self.row}")

    def _reading(self, group: Sequence[DimensionSearch], evidence: Evidence) -> Reading:
        ours, theirs = ([search for search in group if search.cell.row.name == name] for name in (self.row, self.over))
        runs = {cell.signature: search.records[cell.folder] for search in [*ours, *theirs] for cell in search.cells}
        label = task_label(group[0].cell)
        facts = {
            "what": f"d90 of {self.row}" + (f" / {self.over}" if self.over else ""),
            "unit": f"quotient, {label}" if self.over else f"% of all values, {label}",
            "sources": tuple(evidence.source(name) for name in runs),
            "generated": is_generated([dict(record) for record in runs.values() if record]),
        }  # fmt: skip
        if not ours or (self.over and not theirs):
            return Reading(verdict=NOT_RUN, **facts)  # type: ignore[arg-type]
        if note := _idle(ours[0]):
            return Reading(verdict=INCONCLUSIVE, notes=note, **facts)  # type: ignore[arg-type]
        if self.over and theirs[0].search.possible(theirs[0].records) is not True:
            short = f"{self.over} cannot reach the threshold: full fine-tuning of its weights falls short too, or was not run"
            return Reading(verdict=INCONCLUSIVE, notes=(short,), **facts)  # type: ignore[arg-type]
        shares = [End(*(100 * end / ours[0].moved for end in pair)) for pair in ends(ours[0]).values()]
        quotients, notes = _quotients(ours[0], theirs[0]) if self.over else (shares, ())
        return _judged(quotients, self.region, facts, [*ours, *theirs], notes)


class DimensionBySize(ClaimTest):
    """d90 of `row` on a backbone divided by that on the next smaller backbone lies below the ceiling, on each task.

    Each seed is held to the same seed's full fine-tuning of the same backbone, read and judged as in `Dimension`.
    """

    table: ClassVar[str] = "intrinsic_dimension_sizes"

    def __init__(self, row: str, references: Sequence[str], ceiling: float) -> None:
        self.row, self.references = row, list(references)
        self.region = Region.of(None, ceiling)

    def rows(self) -> dict[str, set[str]]:
        return {self.table: {self.row, *self.references}}

    @property
    def rule(self) -> str:
        quantity = f"d90 of `{self.table}/{self.row}` on a backbone / on the next smaller one"
        return f"{quantity}: {self.region.words} for every seed, at searched rates and settled thresholds{KNOWN}"

    def read(self, evidence: Evidence) -> list[Reading]:
        cells = evidence.cells(self.table)
        searches = [search for search in find_searches(cells, evidence.store) if search.cell.row.name == self.row]
        sizes = {(search.cell.task, backbone_name(search.cell)) for search in searches}
        row_cells = [cell for cell in cells if cell.row.name == self.row]
        # Without one of its backbones it is not known which is the next smaller one.
        gaps = {cell.task for cell in row_cells if (cell.task, backbone_name(cell)) not in sizes}
        groups = [sorted(group, key=lambda search: search.moved) for group in grouped(searches, lambda search: search.cell.task)]
        pairs = [pair for group in groups for pair in pairwise(group) if pair[0].cell.task not in gaps]
        readings = [self._reading(*pair, evidence) for pair in pairs]
        return readings + _not_run(cells, [small for small, _ in pairs], f"d90 of {self.row} by size")

    def _reading(self, small: DimensionSearch, large: DimensionSearch, evidence: Evidence) -> Reading:
        runs = {cell.signature: search.records[cell.folder] for search in (small, large) for cell in search.cells}
        facts = {
            "what": f"d90 of {self.row}, {large.backbone} / {small.backbone}",
            "unit": f"quotient, {task_label(small.cell)}",
            "sources": tuple(evidence.source(name) for name in runs),
            "generated": is_generated([dict(record) for record in runs.values() if record]),
        }  # fmt: skip
        if notes := _idle(small) or _idle(large):
            return Reading(verdict=INCONCLUSIVE, notes=notes, **facts)  # type: ignore[arg-type]
        quotients, notes = _quotients(large, small)
        return _judged(quotients, self.region, facts, [small, large], notes)


def _not_run(cells: Sequence[Cell], searches: Sequence[DimensionSearch], quantity: str) -> list[Reading]:
    """A reading `not run` for each task of these cells without a search."""
    tasks = {search.cell.task for search in searches}
    absent = {cell.task: task_label(cell) for cell in cells if cell.task not in tasks}
    return [Reading(verdict=NOT_RUN, what=quantity, unit=label, sources=(), generated=False) for label in absent.values()]


def _quotients(one: DimensionSearch, other: DimensionSearch) -> tuple[list[End], tuple[str, ...]]:
    """(a / b of each seed that both have, notes): with l < a <= h and l' < b <= h' it lies strictly between l / h' and h / l'.

    Where b lies above all values that were run, h' is infinite, and the value is the bound h / l'.
    """
    mine, theirs = ends(one), ends(other)
    quotients = []
    seeds = sorted(mine.keys() & theirs.keys())
    for seed in seeds:
        a, b = mine[seed], theirs[seed]
        most = math.nextafter(a.enough / b.short, 0) if b.short and math.isfinite(a.enough) else math.inf
        least = math.nextafter(a.short / b.enough, math.inf) if a.short and math.isfinite(b.enough) else 0.0
        quotients.append(End(a.enough / b.enough if math.isfinite(b.enough) else most, least, most))
    upper_bounds = sum(math.isinf(theirs[seed].enough) for seed in seeds)
    note = f"{upper_bounds} of {len(seeds)} are upper bounds: {other.cell.row.name} reaches the threshold at no d that was run"
    return quotients, (note,) if upper_bounds else ()


def _judged(
    seeds: Sequence[End], region: Region, facts: Mapping[str, Any], behind: Sequence[DimensionSearch], notes: tuple[str, ...] = ()
) -> Reading:
    values = [seed.enough for seed in seeds]
    if short := values.count(math.inf):
        notes = (*notes, f"{short} of {len(values)} seeds reach the threshold at no d above the largest that fell short")
    if short or not values:
        return Reading(verdict=INCONCLUSIVE, notes=notes, **facts)
    low, high = min(seed.short for seed in seeds), max(seed.most for seed in seeds)
    ran = [cell for search in behind for cell in search.cells if search.records[cell.folder]]
    doubts = [Doubt(doubt, f"{cell.row.label}: {doubt}") for cell in ran if (doubt := cell.rate_doubt)]
    doubts = list(dict.fromkeys([*doubts, *(early for search in behind if (early := _unsettled(search)))]))
    verdict = INCONCLUSIVE if doubts else judge(region, low, high, len(values))
    facts = {**facts, "notes": (*notes, *(doubt.note for doubt in doubts)), "reason": Doubt.reasons(doubts), "region": region,
             "inside": inside(region, values)}  # fmt: skip
    value = statistics.median(values)
    digits = max((two_digits(number) for number in (value, low, high) if 0 < number < math.inf), default=3)
    return Reading(verdict=verdict, value=value, low=low, high=high, n=len(values), digits=digits, **facts)


def _unsettled(search: DimensionSearch) -> Doubt | None:
    """Why its threshold is not that of a training which was long enough; None if it is."""
    cells = search.search.reference
    records = [record for cell in cells if (record := search.records[cell.folder])]
    return unsettled(f"{cells[0].row.label} on {task_label(cells[0])} ({search.backbone})", records)


def ends(search: DimensionSearch) -> dict[int, End]:
    return {seed: End.of(*bracket) for seed, bracket in search.by_seed.items()}
