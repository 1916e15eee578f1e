"""The runs that a command would start: those that it asks for, and before them the ones that they start from."""

from __future__ import annotations

from collections.abc import Sequence

from lora_repro import sweep
from lora_repro.sweep import Cell


def cells(arguments: Sequence[str]) -> list[Cell]:
    """Every run of `python -m lora_repro.run <arguments>`, each once. Raises UserError for what does not compose."""
    overrides = [item for item in arguments if not item.startswith("-")]
    found = sweep.cells(overrides)
    needed = {name for cell in found for name in cell.config.get("starts_from", ())}
    others = {tuple(start.items()) for cell in found for start in cell.config.get("starts") or ()}
    first = [cell for own in sorted(others) for cell in sweep.cells(_instead(overrides, own)) if cell.folder.name in needed]
    return list({cell.folder: cell for cell in [*first, *found]}.values())


def _instead(overrides: Sequence[str], own: Sequence[tuple[str, object]]) -> list[str]:
    """The command that gives the runs that others start from, as `compose.starts_of` composes them."""
    keys = {"starts", *(key for key, _ in own)}
    return [*(item for item in overrides if item.split("=", 1)[0] not in keys), "starts=null", *(f"{k}={v}" for k, v in own)]
