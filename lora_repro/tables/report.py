"""From declared rows and their records to the lines of a table: mean ± sd (n), the paper's values, reruns.

Only finished runs are averaged; the diverged, collapsed and failed are counted in the notes.
"""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lora_repro.errors import UserError
from lora_repro.metrics.bootstrap import paired_bootstrap
from lora_repro.record import load_predictions
from lora_repro.tables.rows import Block, Row
from lora_repro.tables.stores import Store, one_origin


@dataclass(frozen=True)
class Metric:
    """One column: `key` in the record, printed as scale * value; direction +1 higher is better, -1 lower."""

    key: str
    label: str
    direction: int
    scale: float = 1.0
    digits: int = 2


@dataclass(frozen=True)
class Cell:
    """Mean over n seeds and their sample standard deviation (n - 1), in printed units; n None: not stated."""

    mean: float
    sd: float | None
    n: int | None


@dataclass(frozen=True)
class Difference:
    """Row minus reference in printed units and its 95 % bootstrap interval, over n shared seeds."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Line:
    """One printed line: a row measured by us (`published` or not), the paper's, or reruns by others."""

    row: str
    label: str
    source: str
    cells: dict[str, Cell]
    n: int | None = None
    method_parameters: int | None = None
    head_parameters: int | None = None
    printed_millions: float | None = None
    difference: Difference | None = None
    notes: tuple[str, ...] = ()
    differences: dict[str, Difference] = field(default_factory=dict)  # of a table with a column a task
    lost: dict[str, tuple[str, ...]] = field(default_factory=dict)  # column -> the seeds without a score: `1 collapsed`
    sizes: dict[str, int] = field(default_factory=dict)  # column -> trained method parameters, where columns differ in it


def measured(
    block: Block, store: Store, metrics: Sequence[Metric], reference: str, compared: str
) -> list[Line]:
    """One line per declared row from `store`, with `compared` minus that of the row named `reference`.

    Raises UserError when the records differ in data, text form or backbone: such numbers share no table.
    """
    found = {row.name: _found(row, store) for row in block.rows}
    one_origin([record for runs in found.values() for record in runs.values()])
    metric = next(metric for metric in metrics if metric.key == compared)
    lines = []
    for row in block.rows:
        runs = {seed: run for seed, run in found[row.name].items() if run["status"] == "finished"}
        lost = Counter(str(run["status"]) for run in found[row.name].values() if run["status"] != "finished")
        said = {str(run["measured"].get("note") or "") for run in runs.values()} - {""}
        notes = (*(f"{lost[status]} {status}" for status in sorted(lost)), *sorted(said))
        method, head = _parameters(row, list(runs.values()))
        difference = None
        if reference and row.compare and row.name != reference:
            difference = _difference(runs, found.get(reference, {}), store, metric)
        lines.append(
            Line(
                row.name,
                row.label,
                store.source,
                _cells(list(runs.values()), metrics),
                len(runs) or None,
                method,
                head,
                None,
                difference,
                notes,
            )
        )
    return lines


def _found(row: Row, store: Store) -> dict[int, dict[str, Any]]:
    return {seed: store.records[key] for seed, (key, _) in row.asked.items() if key in store.records}


def _parameters(row: Row, runs: list[dict[str, Any]]) -> tuple[int | None, int | None]:
    counts = {(int(p["method"]), int(p["head"])) for p in (run["measured"]["parameters"] for run in runs)}
    if len(counts) > 1:
        raise UserError(f"row {row.name}: seeds train different numbers of parameters {sorted(counts)}")
    return next(iter(counts)) if counts else (None, None)


def _cells(runs: list[dict[str, Any]], metrics: Sequence[Metric]) -> dict[str, Cell]:
    cells = {}
    for metric in metrics:
        # A dev loss is measured by every training, not scored on test inputs.
        values = [run["measured"]["scores"].get(metric.key, run["measured"].get(metric.key)) for run in runs]
        if values and all(value is not None for value in values):
            cells[metric.key] = summarise([metric.scale * value for value in values])
    return cells


def summarise(values: list[float]) -> Cell:
    """Mean and sample standard deviation sqrt(sum (x - mean)^2 / (n - 1)); no spread for n = 1."""
    return Cell(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def _difference(
    runs: dict[int, dict[str, Any]], others: dict[int, dict[str, Any]], store: Store, metric: Metric
) -> Difference | None:
    """Row minus reference over the seeds that finished in both and answered the same inputs.

    Each resample of the inputs scores every seed of both methods, so the interval is that of the mean over seeds.
    """
    pairs = paired(runs, others, store)
    if not pairs:
        return None
    found = paired_bootstrap([ours for ours, _ in pairs], [theirs for _, theirs in pairs], metric=metric.key)
    mean, low, high = (metric.scale * value for value in (found.difference, found.low, found.high))
    return Difference(mean, low, high, len(pairs))


def paired(
    runs: dict[int, dict[str, Any]], others: dict[int, dict[str, Any]], store: Store
) -> list[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """(predictions of a row, of the other) for each seed that finished in both on the same inputs."""
    pairs = []
    for seed, run in sorted(runs.items()):
        other = others.get(seed)
        if other is None or other["status"] != "finished" or run["status"] != "finished":
            continue
        paths = [store.predictions(str(record["signature"])) for record in (run, other)]
        if not all(path.is_file() for path in paths):
            continue
        ours, theirs = (load_predictions(path) for path in paths)
        if [line["key"] for line in ours] == [line["key"] for line in theirs]:
            pairs.append((ours, theirs))
    return pairs


def quoted(block: Block, metrics: Sequence[Metric], scale: str, scale_label: str) -> list[Line]:
    """The paper's lines and the reruns of its recipe by others, as declared in the rows for backbone `scale`.

    Values are in printed units already. Each source is named in the notes.
    """
    lines = []
    for row in block.rows:
        if paper := row.paper.get(scale):
            cells = {
                metric.key: Cell(float(paper[metric.key]), paper.get(f"{metric.key}_sd"), paper.get("n"))
                for metric in metrics
                if paper.get(metric.key) is not None
            }
            lines.append(
                Line(
                    row.name,
                    row.label,
                    f"paper ({scale_label})",
                    cells,
                    paper.get("n"),
                    printed_millions=paper.get("params_m"),
                    notes=(str(paper["source"]),),
                )
            )
        if reruns := row.reruns.get(scale):
            cells = {
                metric.key: summarise([float(value) for value in reruns[metric.key]])
                for metric in metrics
                if metric.key in reruns
            }
            n = max(cell.n or 0 for cell in cells.values())
            lines.append(
                Line(
                    row.name,
                    row.label,
                    f"reruns by others ({scale_label})",
                    cells,
                    n,
                    notes=(str(reruns["source"]),),
                )
            )
    return lines
