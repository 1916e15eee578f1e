"""What was run where, with which seeds, and the command that runs it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from lora_repro.planning.rerun_command import Command, command
from lora_repro.report.html import code
from lora_repro.report.subjects.latency import command as latency_command
from lora_repro.report.table import EMPTY, Number, Table

WHERE = "Commit, machine, inputs"
HEADER = ("Row", "Table", "Task", "Seed", "Status", "Seconds", "Finished", WHERE, "Record", "Command")
MEASURES = ("Measurement", "Status", "Seconds", "Finished", "Commit", "Machine", "Load at start", "Signature", "Command")


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
    records: dict[str, dict[str, Any]], profile: str, declared: Mapping[str, Mapping[str, Command]]
) -> list[RecordedRun]:
    """Every record with its command, in the order of tables, tasks, rows, overrides and seeds.

    declared: experiment -> the commands of its cells (`Shown.commands`).
    """
    runs = []
    for record in records.values():
        found = declared.get(str(record["row"]["table"]), {}).get(f"{record['row']['name']} {record['signature']}")
        runs.append(RecordedRun(record, found or command(record, profile), profile))
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
    places = [run.record["where"] for run in runs] + [found["where"] for found in measures.values()]
    machines = list(dict.fromkeys(map(_machine, places)))
    inputs = list(dict.fromkeys(_input(run.record["where"]) for run in runs))
    names = sorted({run.table for run in runs}, key=lambda table: ([*order, table].index(table), table == "", table))
    lines = [_line(run, machines, inputs, up) for table in names for run in runs if run.table == table]
    tables = [table_of(f"{len(runs):,} run{'s' if len(runs) > 1 else ''}", HEADER, lines)]
    if measures:
        rows = [_measured(stem, found, machines) for stem, found in measures.items()]
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


def _measured(stem: str, measured: dict[str, Any], machines: list[str]) -> list[str]:
    where = measured["where"]
    return [
        stem,
        str(measured["status"]),
        _number(where.get("wall_seconds")),
        _time(where),
        code(str(where["git_sha"])[:9]),
        str(machines.index(_machine(where)) + 1),
        _number(where.get("load_before")),
        code(measured["signature"]),
        code(latency_command(measured)),
    ]


def _number(value: float | None) -> str:
    return EMPTY if value is None else Number(str(value), value)


def _time(where: dict[str, Any]) -> str:
    return str(where["finished_at"]).replace("T", " ").removesuffix("Z")


def _machine(where: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    return f"{where['device']}; {where['precision']}; {versions}"


def _input(where: dict[str, Any]) -> str:
    """Backbone and data, with the first twelve digits of their hashes."""
    backbone, data = where["backbone"], where["data"]
    weights = f" (sha256 {backbone['sha256'][:12]})" if backbone.get("sha256") else ""
    hashes = ", ".join(f"{name} {digest[:12]}" for name, digest in sorted((data.get("hashes") or {}).items()))
    return f"{backbone['label']}{weights}; {data['caption']}{f' (sha256: {hashes})' if hashes else ''}"
