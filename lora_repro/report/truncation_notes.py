"""A table's footnotes on inputs that did not fit: how many were cut to `data.max_length`, by task and row."""

from __future__ import annotations

from collections.abc import Sequence

from lora_repro.report.columns import task_label
from lora_repro.results import Run, grouped

COUNTED = {"rows_cut": "training and dev rows", "test_rows_cut": "test inputs"}  # key of a record -> what it counts


def remarks(shown: Sequence[Run]) -> list[str]:
    """One line per task with cut inputs: how many in each run, and of which rows where they differ (prefixes take positions)."""
    sentences = []
    for runs in grouped(shown, lambda run: run.cell.task):
        cut: dict[str, list[str]] = {}  # how many were cut -> the rows
        for each in grouped(runs, lambda run: run.cell.row.label):
            cut.setdefault(_counts(each), []).append(each[0].cell.row.label)
        whose = {counts: "all methods" if len(cut) == 1 else "; ".join(labels) for counts, labels in cut.items() if counts}
        if parts := [f"{counts} ({labels})" for counts, labels in whose.items()]:
            sentences.append(f"{task_label(runs[0].cell)}: inputs cut to data.max_length in each run: {', '.join(parts)}.")
    return sentences


def _counts(runs: Sequence[Run]) -> str:
    """`12 training and dev rows and 3-5 test inputs`: the fewest and the most over these runs; empty if none were cut."""
    parts = []
    for key, what in COUNTED.items():
        counts = [int(run.record["measured"].get(key, 0)) for run in runs]
        if most := max(counts):
            parts.append(f"{most if min(counts) == most else f'{min(counts)}-{most}'} {what}")
    return " and ".join(parts)
