"""What was run where, with which seeds, and the command that runs it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora_repro.bench import latency_table
from lora_repro.command import Command, command
from lora_repro.page.cells import Cell, Grid, grid, plain

HEADER = ("Row", "Task", "Seed", "Status", "Seconds", "Finished", "Commit", "Machine", "Inputs", "Record", "Command")
ESTIMATED = "Estimated seconds"  # a column beside "Seconds", of tables with a run whose time was estimated before it began
MEASURES = ("Measurement", "Status", "Seconds", "Finished", "Commit", "Machine", "Load before", "Signature", "Command")


@dataclass(frozen=True)
class Run:
    """A published record and how to run it again."""

    record: dict[str, Any]
    command: Command

    @property
    def table(self) -> str:
        return str(self.record["row"]["table"] or "")

    @property
    def row(self) -> str:
        return str(self.record["row"]["name"])

    @property
    def label(self) -> str:
        """The row's label, and what sets this run apart from its declared cells."""
        label = str(self.record["row"]["label"] or self.row)
        return f"{label} ({', '.join(self.command.extra)})" if self.command.extra else label

    @property
    def seed(self) -> int:
        return int(self.record["asked"]["seed"])

    @property
    def task(self) -> dict[str, Any]:
        return dict(self.record["asked"]["task"])


def runs_of(records: dict[str, dict[str, Any]], profile: str) -> list[Run]:
    """Every record with its command, in the order of tables, tasks, rows, overrides and seeds."""
    runs = [Run(record, command(record, profile)) for record in records.values()]
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
class Ledger:
    """The runs of each table, and what they name by number: machines with their versions, models with their data."""

    grids: tuple[tuple[str, Grid], ...]
    machines: tuple[str, ...]
    inputs: tuple[str, ...]


def ledger(runs: Sequence[Run], order: Sequence[str], measures: Mapping[str, dict[str, Any]]) -> Ledger:
    """One grid a table, in `order`, other tables and what belongs to none next, what was measured without training last.

    measures: stem -> measurement (bench/measures.py).
    """
    places = [run.record["where"] for run in runs] + [found["where"] for found in measures.values()]
    machines = list(dict.fromkeys(map(_machine, places)))
    inputs = list(dict.fromkeys(_input(run.record["where"]) for run in runs))
    tables = sorted({run.table for run in runs}, key=lambda table: ([*order, table].index(table), table == "", table))
    grids = []
    for table in tables:
        mine = [run for run in runs if run.table == table]
        seeds = sorted({run.seed for run in mine})
        said = f"run{'s' if len(mine) > 1 else ''}, seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        caption = f"{table or 'Outside any table'}: {len(mine)} {said}"
        rows = [_line(run, machines, inputs) for run in mine]
        header: tuple[str, ...] = HEADER
        if any("estimated_seconds" in run.record["measured"] for run in mine):
            place = HEADER.index("Seconds") + 1
            header = (*HEADER[:place], ESTIMATED, *HEADER[place:])
            for row, run in zip(rows, mine, strict=True):
                row.insert(place, plain(run.record["measured"].get("estimated_seconds", "—")))
        grids.append((table or "adhoc", grid(caption, header, rows)))
    if measures:
        rows = [_measured(stem, found, machines) for stem, found in measures.items()]
        grids.append(("measures", grid("Measurements without training", MEASURES, rows)))
    return Ledger(tuple(grids), tuple(machines), tuple(inputs))


def _line(run: Run, machines: list[str], inputs: list[str]) -> list[Cell]:
    record, where, problem = run.record, run.record["where"], run.command.problem
    return [
        plain(run.label),
        plain(run.task.get("label") or run.task["name"]),
        plain(run.seed),
        plain(record["status"]),
        plain(record["measured"].get("wall_seconds", "—")),
        plain(_time(where)),
        plain(str(where["git_sha"])[:9], code=True),
        plain(machines.index(_machine(where)) + 1),
        plain(inputs.index(_input(where)) + 1),
        plain(record["signature"], code=True),
        plain(f"none: {problem}" if problem else run.command.text, code=not problem),
    ]


def _measured(stem: str, found: dict[str, Any], machines: list[str]) -> list[Cell]:
    where = found["where"]
    return [
        plain(stem),
        plain(found["status"]),
        plain(where.get("wall_seconds", "—")),
        plain(_time(where)),
        plain(str(where["git_sha"])[:9], code=True),
        plain(machines.index(_machine(where)) + 1),
        plain(where.get("load_before", "—")),
        plain(found["signature"], code=True),
        plain(latency_table.command(found), code=True),
    ]


def _time(where: dict[str, Any]) -> str:
    return str(where["finished_at"]).replace("T", " ").removesuffix("Z")


def _machine(where: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    return f"{where['device']}; {where['precision']}; {versions}"


def _input(where: dict[str, Any]) -> str:
    """Backbone and data; digests by their first twelve digits."""
    backbone, data = where["backbone"], where["data"]
    weights = f" (sha256 {backbone['sha256'][:12]})" if backbone.get("sha256") else ""
    hashes = ", ".join(f"{name} {digest[:12]}" for name, digest in sorted((data.get("hashes") or {}).items()))
    return f"{backbone['label']}{weights}; {data['caption']}{f' (sha256: {hashes})' if hashes else ''}"
