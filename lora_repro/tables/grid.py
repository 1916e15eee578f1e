"""A table with a column a task (after several their average), a training size or a rank: each cell is a declared run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lora_repro.errors import UserError
from lora_repro.metrics.bootstrap import paired_draws
from lora_repro.tables.artefact import Artefact, footnotes, identity, reproduce
from lora_repro.tables.columns import (
    AVERAGE,
    columns_of,
    group_of,
    main_column,
    one_run,
    score_of,
    task_label,
)
from lora_repro.tables.report import Cell, Difference, Line, Metric, measured, paired, quoted, summarise
from lora_repro.tables.rows import Block, Row
from lora_repro.tables.stores import Store, one_origin, records_of
from lora_repro.tables.table import Table


def grid_tables(
    artefact: Artefact,
    blocks: Sequence[Block],
    stores: Sequence[Store],
    profile: str,
    extra: Sequence[str] = (),
) -> list[Table]:
    """Two tables a backbone: scores, and if there are several columns each one's difference from the reference.

    Raises UserError where one store's records of a task differ in data or backbone.
    """
    found: list[Table] = []
    for group in dict.fromkeys(group_of(artefact, block) for block in blocks):
        mine = [block for block in blocks if group_of(artefact, block) == group]
        if found and not any(records_of(mine, store) for store in stores):
            continue  # a task that nobody has run
        scores = _scores(artefact, mine, stores, profile, extra)
        found.append(scores)
        # A second metric, such as the dev loss: a table of its own, with no differences.
        found += [_scores(artefact, mine, stores, profile, extra, metric) for metric in artefact.metrics[1:]]
        if len(scores.metrics) > 1 and any(line.differences for line in scores.lines):
            facts = (
                f"{artefact.title}, profile {profile}: differences from {artefact.reference_label}",
                *scores.facts[1:],
            )
            found.append(replace(scores, facts=facts, footnotes=(), differences=True))
    return found


def _scores(
    artefact: Artefact,
    blocks: Sequence[Block],
    stores: Sequence[Store],
    profile: str,
    extra: Sequence[str],
    metric: Metric | None = None,
) -> Table:
    columns = columns_of(artefact, blocks, metric)
    ours: list[Line] = []
    shown: list[dict[str, Any]] = []
    kept: list[Store] = []
    refused: list[str] = []
    for store in stores:
        records = records_of(blocks, store)
        if store is not stores[0] and not records:
            continue
        for block in blocks:
            one_origin(records_of([block], store))
        try:
            for block in blocks:
                one_origin([record for each in (*kept, store) for record in records_of([block], each)])
        except UserError as error:
            refused.append(f"The {store.source} runs are not shown beside these: {error}.")
            continue
        kept.append(store)
        ours += _lines(artefact, blocks, columns, store, metric)
        shown += records
    scale = artefact.scale(blocks[0].backbone)
    printed = [_averaged(line, columns) for line in quoted(blocks[0], columns, scale, artefact.paper[scale])]
    everything = [*ours, *printed]
    order = {row.name: index for index, row in enumerate(blocks[0].rows)}
    everything.sort(key=lambda line: order[line.row])
    counts = [line.n for line in ours if line.n]
    first = identity(artefact, profile, blocks[0].config, shown, counts)
    facts = (
        *first[:2],
        f"Data: {_data(blocks, shown)}",
        first[3],
        "Scores: "
        + ", ".join(dict.fromkeys(f"{task_label(b)} {metric.label if metric else score_of(b).label}" for b in blocks)),
        reproduce(artefact.name, profile, blocks[0].config, extra),
    )
    return Table(
        profile,
        blocks[0].backbone,
        facts,
        tuple(everything),
        (*footnotes(replace(artefact, compared=main_column(columns)), ours, shown), *refused),
        columns,
        main_column(columns),
        artefact.reference_label,
        second=metric.key if metric else "",
    )


def _data(blocks: Sequence[Block], shown: Sequence[dict[str, Any]]) -> str:
    """The tasks that have a record, and what their captions say alike."""
    captions = list(dict.fromkeys(str(record["where"]["data"]["caption"]) for record in shown))
    names = [task_label(block) for block in blocks]
    named = {caption: name for caption in captions for name in names if caption.startswith(name)}
    rest = dict.fromkeys(_bare(caption.removeprefix(named.get(caption, ""))) for caption in captions)
    text = "; ".join(rest) if captions else "no record yet"
    return f"{', '.join(named.values())}: {text}" if named else text


def _bare(text: str) -> str:
    """Without the comma or the brackets that set it off from a name."""
    text = text.strip(" ,")
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text


def _lines(
    artefact: Artefact, blocks: Sequence[Block], columns: Sequence[Metric], store: Store, other: Metric | None
) -> list[Line]:
    """One line a row: a cell a task, and the average where every one of several has one. `other`: not the task's own score."""
    parts: dict[str, list[Line]] = {}
    for number, (block, swept) in enumerate(zip(blocks, columns, strict=False)):
        metric = replace(swept, key=other.key if other else score_of(block).key)
        for line in measured(block, store, (metric,), "" if other else artefact.reference, metric.key):
            column = swept
            if artefact.by != "task" and one_run(blocks, line.row):
                if number:
                    continue
                column = columns[-1]
            cells = {column.key: line.cells[metric.key]} if metric.key in line.cells else {}
            differences = {column.key: line.difference} if line.difference else {}
            counted = tuple(note for note in line.notes if note[:1].isdigit())  # such as "1 collapsed"
            lost = {column.key: counted} if counted else {}
            notes = tuple(f"{column.label}: {note}" if note in counted else note for note in line.notes)
            sizes = {column.key: line.method_parameters} if line.method_parameters else {}
            joined = replace(line, cells=cells, differences=differences, notes=notes, lost=lost, sizes=sizes)
            parts.setdefault(line.row, []).append(joined)
    last = main_column(columns).key
    return [_joined(artefact, blocks, row, parts[row.name], store, last) for row in blocks[0].rows]


def _joined(
    artefact: Artefact, blocks: Sequence[Block], row: Row, parts: Sequence[Line], store: Store, last: str
) -> Line:
    cells = {key: cell for part in parts for key, cell in part.cells.items()}
    differences = {key: found for part in parts for key, found in part.differences.items()}
    if last == AVERAGE.key and (average := _average(blocks, row.name, store)):
        cells[AVERAGE.key] = average
        if row.name != artefact.reference and (
            found := _average_difference(artefact, blocks, row.name, store)
        ):
            differences[AVERAGE.key] = found
    methods = {part.method_parameters for part in parts} - {None}
    sizes = {key: value for part in parts for key, value in part.sizes.items()} if len(methods) > 1 else {}
    if len(methods) > 1 and artefact.by != "row.size":
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
        next(iter(methods)) if len(methods) == 1 else None,
        max(heads, default=None),
        None,
        differences.get(last),
        tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        differences,
        {key: why for part in parts for key, why in part.lost.items()},
        sizes,
    )


def _finished(block: Block, name: str, store: Store) -> dict[int, dict[str, Any]]:
    """seed -> finished record of one row on one task."""
    row = next(row for row in block.rows if row.name == name)
    found = {seed: store.records.get(key) for seed, (key, _) in row.asked.items()}
    return {seed: record for seed, record in found.items() if record and record["status"] == "finished"}


def _average(blocks: Sequence[Block], name: str, store: Store) -> Cell | None:
    """Mean over tasks, seed by seed, over the seeds that every task has; None unless every task has one."""
    found = [(_finished(block, name, store), score_of(block).key) for block in blocks]
    seeds = set.intersection(*({*runs} for runs, _ in found))
    values = []
    for seed in sorted(seeds):
        scores = [runs[seed]["measured"]["scores"].get(metric) for runs, metric in found]
        if all(score is not None for score in scores):
            values.append(AVERAGE.scale * sum(scores) / len(scores))
    return summarise(values) if values else None


def _averaged(line: Line, columns: Sequence[Metric]) -> Line:
    """A quoted line whose average is that of the tasks shown: the printed one is of the paper's eight.

    Printed where the two agree to a digit; of the printed cells where every task shown has one; else left out.
    """
    if AVERAGE not in columns:
        return line
    cells = dict(line.cells)
    printed = cells.pop(AVERAGE.key, None)
    shown = [cells[column.key].mean for column in columns if column.key in cells]
    if len(shown) == len(columns) - 1:
        own = Cell(statistics.fmean(shown), None, line.n)
        cells[AVERAGE.key] = printed if printed and abs(printed.mean - own.mean) < 0.1 else own
    return replace(line, cells=cells)


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
        metric = score_of(block).key
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
