"""What the methods wrote for a few inputs, taken at even distances in the test set and not chosen by hand.

Published predictions hold no text of the data. Generated data are generated again; real data are read from the folder that the
reader names, and without it only the outputs are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_repro.config.compose import build
from lora_repro.errors import UserError
from lora_repro.records.record import load_predictions
from lora_repro.report.page.runs import RecordedRun, table_of
from lora_repro.report.table import Table

if TYPE_CHECKING:
    from lora_repro.tasks.base import AbstractTask, Example

SHOWN = 3  # inputs per task
NOT_OURS = "(text from the data set: not published)"


@dataclass(frozen=True)
class Shown:
    """One input with its references (if at hand) and every method's output."""

    key: str
    input: str
    references: tuple[str, ...]
    outputs: Table


@dataclass(frozen=True)
class Examples:
    """The inputs shown for a task of a table; `note` says where their texts come from, or why they are missing."""

    table: str
    task: str
    note: str
    shown: tuple[Shown, ...]


def examples(runs: Sequence[RecordedRun], order: Sequence[str], predictions: Path, data: str | None) -> list[Examples]:
    """Examples of each task whose answers are texts: the declared rows of its first table in `order`, each at its first seed."""
    found = []
    texts = [run for run in runs if run.task.get("kind", "text") == "text" and run.table in order]
    texts = [run for run in texts if run.record["status"] == "finished" and not run.command.extra]
    for task in sorted({str(run.task["name"]) for run in texts}):
        mine = [run for run in texts if run.task["name"] == task]
        table = min((run.table for run in mine), key=order.index)
        rows: dict[tuple[str, ...], RecordedRun] = {}
        for run in sorted((run for run in mine if run.table == table), key=lambda run: run.seed):
            rows.setdefault(run.command.overrides[:-1], run)
        chosen = sorted(rows.values(), key=lambda run: (run.command.order, run.row))
        if shown := _examples(table, task, chosen, predictions, data):
            found.append(shown)
    return found


def _examples(
    table: str, task: str, runs: Sequence[RecordedRun], predictions: Path, data: str | None
) -> Examples | None:
    answers: dict[str, dict[str, dict[str, Any]]] = {}  # label -> key -> published prediction
    for run in runs:
        path = predictions / f"{run.record['signature']}.jsonl"
        if path.is_file():
            answers[run.label] = {str(line["key"]): line for line in load_predictions(path)}
    keys = max(map(list, answers.values()), key=len, default=[])
    if not keys:
        return None
    chosen = [keys[(2 * i + 1) * len(keys) // (2 * SHOWN)] for i in range(SHOWN)]
    known, note = texts_of(runs[0].record, data)
    shown = []
    for key in dict.fromkeys(chosen):
        lines = [(label, lines[key]) for label, lines in answers.items() if key in lines]
        example = known.get(key)
        errors = [f"{line['slot_errors']} of {line['slots']}" if "slots" in line else "—" for _, line in lines]
        rows = [[label, str(line.get("output", NOT_OURS)), of] for (label, line), of in zip(lines, errors, strict=True)]
        shown.append(
            Shown(
                key,
                example.input if example else "",
                example.references if example else (),
                table_of(f"Outputs for input {key}", ("Method", "Output", "Slot errors"), rows),
            )
        )
    seeds = sorted({run.seed for run in runs})
    said = f"Test inputs at equal distances in the test set, not chosen by hand; seed {', '.join(map(str, seeds))}. "
    return Examples(table, task, said + note, tuple(shown))


def texts_of(record: dict[str, Any], data: str | None) -> tuple[dict[str, Example], str]:
    """(key -> test example, where they come from); ({}, why) if they are not at hand or are not the ones that were scored."""
    node = record["asked"]["task"]
    generated = node.get("source") == "embedded"
    try:
        task: AbstractTask = build(node)
        about = "" if generated else f" {task.attribution}".rstrip()
        if not generated and data is None:
            return {}, (
                "Inputs and references are not part of the repository: each input is shown by its key. "
                f"make report DATA=/path/to/the/files shows the texts.{about}"
            )
        splits = task.load(None if generated else data)
    except UserError as error:
        return {}, f"Inputs and references are not shown: {error}."
    asked = record["where"]["data"].get("hashes") or {}
    if {name: splits.hashes.get(name) for name in asked} != asked:
        return {}, "Inputs and references are not shown: the data in this folder are not those that were scored."
    source = "The data are generated by us." if generated else f"Read from local files.{about}"
    return {example.key: example for example in splits.test}, source
