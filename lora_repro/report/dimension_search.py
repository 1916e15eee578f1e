"""A search for d90 as its records tell it: the bracket of every seed, the threshold, and what a constant prediction reaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lora_repro import bisection
from lora_repro.metrics.corpus import counted_score
from lora_repro.planning.cells import Cell, unique
from lora_repro.report.numbers import Mean, summarise
from lora_repro.results import Store
from lora_repro.stats.comparable import is_generated

Records = dict[Path, Mapping[str, Any] | None]


@dataclass(frozen=True)
class DimensionSearch:
    """One row's search, finished or not, with the records of its runs. cell: the row's, at any size.

    A twin whose full training falls short has no sizes.
    """

    search: bisection.Bisection
    records: Records
    cell: Cell

    @property
    def backbone(self) -> str:
        """The backbone's display name without a remark in brackets; its twin with random weights shares it."""
        return str(self.cell.asked["backbone"].get("label") or self.cell.asked["backbone"]["name"]).partition(" (")[0]

    @property
    def cells(self) -> list[Cell]:
        """Every run behind it, those of the reference first."""
        return [cell for cells in (*self.lines, *self.search.values.values()) for cell in cells]

    @property
    def lines(self) -> list[Sequence[Cell]]:
        """The runs without a size: the reference, and the same training of the row's own weights if these are others."""
        return list({cells[0].folder: cells for cells in (self.search.reference, self.search.whole) if cells}.values())

    @property
    def reference(self) -> Mean | None:
        return self.mean(self.search.reference)

    def mean(self, cells: Sequence[Cell]) -> Mean | None:
        """The mean score in per cent; None if no run is recorded or a finished run has no score."""
        scores = [counted_score(record, cells[0].score) for cell in cells if (record := self.records[cell.folder])]
        known = [100 * score for score in scores if score is not None]
        return summarise(known) if known and len(known) == len(scores) else None

    def gap(self, cells: Sequence[Cell]) -> Mean | None:
        """Score of training rows minus score of test rows, in points; None if no run's training rows were scored.

        Real-data records without `train_scored` are left out: they scored the first rows of the file, which may be sorted.
        """
        gaps = []
        for record in filter(None, (self.records[cell.folder] for cell in cells)):
            if "train_scored" not in record["measured"] and not is_generated([record]):
                continue
            both = [record["measured"].get(key, {}).get(cells[0].score) for key in ("train_scores", "scores")]
            if None not in both:
                gaps.append(100 * (both[0] - both[1]))
        return summarise(gaps) if gaps else None

    @property
    def line(self) -> float | None:
        """The score that is enough, in per cent; None if the reference has no score, or diverged with any seed."""
        lost = any((self.records[cell.folder] or {}).get("status") == "diverged" for cell in self.search.reference)
        return None if lost or self.reference is None else self.search.share * self.reference.mean

    @property
    def floor(self) -> float | None:
        """The score of the constant prediction, the most frequent answer of training, in per cent; None if no record has it."""
        own = (record for cell in self.cells if (record := self.records[cell.folder]))  # other tasks' records have the same key
        scores = (record["measured"].get("one_answer_scores", {}).get(self.cell.score) for record in own)
        return next((100 * value for value in scores if value is not None), None)

    @property
    def idle(self) -> bool:
        """Whether the score that is enough takes no learning: the constant prediction reaches it."""
        return self.line is not None and self.floor is not None and self.floor >= self.line

    def bracket(self) -> tuple[int | None, int | None]:
        """(the largest value that fell short, the smallest above it that was enough); None for either that does not exist."""
        return (None, None) if self.idle else self.search.bracket(self.records)

    @property
    def seeds(self) -> dict[int, DimensionSearch]:
        """seed -> the search of that seed alone, held to the reference's run of the same seed."""
        made = {}
        for seed in sorted({cell.seed for cell in self.search.reference}):
            values = {v: [c for c in cells if c.seed == seed] for v, cells in self.search.values.items()}
            values = {v: cells for v, cells in values.items() if cells}
            if values:
                own = [cell for cell in self.search.reference if cell.seed == seed]
                made[seed] = replace(self, search=replace(self.search, values=values, reference=own))
        return made

    @property
    def by_seed(self) -> dict[int, tuple[int | None, int | None]]:
        """seed -> `bracket` of that seed; empty if the mean needs none."""
        return {} if self.idle else {seed: one.bracket() for seed, one in self.seeds.items()}

    @property
    def idle_seeds(self) -> list[int]:
        """The seeds whose own threshold the constant prediction reaches."""
        return [seed for seed, one in self.seeds.items() if one.idle]

    @property
    def moved(self) -> int:
        """How many values the model has."""
        first = self.records[self.search.reference[0].folder]
        return int(first["measured"]["parameters"]["total"]) if first else 0


def find_searches(declared: Sequence[Cell], store: Store) -> list[DimensionSearch]:
    """The searches with runs in `store`, with the values and seeds found there. A search without its reference is left out."""
    every = unique(declared)
    cells = [cell for cell in every if cell.signature in store.records]
    rule = bisection.rule_of(declared[0].asked)
    if rule is None or not cells:
        return []
    records: Records = {cell.folder: store.record(cell) for cell in cells}
    beside = [cell for cell in cells if cell.row.name in rule.references]
    swept = [cell for cell in every if cell.row.name not in rule.references and bisection.referenced(cell, cells, rule)]
    searches = []
    for search in bisection.bisections([*beside, *swept], rule):
        first = next(iter(search.values.values()))[0]
        ran = {value: [cell for cell in group if cell.folder in records] for value, group in search.values.items()}
        made = replace(search, values={value: group for value, group in ran.items() if group})
        if made.values or (made.twin and made.possible(records) is False):
            searches.append(DimensionSearch(made, records, first))
    return searches
