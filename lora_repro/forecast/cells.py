"""The runs that a command would start: those that it asks for, and before them the ones that they start from."""

from __future__ import annotations

from collections.abc import Sequence

from lora_repro import sweep
from lora_repro.sweep import Cell


def cells(arguments: Sequence[str]) -> list[Cell]:
    """Every run of `python -m lora_repro.run <arguments>`, each once. Raises UserError for what does not compose."""
    overrides = [item for item in arguments if not item.startswith("-")]
    found = sweep.cells(overrides)
    needed = {(task, *_place(cell)) for cell in found if (task := cell.config.get("init_from"))}
    first = [
        cell
        for task in sorted({str(task) for task, *_ in needed})
        for cell in sweep.cells(_instead(overrides, task))
        if (task, *_place(cell)) in needed
    ]
    return list({cell.folder: cell for cell in [*first, *found]}.values())


def _place(cell: Cell) -> tuple[str, str, int]:
    """What a run shares with the one that it starts from."""
    return cell.row, str(cell.config["backbone"]["name"]), cell.seed


def _instead(overrides: Sequence[str], task: str) -> list[str]:
    """The command that gives the runs on `task` that others start from, as `lora_repro.run` composes it."""
    kept = [item for item in overrides if item.split("=", 1)[0] not in ("task", "init_from")]
    return [*kept, f"task={task}", "init_from=null"]
