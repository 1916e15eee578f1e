"""The runs that a command would start: a declared table's cells, or the jobs of a grid, with the runs that they start from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lora_repro import record, rows
from lora_repro.compose import CONF, compose, grid, resolved


@dataclass(frozen=True)
class Cell:
    """One run: its row's name (of a grid its method's), signature and resolved configuration."""

    row: str
    signature: str
    config: dict[str, Any]

    @property
    def place(self) -> tuple[str, str, int]:
        """Row, backbone and seed: what a run shares with the one that it starts from."""
        return self.row, str(self.config["backbone"]["name"]), int(self.config["seed"])


def cells(arguments: list[str]) -> list[Cell]:
    """Every run of `python -m lora_repro.run <arguments>`, each once. Raises UserError for what does not compose."""
    overrides = [item for item in arguments if not item.startswith("-")]
    found = list(_asked(overrides))
    first = [cell for task in _starts(found) for cell in _asked(_instead(overrides, task))]
    needed = {(task, *cell.place) for cell in found if (task := cell.config.get("init_from"))}
    first = [cell for cell in first if (cell.config["task"]["name"], *cell.place) in needed]
    return list({cell.signature: cell for cell in [*first, *found]}.values())


def _starts(found: list[Cell]) -> list[str]:
    return sorted({str(task) for cell in found if (task := cell.config.get("init_from"))})


def _instead(overrides: list[str], task: str) -> list[str]:
    """The command that gives the runs on `task` that others start from, as `lora_repro.run` composes it."""
    kept = [item for item in overrides if item.split("=", 1)[0] not in ("task", "init_from")]
    return [*kept, f"task={task}", "init_from=null"]


def _asked(overrides: list[str]) -> Iterator[Cell]:
    given = dict(item.split("=", 1) for item in overrides if "=" in item)
    table = given.get("experiment", "")
    if not (CONF / "row" / table).is_dir() or not table:
        for job in grid(overrides):
            config = resolved(compose(job))
            yield Cell(str(config["method"]["name"]), record.signature(config), config)
        return
    own = [item for item in overrides if item.split("=", 1)[0] in (f"row/{table}", *rows.AXES, "seed", "profile", "experiment")]
    profile = given.get("profile", "mini")
    if "seed" not in given:  # the sweep may ask for fewer seeds than a row has
        own.append(f"seed={','.join(rows.swept(table, profile, 'seed')) or 0}")
    narrowing = [item for item in own if not item.startswith(("profile=", "experiment="))]
    for job in grid([item for item in overrides if item not in own]):
        for block in rows.declared(table, profile, [*narrowing, *job]):
            for row in block.rows:
                for name, config in row.asked.values():
                    yield Cell(row.name, name, config)
