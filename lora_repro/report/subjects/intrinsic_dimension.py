"""d90, the smallest swept size at which a row reaches a share of another row's score: searches, tables and figures.

`intrinsic_dimension_claims` has the claims on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lora_repro import bisection
from lora_repro.metrics.corpus import counted_score
from lora_repro.planning.cells import Cell, unique
from lora_repro.report.captions import Caption, data_of_tasks, on_rates
from lora_repro.report.columns import score_label, task_label
from lora_repro.report.exhibit import Exhibit, ReportRequest
from lora_repro.report.figures import brackets, curves
from lora_repro.report.figures.brackets import Bracket, BracketPanel, BracketRow
from lora_repro.report.figures.curves import Curve, CurvePoint, Plot
from lora_repro.report.numbers import Mean, summarise, text_of
from lora_repro.report.table import EMPTY, Number, Table, format_count, signed
from lora_repro.results import FINISHED, Store, grouped
from lora_repro.stats.comparable import check_same_origin, is_generated

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
        percentages = [100 * score for score in scores if score is not None]
        return summarise(percentages) if percentages and len(percentages) == len(scores) else None

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
        diverged = any((self.records[cell.folder] or {}).get("status") == "diverged" for cell in self.search.reference)
        return None if diverged or self.reference is None else self.search.share * self.reference.mean

    @property
    def floor(self) -> float | None:
        """The score of the constant prediction, the most frequent answer of training, in per cent; None if no record has it."""
        runs = (record for cell in self.cells if (record := self.records[cell.folder]))  # other tasks' records have the same key
        scores = (record["measured"].get("one_answer_scores", {}).get(self.cell.score) for record in runs)
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
        searches = {}
        for seed in sorted({cell.seed for cell in self.search.reference}):
            values = {v: [c for c in cells if c.seed == seed] for v, cells in self.search.values.items()}
            values = {v: cells for v, cells in values.items() if cells}
            if values:
                reference_cells = [cell for cell in self.search.reference if cell.seed == seed]
                searches[seed] = replace(self, search=replace(self.search, values=values, reference=reference_cells))
        return searches

    @property
    def by_seed(self) -> dict[int, tuple[int | None, int | None]]:
        """seed -> `bracket` of that seed; empty if the mean needs none."""
        return {} if self.idle else {seed: search.bracket() for seed, search in self.seeds.items()}

    @property
    def idle_seeds(self) -> list[int]:
        """The seeds whose own threshold the constant prediction reaches."""
        return [seed for seed, search in self.seeds.items() if search.idle]

    @property
    def moved(self) -> int:
        """How many values the model has."""
        first = self.records[self.search.reference[0].folder]
        return int(first["measured"]["parameters"]["total"]) if first else 0


def find_searches(cells: Sequence[Cell], store: Store) -> list[DimensionSearch]:
    """The searches with runs in `store`, with the values and seeds found there. A search without its reference is left out."""
    every = unique(cells)
    run_cells = [cell for cell in every if cell.signature in store.records]
    rule = bisection.rule_of(cells[0].asked)
    if rule is None or not run_cells:
        return []
    records: Records = {cell.folder: store.record(cell) for cell in run_cells}
    references = [cell for cell in run_cells if cell.row.name in rule.references]
    sweep = [cell for cell in every if cell.row.name not in rule.references and bisection.referenced(cell, run_cells, rule)]
    searches = []
    for search in bisection.bisections([*references, *sweep], rule):
        first = next(iter(search.values.values()))[0]
        ran = {value: [cell for cell in group if cell.folder in records] for value, group in search.values.items()}
        progress = replace(search, values={value: group for value, group in ran.items() if group})
        if progress.values or (progress.twin and progress.possible(records) is False):
            searches.append(DimensionSearch(progress, records, first))
    return searches


@dataclass(frozen=True)
class Dimensions:
    """What an experiment with a `bisect` over `row.d` shows. remarks: further footnotes."""

    title: str
    remarks: tuple[str, ...] = ()

    def exhibits(self, ask: ReportRequest, stores: Sequence[Store]) -> list[Exhibit]:
        """One exhibit per store that has searches. Raises UserError if its runs of a task saw different data."""
        exhibits = []
        for store in stores:
            if searches := find_searches(ask.cells, store):
                records = list({r["signature"]: r for search in searches for r in search.records.values() if r}.values())
                for group in grouped(searches, lambda search: search.cell.task):
                    run = [r for search in group for c in search.cells if (r := search.records[c.folder])]
                    check_same_origin(run, same_backbone=False)
                caption = self._caption(ask, searches, records)
                rate_notes = on_rates([cell for search in searches for cell in search.cells])
                notes = (*self.remarks, *rate_notes, *_notes(searches, records))
                tables = (d90_table(searches, caption, notes), points(searches, caption), *sizes(searches, caption))
                summary, heading = f"{len(records)} runs", f"== {store.source}" if len(stores) > 1 else ""
                exhibits.append(
                    Exhibit(ask.name, self.title, tables, summary, partial(_draw, searches, caption), heading=heading)
                )
        return exhibits

    def _caption(
        self, ask: ReportRequest, searches: Sequence[DimensionSearch], records: Sequence[Mapping[str, Any]]
    ) -> Caption:
        groups = [(search, cells) for search in searches for cells in (*search.search.values.values(), search.search.reference)]
        counts = [n for search, cells in groups if (n := sum(bool(search.records[cell.folder]) for cell in cells))]
        first, copies = searches[0].cell, [dict(record) for record in records]
        caption = Caption.of(self.title, ask.profile, first, copies, counts, ask.command(first))
        backbones = [
            r["where"]["backbone"]["label"]
            for search in searches
            for cell in search.search.reference
            if (r := search.records[cell.folder])
        ]
        several = tuple(dict.fromkeys(backbones)) if len(set(backbones)) > 1 else caption.backbones
        return replace(caption, backbones=several, data=data_of_tasks([search.cell for search in searches], copies))


def row_label(search: DimensionSearch, searches: Sequence[DimensionSearch]) -> str:
    """The row's label, with its backbone if there are several."""
    several = len({other.backbone for other in searches}) > 1
    return f"{search.cell.row.label}, {search.backbone}" if several else search.cell.row.label


def sizes(searches: Sequence[DimensionSearch], caption: Caption) -> list[Table]:
    """d90 against the size of the model, one line per row, task and backbone, smallest first; empty for a single backbone."""
    if len({search.backbone for search in searches}) < 2:
        return []
    keys = list(dict.fromkeys((search.cell.row.name, search.cell.task) for search in searches))
    rows = []
    for search in sorted(searches, key=lambda search: (keys.index((search.cell.row.name, search.cell.task)), search.moved)):
        counts = map(format_count, (search.moved, *search.bracket()))
        rows.append((search.cell.row.label, task_label(search.cell), search.backbone, *counts))
    header = ("Row", "Task", "Backbone", "all values", "largest d too small", "d90")
    return [Table(caption.facts("d90 against the size of the model"), header, "lllrrr", tuple(rows), keys=3)]


def d90_table(searches: Sequence[DimensionSearch], caption: Caption, notes: tuple[str, ...]) -> Table:
    """One line per row and task: the reference's score, and the sizes between which the row reaches the share of it."""
    share = f"{100 * searches[0].search.share:.0f} %"
    rows = []
    for search in searches:
        low, high = search.bracket()
        enough = EMPTY if search.line is None else Number(f"{search.line:.1f}", search.line)
        part = EMPTY if high is None else _percentage(100 * high / search.moved)
        seeds = ", ".join(EMPTY if top is None else f"{top:,}" for _, top in search.by_seed.values()) or EMPTY
        first = (row_label(search, searches), task_label(search.cell), text_of(search.reference, 1))
        rows.append((*first, enough, format_count(low), format_count(high), seeds, part))
    header = ("Row", "Task", "full FT ↑", f"{share} of it", "largest d too small", "d90", "d90 of each seed", "d90 / all values")
    return Table(caption.facts(), header, "llrrrrrr", tuple(rows), notes, keys=2)


def _percentage(value: float) -> Number:
    return Number(f"{value:.{two_digits(value)}f} %", value)


def two_digits(value: float) -> int:
    """The decimals that show two significant digits of a positive number, at least three."""
    return max(3, 1 - math.floor(math.log10(value)))


def points(searches: Sequence[DimensionSearch], caption: Caption) -> Table:
    """One line per size that was run."""
    rows = []
    for search in searches:
        rows += [
            (row_label(search, searches), _scored_task(search.cell, searches), format_count(value), *_scored(search, cells))
            for value, cells in search.search.values.items()
        ]  # fmt: skip
    lines = {cells[0].folder: (search, cells) for search in searches for cells in search.lines}
    for search, full in lines.values():
        line = (EMPTY, *_scored(search, full))
        label = full[0].row.label + row_label(search, searches).removeprefix(search.cell.row.label)
        rows.append((label, _scored_task(search.cell, searches), *line))
    scores = dict.fromkeys(score_label(search.cell) for search in searches)
    header = ("Row", "Task", "d", f"{' or '.join(scores)} ↑", "of full FT", "gap", "n", "Notes")
    return Table(caption.facts("every d that was run"), header, "llrrrrrl", tuple(rows), keys=3)


def _scored_task(cell: Cell, searches: Sequence[DimensionSearch]) -> str:
    """A cell's task, with the name of its score if tasks differ in it."""
    alike = len({score_label(search.cell) for search in searches}) == 1
    return task_label(cell) if alike else f"{task_label(cell)}, {score_label(cell)}"


def _scored(search: DimensionSearch, cells: Sequence[Cell]) -> tuple[str, ...]:
    """For runs that differ only in their seeds: score, share of the reference's score, gap, number of cells, failed statuses."""
    mean, reference = search.mean(cells), search.reference
    share = 100 * mean.mean / reference.mean if mean and reference and reference.mean else None  # a score of 0 has no shares
    part = EMPTY if share is None else Number(f"{signed(share, 0, plus=False)} %", share)
    failures = [str(r["status"]) for c in cells if (r := search.records[c.folder]) and r["status"] != FINISHED]
    gap = search.gap(cells)
    gap_text = text_of(gap, 1)
    if gap and isinstance(gap_text, Number) and 1 < (gap.n or 0) < len(cells):
        gap_text = gap_text.and_more(f" ({gap.n})")
    return text_of(mean, 1), part, gap_text, format_count(len(cells)), "; ".join(failures)


def _notes(searches: Sequence[DimensionSearch], records: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = [
        "Scores in per cent, mean ± sample sd over n seeds. † n = 1: no spread, supports no verdict. A collapsed run "
        "(the same answer to 99 of 100 inputs or more) counts with its own score.",
        "d90 of each seed: against full fine-tuning with the same seed; — where no d that was run is enough"
        + (", or where the most frequent training label reaches that seed's line." if any(map(_part_idle, searches)) else "."),
        *_held(searches),
        *_unsearched(searches),
        *_idle(searches),
        "gap: score on training rows minus score on test rows, in points, as in the source's generalisation gap; (n): of so many "
        "runs, where the others did not score their training rows.",
    ]
    if is_generated(records):
        notes.append("The data are generated: compare these values with each other only.")
    return notes


def _held(searches: Sequence[DimensionSearch]) -> list[str]:
    """The note on rows with random weights, if there are any."""
    if all(len(search.lines) < 2 for search in searches):
        return []
    return ["Random weights are held to the pre-trained model's threshold. What training all of them reaches: the next table."]


def _unsearched(searches: Sequence[DimensionSearch]) -> list[str]:
    """The note on twins that were not searched, if there are any."""
    skipped = [search for search in searches if not search.search.values]
    rows = ", ".join(f"{row_label(search, searches)} on {task_label(search.cell)}" for search in skipped)
    return [f"No d was run where training all values falls short, too: {rows}."] if rows else []


def _part_idle(search: DimensionSearch) -> bool:
    return bool(search.idle_seeds) and not search.idle


def _idle(searches: Sequence[DimensionSearch]) -> list[str]:
    """The note on searches whose line the constant prediction reaches, if there are any."""
    idle = [search for search in searches if search.idle]
    rows = ", ".join(f"{row_label(search, searches)} on {task_label(search.cell)} ({search.floor:.1f})" for search in idle)
    reason = "No d90, because predicting the most frequent training label for every input already reaches the threshold: "
    return [f"{reason}{rows}."] if rows else []


def _draw(searches: Sequence[DimensionSearch], caption: Caption, stem: Path) -> list[Path]:
    """Draw `stem`.svg and .png: one panel per task with the score over d; full fine-tuning and its share are horizontal lines."""
    plots = []
    for group in grouped(searches, lambda search: search.cell.task):
        series: dict[str, Curve] = {}
        for search in group:
            spots = [(value, search.mean(cells)) for value, cells in search.search.values.items()]
            line = [CurvePoint(float(value), mean.mean, mean.sd) for value, mean in spots if mean]
            if line:
                series[row_label(search, searches)] = Curve(row_label(search, searches), tuple(line), method=_method(search.cell))
            suffix = row_label(search, searches).removeprefix(search.cell.row.label)
            for cells in search.lines:
                if full := search.mean(cells):
                    label = cells[0].row.label + suffix
                    series[label] = Curve(label, (CurvePoint(None, full.mean, full.sd),), method=_method(cells[0]))
            if search.line is not None:
                label = f"{search.search.reference[0].row.label}{suffix}: {100 * search.search.share:.0f} % of it"
                series[label] = Curve(label, (CurvePoint(None, search.line, None),))
        task, score = task_label(group[0].cell), score_label(group[0].cell)
        run = sorted({spot.x for curve in series.values() for spot in curve.spots if spot.x is not None})
        ticks = tuple((x, f"{x:,.0f}") for x in run)
        plots.append(Plot(task, "d (log scale)", f"{score} (%)", tuple(series.values()), ticks))
        if gaps := tuple(filter(None, (_gap(search, searches) for search in group))):
            gap = f"{score}, train − test (points)"
            plots.append(Plot(f"{task}: generalisation gap", "d (log scale)", gap, gaps, ticks))
    paths = curves.save(plots, stem, title=_statement(searches), caption=caption.below_figure)
    if panels := _by_size(searches):
        by_size = stem.with_name(f"{stem.name}_size")
        paths += brackets.save(panels, by_size, title="d90 against the size of the model", caption=caption.below_figure)
    return paths


def _method(cell: Cell) -> str:
    return str(cell.asked["method"]["name"])


def _gap(search: DimensionSearch, searches: Sequence[DimensionSearch]) -> Curve | None:
    """The gap over d of one row; None if no run's training rows were scored."""
    gaps = [(value, search.gap(cells)) for value, cells in search.search.values.items()]
    spots = tuple(CurvePoint(float(value), gap.mean, gap.sd) for value, gap in gaps if gap)
    return Curve(row_label(search, searches), spots) if spots else None


def _by_size(searches: Sequence[DimensionSearch]) -> list[BracketPanel]:
    """One panel per task with several backbones: the bracket of d90 at each model's size, one row per row of the table."""
    panels = []
    for group in grouped(searches, lambda search: search.cell.task):
        rows = []
        for row in grouped(group, lambda search: search.cell.row.name):
            ends = [Bracket(float(search.moved), *search.bracket()) for search in sorted(row, key=lambda search: search.moved)]
            if spans := tuple(bracket for bracket in ends if (bracket.low, bracket.high) != (None, None)):
                rows.append(BracketRow(row[0].cell.row.label, spans, _method(row[0].cell)))
        sizes = sorted({bracket.x for row in rows for bracket in row.brackets})
        if len(sizes) > 1:
            ticks = tuple((size, f"{size / 1e6:.3g}") for size in sizes)
            label = "all values of the model (millions, log scale)"
            panels.append(BracketPanel(task_label(group[0].cell), label, "d90 (log scale)", tuple(rows), ticks))
    return panels


def _statement(searches: Sequence[DimensionSearch]) -> str:
    """The figure's title: d90 of every row and task that has one."""
    highest = [(search, high) for search in searches if (high := search.bracket()[1]) is not None]
    share = f"{100 * searches[0].search.share:.0f} % of full fine-tuning"
    values = [f"{row_label(search, searches)} {high:,} on {task_label(search.cell)}" for search, high in highest]
    return f"Random directions that reach {share}: {'; '.join(values)}" if values else f"No d that was run reaches {share}"
