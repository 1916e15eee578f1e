"""A table with a column a task (GLUE, the last column their average) or a column a training size: each cell is a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lora_repro.artefact import Artefact, footnotes, identity
from lora_repro.errors import UserError
from lora_repro.metrics.bootstrap import paired_draws
from lora_repro.report import Cell, Difference, Line, Metric, measured, paired, quoted, summarise
from lora_repro.rows import Block, Row
from lora_repro.stores import Store, one_origin, records_of
from lora_repro.table import Table

AVERAGE = Metric("average", "Average", +1, 100, 1)


def grid_tables(
    artefact: Artefact,
    blocks: Sequence[Block],
    stores: Sequence[Store],
    profile: str,
    extra: Sequence[str] = (),
) -> list[Table]:
    """Two tables a backbone: scores, and each method's difference from the reference, column by column.

    Raises UserError where one store's records of a task differ in data or backbone.
    """
    found = []
    for backbone in dict.fromkeys(block.backbone for block in blocks):
        mine = [block for block in blocks if block.backbone == backbone]
        scores = _scores(artefact, mine, stores, profile, extra)
        found.append(scores)
        if any(line.differences for line in scores.lines):
            facts = (
                f"{artefact.title}, profile {profile}: differences from {artefact.reference_label}",
                *scores.facts[1:],
            )
            found.append(replace(scores, facts=facts, footnotes=(), differences=True))
    return found


def _scores(
    artefact: Artefact, blocks: Sequence[Block], stores: Sequence[Store], profile: str, extra: Sequence[str]
) -> Table:
    columns = tuple(_column(artefact, block) for block in blocks) + ((AVERAGE,) if artefact.by == "task" else ())
    ours: list[Line] = []
    shown: list[dict[str, Any]] = []
    for store in stores:
        records = records_of(blocks, store)
        if store is not stores[0] and not records:
            continue
        for block in blocks:
            one_origin(records_of([block], store))
        ours += _lines(artefact, blocks, columns, store)
        shown += records
    scale = artefact.scale(blocks[0].backbone)
    everything = [*ours, *quoted(blocks[0], columns, scale, artefact.paper[scale])]
    order = {row.name: index for index, row in enumerate(blocks[0].rows)}
    everything.sort(key=lambda line: order[line.row])
    counts = [line.n for line in ours if line.n]
    first = identity(artefact, profile, blocks[0].config, shown, counts)
    command = ["python -m lora_repro.run", f"experiment={artefact.name}", f"profile={profile}", *extra]
    facts = (
        *first[:2],
        f"Data: {_data(blocks, shown)}",
        first[3],
        "Scores: " + ", ".join(dict.fromkeys(f"{b.config['task']['label']} {b.config['task']['metrics'][0]}" for b in blocks)),
        f"To reproduce: {' '.join(command)}",
    )
    return Table(
        profile,
        blocks[0].backbone,
        facts,
        tuple(everything),
        tuple(footnotes(artefact, ours, shown)),
        columns,
        columns[-1],
        artefact.reference_label,
    )


def _column(artefact: Artefact, block: Block) -> Metric:
    """Keyed as the rows' `paper` values are: by the task, or by rows_<n> (rows_all)."""
    if artefact.by == "task":
        return Metric(block.task, str(block.config["task"]["label"]), +1, 100, 1)
    n = block.config["data"]["n_train"]
    return Metric(f"rows_{'all' if n is None else n}", "all rows" if n is None else f"{n:,} rows", +1, 100, 1)


def _data(blocks: Sequence[Block], shown: Sequence[dict[str, Any]]) -> str:
    """The tasks that have a record, and what their captions say alike."""
    captions = list(dict.fromkeys(str(record["where"]["data"]["caption"]) for record in shown))
    names = [str(block.config["task"]["label"]) for block in blocks]
    named = {caption: name for caption in captions for name in names if caption.startswith(name)}
    rest = dict.fromkeys(_bare(caption.removeprefix(named.get(caption, ""))) for caption in captions)
    return f"{', '.join(named.values())}: {'; '.join(rest)}" if captions else "no record yet"


def _bare(text: str) -> str:
    """Without the comma or the brackets that set it off from a name."""
    text = text.strip(" ,")
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text


def _lines(
    artefact: Artefact, blocks: Sequence[Block], columns: Sequence[Metric], store: Store
) -> list[Line]:
    """One line a row: a cell a task, and the average where every task has one."""
    parts: dict[str, list[Line]] = {}
    for block, column in zip(blocks, columns, strict=False):
        metric = replace(column, key=str(block.config["task"]["metrics"][0]))
        for line in measured(block, store, (metric,), artefact.reference, metric.key):
            cells = {column.key: line.cells[metric.key]} if metric.key in line.cells else {}
            differences = {column.key: line.difference} if line.difference else {}
            counted = [note for note in line.notes if note[:1].isdigit()]  # such as "1 collapsed"
            lost = {column.key: ", ".join(counted).removeprefix("1 ")} if counted and not cells else {}
            notes = tuple(f"{column.label}: {note}" if note in counted else note for note in line.notes)
            joined = replace(line, cells=cells, differences=differences, notes=notes, lost=lost)
            parts.setdefault(line.row, []).append(joined)
    return [_joined(artefact, blocks, row, parts[row.name], store, columns[-1].key) for row in blocks[0].rows]


def _joined(
    artefact: Artefact, blocks: Sequence[Block], row: Row, parts: Sequence[Line], store: Store, last: str
) -> Line:
    cells = {key: cell for part in parts for key, cell in part.cells.items()}
    differences = {key: found for part in parts for key, found in part.differences.items()}
    if artefact.by == "task" and (average := _average(blocks, row.name, store)):
        cells[AVERAGE.key] = average
        if row.name != artefact.reference and (
            found := _average_difference(artefact, blocks, row.name, store)
        ):
            differences[AVERAGE.key] = found
    methods = {part.method_parameters for part in parts} - {None}
    if len(methods) > 1:
        raise UserError(
            f"row {row.name}: tasks train different numbers of method parameters {sorted(map(str, methods))}"
        )
    heads = [part.head_parameters for part in parts if part.head_parameters is not None]
    return Line(
        row.name,
        row.label,
        store.source,
        cells,
        min((part.n for part in parts if part.n), default=None),
        next(iter(methods), None),
        max(heads, default=None),
        None,
        differences.get(last),
        tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        differences,
        {key: why for part in parts for key, why in part.lost.items()},
    )


def _finished(block: Block, name: str, store: Store) -> dict[int, dict[str, Any]]:
    """seed -> finished record of one row on one task."""
    row = next(row for row in block.rows if row.name == name)
    found = {seed: store.records.get(key) for seed, (key, _) in row.asked.items()}
    return {seed: record for seed, record in found.items() if record and record["status"] == "finished"}


def _average(blocks: Sequence[Block], name: str, store: Store) -> Cell | None:
    """Mean over tasks, seed by seed, over the seeds that every task has; None unless every task has one."""
    found = [(_finished(block, name, store), str(block.config["task"]["metrics"][0])) for block in blocks]
    seeds = set.intersection(*({*runs} for runs, _ in found))
    values = []
    for seed in sorted(seeds):
        scores = [runs[seed]["measured"]["scores"].get(metric) for runs, metric in found]
        if all(score is not None for score in scores):
            values.append(AVERAGE.scale * sum(scores) / len(scores))
    return summarise(values) if values else None


def _average_difference(
    artefact: Artefact, blocks: Sequence[Block], name: str, store: Store
) -> Difference | None:
    """Mean over tasks of row minus reference; each task's inputs are resampled on their own."""
    points: list[float] = []
    draws: list[Any] = []
    n = 0
    for block in blocks:
        pairs = paired(_finished(block, name, store), _finished(block, artefact.reference, store), store)
        if not pairs:
            return None
        metric = str(block.config["task"]["metrics"][0])
        sides = [ours for ours, _ in pairs], [theirs for _, theirs in pairs]
        # A seed of its own: with one for all, tasks of equal size would draw the same resamples.
        point, drawn, _ = paired_draws(*sides, seed=len(draws), metric=metric)
        points.append(point)
        draws.append(drawn)
        n = min(n, len(pairs)) if n else len(pairs)
    low, high = np.nanpercentile(np.mean(draws, axis=0), [2.5, 97.5])
    return Difference(
        AVERAGE.scale * float(np.mean(points)), AVERAGE.scale * float(low), AVERAGE.scale * float(high), n
    )
