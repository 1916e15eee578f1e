"""The columns of a grid: a task each (and the average of several), a number of training rows each, or a size each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lora_repro.tables.artefact import Artefact
from lora_repro.tables.report import Metric
from lora_repro.tables.rows import Block

AVERAGE = Metric("average", "Average", +1, 100, 1)
ANY = "any"  # the column of rows that have no size


def group_of(artefact: Artefact, block: Block) -> tuple[str, ...]:
    """What one table holds: a backbone, and unless its columns are the tasks, one task."""
    return (block.backbone,) if artefact.by == "task" else (block.backbone, block.task)


def columns_of(artefact: Artefact, blocks: Sequence[Block], metric: Metric | None) -> tuple[Metric, ...]:
    """A column a block, in their order, then the average over several tasks or that of the rows without a size.

    `metric`: another than the task's own score; its columns are keyed <metric>_<column>.
    """
    columns = tuple(column_of(artefact, block) for block in blocks)
    if metric:
        columns = tuple(replace(metric, key=f"{metric.key}_{column.key}", label=column.label) for column in columns)
    if artefact.by == "task":
        return (*columns, AVERAGE) if len(columns) > 1 else columns
    if any(one_run(blocks, row.name) for row in blocks[0].rows):
        return (*columns, replace(columns[0], key=ANY, label=f"no {artefact.size}"))
    return columns


def main_column(columns: Sequence[Metric]) -> Metric:
    """The column whose difference stands in the table: the average, or the largest size."""
    return columns[-2] if columns[-1].key == ANY else columns[-1]


def column_of(artefact: Artefact, block: Block) -> Metric:
    """Keyed as the rows' `paper` values are: by the task, by rows_<n> (rows_all), or by size_<n>."""
    if artefact.by == "task":
        return Metric(block.task, task_label(block), +1, 100, 1)
    if artefact.by == "row.size":
        n = block.config["row"]["size"]
        return Metric(f"size_{n}", f"{artefact.size} {n}", +1, 100, 1)
    n = block.config["data"]["n_train"]
    return Metric(f"rows_{'all' if n is None else n}", "all rows" if n is None else f"{n:,} rows", +1, 100, 1)


def task_label(block: Block) -> str:
    """What captions call a block's task."""
    return str(block.config["task"].get("label") or block.task.upper())


def score_of(block: Block) -> Metric:
    """The score that stands for a block's task: the first that its yaml names; BLEU for a text."""
    key = str((block.config["task"].get("metrics") or ["bleu"])[0])
    return Metric(key, "BLEU" if key == "bleu" else key, +1, 100, 1)


def one_run(blocks: Sequence[Block], name: str) -> bool:
    """Whether a row is the same run in every column: it has no size."""
    keys = [{key for key, _ in row.asked.values()} for block in blocks for row in block.rows if row.name == name]
    return len(keys) > 1 and all(other == keys[0] for other in keys)
