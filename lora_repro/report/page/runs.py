"""What was run where, with which seeds, and the command that runs it again; and what the methods wrote for a few inputs.

These inputs are taken at even distances in the test set and not chosen by hand. Published predictions hold no text of the data.
Generated data are generated again; real data are read from the folder that the reader names, and without it only the outputs are
shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from lora_repro.config.compose import build
from lora_repro.errors import UserError
from lora_repro.planning.rerun_command import Command, command
from lora_repro.records.record import load_predictions
from lora_repro.report.html import code
from lora_repro.report.subjects.latency import command as latency_command
from lora_repro.report.table import EMPTY, Number, Table

if TYPE_CHECKING:
    from lora_repro.tasks.base import AbstractTask, Example

WHERE = "Commit, machine, inputs"
HEADER = ("Row", "Table", "Task", "Seed", "Status", "Seconds", "Finished", WHERE, "Record", "Command")
MEASURES = ("Measurement", "Status", "Seconds", "Finished", "Commit", "Machine", "Load at start", "Signature", "Command")
SHOWN = 3  # inputs per task
NOT_OURS = "(text from the data set: not published)"


@dataclass(frozen=True)
class RecordedRun:
    """A published record and how to run it again."""

    record: dict[str, Any]
    command: Command
    profile: str

    @property
    def table(self) -> str:
        return str(self.record["row"]["table"] or "")

    @property
    def row(self) -> str:
        return str(self.record["row"]["name"])

    @property
    def label(self) -> str:
        """The row's label, with the overrides that make this run differ from the declared cells."""
        label = str(self.record["row"]["label"] or self.row)
        return f"{label} ({', '.join(self.command.extra)})" if self.command.extra else label

    @property
    def seed(self) -> int:
        return int(self.record["asked"]["seed"])

    @property
    def task(self) -> dict[str, Any]:
        return dict(self.record["asked"]["task"])


def runs_of(
    records: dict[str, dict[str, Any]], profile: str, commands: Mapping[str, Mapping[str, Command]]
) -> list[RecordedRun]:
    """Every record with its command, in the order of tables, tasks, rows, overrides and seeds.

    commands: experiment -> the commands of its cells (`Shown.commands`).
    """
    runs = []
    for record in records.values():
        cell_command = commands.get(str(record["row"]["table"]), {}).get(f"{record['row']['name']} {record['signature']}")
        runs.append(RecordedRun(record, cell_command or command(record, profile), profile))
    return sorted(
        runs,
        key=lambda run: (
            run.table,
            str(run.task["name"]),
            run.command.order,
            run.row,
            run.command.overrides[:-1],
            run.seed,
            str(run.record["signature"]),
        ),
    )


@dataclass(frozen=True)
class RunList:
    """All runs, all measurements, and the numbered lists that they refer to: machines with versions, models with data."""

    tables: tuple[Table, ...]
    machines: tuple[str, ...]
    inputs: tuple[str, ...]


def listed(
    runs: Sequence[RecordedRun], order: Sequence[str], measures: Mapping[str, dict[str, Any]], up: str
) -> RunList:
    """The runs, by tables as in `order`, other tables and runs of no table, and then the measurements without training.

    measures: stem -> measurement (lora_repro/costs/measures.py). up: the way from the page to results/.
    """
    places = [run.record["where"] for run in runs] + [measurement["where"] for measurement in measures.values()]
    machines = list(dict.fromkeys(map(_machine, places)))
    inputs = list(dict.fromkeys(_input(run.record["where"]) for run in runs))
    names = sorted({run.table for run in runs}, key=lambda table: ([*order, table].index(table), table == "", table))
    lines = [_line(run, machines, inputs, up) for table in names for run in runs if run.table == table]
    tables = [table_of(f"{len(runs):,} run{'s' if len(runs) > 1 else ''}", HEADER, lines)]
    if measures:
        rows = [_measured(stem, measurement, machines) for stem, measurement in measures.items()]
        tables.append(table_of("Measurements without training", MEASURES, rows))
    return RunList(tuple(tables), tuple(machines), tuple(inputs))


def table_of(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table whose columns of numbers stand right."""
    columns = zip(*rows, strict=True)
    sides = "".join("r" if any(isinstance(cell, Number) for cell in column) else "l" for column in columns)
    return Table((caption,), tuple(header), sides or "l" * len(header), tuple(map(tuple, rows)))


def _line(run: RecordedRun, machines: list[str], inputs: list[str], up: str) -> list[str]:
    record, where, problem = run.record, run.record["where"], run.command.problem
    machine = machines.index(_machine(where)) + 1
    address = f"{up}/{run.profile}/records/{record['signature']}.json"
    return [
        run.label,
        run.table or "none",
        str(run.task.get("label") or run.task["name"]),
        Number(str(run.seed), run.seed),
        str(record["status"]),
        _number(record["measured"].get("wall_seconds")),
        _time(where),
        Markup("{}, {}, {}").format(code(str(where["git_sha"])[:9]), machine, inputs.index(_input(where)) + 1),
        Markup('<a href="{}">{}</a>').format(address, record["signature"]),
        f"none: {problem}" if problem else code(run.command.text),
    ]


def _measured(stem: str, measurement: dict[str, Any], machines: list[str]) -> list[str]:
    environment = measurement["where"]
    return [
        stem,
        str(measurement["status"]),
        _number(environment.get("wall_seconds")),
        _time(environment),
        code(str(environment["git_sha"])[:9]),
        str(machines.index(_machine(environment)) + 1),
        _number(environment.get("load_before")),
        code(measurement["signature"]),
        code(latency_command(measurement)),
    ]


def _number(value: float | None) -> str:
    return EMPTY if value is None else Number(str(value), value)


def _time(environment: dict[str, Any]) -> str:
    return str(environment["finished_at"]).replace("T", " ").removesuffix("Z")


def _machine(environment: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    return f"{environment['device']}; {environment['precision']}; {versions}"


def _input(environment: dict[str, Any]) -> str:
    """Backbone and data, with the first twelve digits of their hashes."""
    backbone, data = environment["backbone"], environment["data"]
    weights = f" (sha256 {backbone['sha256'][:12]})" if backbone.get("sha256") else ""
    hashes = ", ".join(f"{name} {digest[:12]}" for name, digest in sorted((data.get("hashes") or {}).items()))
    return f"{backbone['label']}{weights}; {data['caption']}{f' (sha256: {hashes})' if hashes else ''}"


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
    example_sets = []
    texts = [run for run in runs if run.task.get("kind", "text") == "text" and run.table in order]
    texts = [run for run in texts if run.record["status"] == "finished" and not run.command.extra]
    for task in sorted({str(run.task["name"]) for run in texts}):
        group = [run for run in texts if run.task["name"] == task]
        table = min((run.table for run in group), key=order.index)
        rows: dict[tuple[str, ...], RecordedRun] = {}
        for run in sorted((run for run in group if run.table == table), key=lambda run: run.seed):
            rows.setdefault(run.command.overrides[:-1], run)
        task_runs = sorted(rows.values(), key=lambda run: (run.command.order, run.row))
        if example_set := _examples(table, task, task_runs, predictions, data):
            example_sets.append(example_set)
    return example_sets


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
    sample = [keys[(2 * i + 1) * len(keys) // (2 * SHOWN)] for i in range(SHOWN)]
    test_set, note = texts_of(runs[0].record, data)
    inputs = []
    for key in dict.fromkeys(sample):
        lines = [(label, lines[key]) for label, lines in answers.items() if key in lines]
        example = test_set.get(key)
        errors = [f"{line['slot_errors']} of {line['slots']}" if "slots" in line else "—" for _, line in lines]
        rows = [[label, str(line.get("output", NOT_OURS)), of] for (label, line), of in zip(lines, errors, strict=True)]
        inputs.append(
            Shown(
                key,
                example.input if example else "",
                example.references if example else (),
                table_of(f"Outputs for input {key}", ("Method", "Output", "Slot errors"), rows),
            )
        )
    seeds = sorted({run.seed for run in runs})
    intro = f"Test inputs at equal distances in the test set, not chosen by hand; seed {', '.join(map(str, seeds))}. "
    return Examples(table, task, intro + note, tuple(inputs))


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
    hashes = record["where"]["data"].get("hashes") or {}
    if {name: splits.hashes.get(name) for name in hashes} != hashes:
        return {}, "Inputs and references are not shown: the data in this folder are not those that were scored."
    source = "The data are generated by us." if generated else f"Read from local files.{about}"
    return {example.key: example for example in splits.test}, source
