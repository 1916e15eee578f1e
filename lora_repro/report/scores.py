"""The scores of a table's runs by row and column, beside the paper's numbers and reruns by others."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from lora_repro.errors import UserError
from lora_repro.planning.cells import Cell, Row
from lora_repro.report.columns import AVERAGE, Column, rows_alike
from lora_repro.report.numbers import Difference, Mean, difference, holm, score, summarise
from lora_repro.report.table import Origin
from lora_repro.results import OWN, Run, Store, grouped, runs
from lora_repro.stats.comparable import Pair, check_same_origin, paired

Seeds = dict[int, Run]


class Lost(NamedTuple):
    """How many seeds ended with a status such as `collapsed`."""

    seeds: int
    status: str

    def __str__(self) -> str:
        return f"{self.seeds} {self.status}"


@dataclass(frozen=True)
class Result:
    """A row from one source: measured by us (published or not), the paper's, or reruns by others.

    By column key: cells; differences from the reference row; lost, the seeds that collapsed or diverged, which count with their
    scores; sizes, the trained method parameters if they differ between columns.
    method: its name in conf/method. compared: whether it is scored against the same references as the other rows.
    printed: all that the paper prints of the row, including columns that were not swept here. lost_notes: those of the notes
    that count lost seeds.
    """

    row: str
    label: str
    source: str
    cells: dict[str, Mean]
    n: int | None = None
    method_parameters: int | None = None
    head_parameters: int | None = None
    printed_millions: float | None = None
    notes: tuple[str, ...] = ()
    differences: dict[str, Difference] = field(default_factory=dict)
    lost: dict[str, tuple[Lost, ...]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    method: str = ""
    compared: bool = True
    printed: Mapping[str, Any] = field(default_factory=dict)
    origin: Origin = Origin.OURS
    lost_notes: tuple[str, ...] = ()

    @property
    def quoted(self) -> bool:
        """Whether the values are quoted from others, not measured here."""
        return self.origin is not Origin.OURS


def measured_results(
    group: Sequence[Cell], store: Store, columns: Sequence[Column], by: str, reference: str, contrasts: Sequence[Column]
) -> list[Result]:
    """One result per declared row, with its differences from the row `reference` in the columns `contrasts`.

    Raises UserError if records of one column differ in data, text form or backbone: such numbers cannot share a table.
    """
    alike, found_here = rows_alike(group, by), runs(group, store)
    single = [column for column in columns if column.value != AVERAGE]
    by_column: dict[str, dict[str, Seeds]] = {}  # column -> row -> seed -> run
    for column in single:
        by_column[column.key] = {row.name: {} for row in rows_of(group)}
        for run in found_here:
            if column.holds(run.cell, by, alike):
                by_column[column.key][run.cell.row.name][run.cell.seed] = run
    parts: dict[str, list[Result]] = {row.name: [] for row in rows_of(group)}
    for column in single:
        by_row = by_column[column.key]
        column_runs = [run for seeds in by_row.values() for run in seeds.values()]
        check_same_origin([run.record for run in column_runs])
        for part in _of_column(column, column_runs, named=by != "metric"):
            parts[part.row].append(part)
        # A reference whose run is the same at every rank is placed in the last column, and serves all columns.
        others = by_column[single[-1].key if reference in alike else column.key].get(reference, {})
        for row in rows_of(group):
            if column in contrasts and row.compare and row.name != reference and (pairs := paired(by_row[row.name], others)):
                interval, why = _interval(pairs, column, store)
                differences = {column.key: interval} if interval else {}
                parts[row.name].append(Result(row.name, row.label, "", {}, differences=differences, notes=why))
    results = [_joined(row, store.source, parts[row.name], by) for row in rows_of(group)]
    if len(single) < len(columns):
        task_runs = [(by_column[column.key], column.scored) for column in single]
        last = "" if columns[-1] not in contrasts else reference
        results = [_with_average(result, columns[-1], task_runs, last) for result in results]
    return _named(_corrected(results), group)


def _interval(pairs: Sequence[Pair], column: Column, store: Store) -> tuple[Difference | None, tuple[str, ...]]:
    """The difference of paired runs in a column, and a note if there is none because answers of this checkout lack what it needs.

    Raises UserError if published ones do.
    """
    try:
        return difference([(pairs, column.scored)], column.metric.scale), ()
    except UserError as error:
        if store.source != OWN:
            raise
        return None, (f"no interval: {error}",)


def _named(results: Sequence[Result], group: Sequence[Cell]) -> list[Result]:
    """The results with each row's method, and whether it is compared with others."""
    methods = {cell.row.name: (str(cell.asked["method"]["name"]), cell.row.compare) for cell in group}
    return [replace(result, method=method, compared=with_others)
            for result in results for method, with_others in [methods[result.row]]]


def _corrected(results: Sequence[Result]) -> list[Result]:
    """The results with every difference's p corrected for all comparisons of the table."""
    places = [(at, key) for at, result in enumerate(results) for key in result.differences]
    by_result: list[dict[str, Difference]] = [{} for _ in results]
    for (at, key), corrected in zip(places, holm([results[at].differences[key] for at, key in places]), strict=True):
        by_result[at][key] = corrected
    return [replace(result, differences=own) for result, own in zip(results, by_result, strict=True)]


def rows_of(group: Sequence[Cell]) -> list[Row]:
    return list({cell.row.name: cell.row for cell in group}.values())


def _of_column(column: Column, column_runs: Sequence[Run], named: bool) -> list[Result]:
    """One result per row that has runs in this column (`column_runs`). `named`: notes on lost seeds name the column."""
    of_column = []
    for row_runs in grouped(column_runs, lambda run: run.cell.row.name):
        row = row_runs[0].cell.row
        parameters = [run.record["measured"]["parameters"] for run in row_runs]
        counts = {(int(entry["method"]), int(entry["head"])) for entry in parameters}
        if len(counts) > 1:
            raise UserError(f"row {row.name}: seeds train different numbers of parameters {sorted(counts)}")
        method, head = next(iter(counts))
        scores = [score(run, column.scored) for run in row_runs]
        values = [column.metric.scale * value for value in scores if value is not None]
        statuses = Counter(str(run.record["status"]) for run in row_runs if not run.finished)
        failures = tuple(Lost(count, status) for status, count in sorted(statuses.items()))
        lost_notes = tuple(f"{column.metric.label}: {failure}" if named else str(failure) for failure in failures)
        remarks = {str(run.record["measured"].get("note") or "") for run in row_runs}
        of_column.append(
            Result(
                row.name,
                row.label,
                row_runs[0].source,
                {column.key: summarise(values)} if len(values) == len(row_runs) else {},
                len(row_runs),
                method,
                head,
                notes=(*lost_notes, *sorted(remarks - {""})),
                lost={column.key: failures} if failures and named else {},
                sizes={column.key: method} if method else {},
                lost_notes=lost_notes,
            )
        )
    return of_column


def _joined(row: Row, source: str, parts: Sequence[Result], by: str) -> Result:
    """The columns of a row as one result: n is the fewest seeds of a column, the head parameters are the most of a task."""
    methods = {part.method_parameters for part in parts} - {None}
    if len(methods) > 1 and not by.startswith("row."):
        raise UserError(f"row {row.name}: tasks train different numbers of method parameters {sorted(map(str, methods))}")
    return Result(
        row.name,
        row.label,
        source,
        {key: cell for part in parts for key, cell in part.cells.items()},
        min((part.n for part in parts if part.n), default=None),
        next(iter(methods)) if len(methods) == 1 else None,
        max((part.head_parameters for part in parts if part.head_parameters is not None), default=None),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        differences={key: value for part in parts for key, value in part.differences.items()},
        lost={key: why for part in parts for key, why in part.lost.items()},
        sizes={key: size for part in parts for key, size in part.sizes.items()} if len(methods) > 1 else {},
        lost_notes=tuple(dict.fromkeys(note for part in parts for note in part.lost_notes)),
    )


def _with_average(
    result: Result, column: Column, task_runs: Sequence[tuple[dict[str, Seeds], str]], reference: str
) -> Result:
    """The result with an average column: per seed that every task has, the mean over tasks. Each task is resampled separately."""
    ours = [(coordinates[result.row], key) for coordinates, key in task_runs]
    values = []
    for seed in sorted(set.intersection(*({*seeds} for seeds, _ in ours))):
        scores = [value for seeds, key in ours if (value := score(seeds[seed], key)) is not None]
        if len(scores) == len(ours):
            values.append(column.metric.scale * sum(scores) / len(scores))
    if not values:
        return result
    differences = dict(result.differences)
    if reference and result.row != reference and reference in task_runs[0][0]:
        pairs = [(paired(coordinates[result.row], coordinates[reference]), key) for coordinates, key in task_runs]
        every = set.intersection(*({run.cell.seed for run, _ in both} for both, _ in pairs))
        pairs = [([pair for pair in both if pair[0].cell.seed in every], key) for both, key in pairs]
        if average := difference(pairs, column.metric.scale):
            differences[column.key] = average
    return replace(result, cells={**result.cells, column.key: summarise(values)}, differences=differences)


def quoted_results(group: Sequence[Cell], columns: Sequence[Column], scale: str, scale_label: str) -> list[Result]:
    """The paper's results and the reruns of its recipe by others, as declared in the rows for backbone `scale`.

    Values are in printed units. The notes name each source.
    """
    results = []
    for row in rows_of(group):
        if paper := row.paper.get(scale):
            cells = {
                column.key: Mean(float(paper[key]), paper.get(f"{key}_sd"), paper.get("n"))
                for column in columns
                if paper.get(key := column.metric.printed or column.key) is not None
            }
            result = Result(row.name, row.label, f"paper ({scale_label})", cells, paper.get("n"), printed=paper,
                            printed_millions=paper.get("params_m"), notes=(str(paper["source"]),),
                            origin=Origin.PAPER)  # fmt: skip
            results.append(_averaged(result, columns))
        if reruns := row.reruns.get(scale):
            cells = {
                column.key: summarise([float(value) for value in reruns[column.key]])
                for column in columns
                if column.key in reruns
            }
            n = max(cell.n or 0 for cell in cells.values())
            source, notes = f"reruns by others ({scale_label})", (str(reruns["source"]),)
            result = Result(row.name, row.label, source, cells, n, notes=notes, origin=Origin.RERUNS)
            results.append(_averaged(result, columns))
    return _named(results, group)


def _averaged(result: Result, columns: Sequence[Column]) -> Result:
    """A quoted result with the average over the tasks shown; the printed average is over the paper's eight tasks.

    It is the printed one if the two differ by less than 0.1, else the mean of the printed cells. It is left out unless every
    task shown has a printed cell.
    """
    if columns[-1].value != AVERAGE:
        return result
    cells: dict[str, Any] = dict(result.cells)
    average = cells.pop(AVERAGE, None)
    means = [cells[column.key].mean for column in columns if column.key in cells]
    if len(means) == len(columns) - 1:
        plain_mean = Mean(statistics.fmean(means), None, result.n)
        cells[AVERAGE] = average if average and abs(average.mean - plain_mean.mean) < 0.1 else plain_mean
    return replace(result, cells=cells)
