"""The columns of a pivot: one per metric, per task (with the average of several), or per value of another axis."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lora_repro.config.paths import choices
from lora_repro.planning.cells import Cell
from lora_repro.report.numbers import Metric

AVERAGE, ANY = "average", "any"  # special values of a column: the mean over tasks; rows that have no value on the axis


@dataclass(frozen=True)
class Column:
    """metric: its key, title and units. scored: the record's metric that it shows. value: its place on the pivot's axis."""

    metric: Metric
    scored: str
    value: Any = None

    @property
    def key(self) -> str:
        return self.metric.key

    def holds(self, cell: Cell, by: str, alike: set[str]) -> bool:
        """Whether a cell belongs in this column. `alike`: the rows whose runs are the same at every place of the axis."""
        if by == "metric":
            return True
        if cell.row.name in alike:
            return bool(self.value == ANY)
        return bool(place_of(cell, by) == self.value)


def place_of(cell: Cell, by: str) -> Any:
    """Where a cell lies on the axis `by`."""
    return cell.task if by == "task" else cell.axes.get(by)


def columns_of(by: str, axis: str, metrics: Sequence[Metric], group: Sequence[Cell], other: Metric | None) -> list[Column]:
    """The columns of the table of the cells `group`, in the order of the sweep.

    by, axis, metrics: as in `Pivot`. other: a further metric to show instead of each task's own score; its columns have the
    keys <metric>_<column>.
    """
    if by == "metric":
        return [Column(metric, metric.key) for metric in metrics]
    firsts = {place_of(cell, by): cell for cell in reversed(group)}
    columns = [_column(by, axis, value, firsts[value], other) for value in dict.fromkeys(place_of(cell, by) for cell in group)]
    if by == "task":
        return [*columns, Column(Metric(AVERAGE, "Average"), "", AVERAGE)] if len(columns) > 1 and not other else columns
    if rows_alike(group, by):
        key = f"{other.key}_{ANY}" if other else ANY
        return [*columns, replace(columns[0], metric=replace(columns[0].metric, key=key, label=f"no {axis}"), value=ANY)]
    return columns


def _column(by: str, axis: str, value: Any, cell: Cell, other: Metric | None) -> Column:
    """One column, with the key that the rows' `paper` values have: the task, rows_<n> (rows_all), rank_<n> or size_<n>."""
    if by == "task":
        key, label = str(value), task_label(cell)
    elif by == "data.n_train":
        key, label = ("rows_all", "all rows") if value is None else (f"rows_{value}", f"{value:,} rows")
    else:
        key, label = f"{by.rpartition('.')[2]}_{value}", f"{axis} {value}"
    metric = replace(other, key=f"{other.key}_{key}", label=label) if other else Metric(key, label)
    return Column(metric, other.key if other else cell.score, value)


def printed_columns(by: str, metrics: Sequence[Metric]) -> str:
    """A regular expression for the columns of conf/paper whose values a table shows. by, metrics: as in `Pivot`."""
    if by == "metric":
        return "|".join(re.escape(metric.printed or metric.key) for metric in metrics)
    if by == "task":
        return "|".join([*map(re.escape, choices("task")), AVERAGE])
    places = r"rows_(\d+|all)" if by == "data.n_train" else rf"{by.rpartition('.')[2]}_\d+"
    further = "".join(f"|{re.escape(metric.key)}_" for metric in metrics[1:])
    return rf"(trained_m\.{further})?({places}|{ANY})"


def rows_alike(group: Sequence[Cell], by: str) -> set[str]:
    """The rows whose runs are the same at every place of the axis, such as those that have no rank or size."""
    names = set()
    for name in {cell.row.name for cell in group} if by not in ("metric", "task") else ():
        places: dict[Any, set[str]] = {}
        for cell in group:
            if cell.row.name == name:
                places.setdefault(place_of(cell, by), set()).add(cell.signature)
        if len(places) > 1 and len(set(map(frozenset, places.values()))) == 1:
            names.add(name)
    return names


def main_column(by: str, columns: Sequence[Column]) -> Column:
    """The column whose difference is shown beside the scores: the first metric, the average, or the largest size."""
    if by == "metric":
        return columns[0]
    return columns[-2] if columns[-1].value == ANY else columns[-1]


def task_label(cell: Cell) -> str:
    """What captions call a cell's task."""
    return str(cell.asked["task"].get("label") or cell.task.upper())


def place_label(cell: Cell) -> str:
    """A cell's task and its values on the swept axes: `MNLI rank 4`."""
    axes = [f"{key.rpartition('.')[2]} {value}" for key, value in cell.axes.items() if key not in ("task", "backbone")]
    return " ".join([task_label(cell), *axes])


def score_label(cell: Cell) -> str:
    key = cell.score
    return "BLEU" if key == "bleu" else key.replace("_", " ")
