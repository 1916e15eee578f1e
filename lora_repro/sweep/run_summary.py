"""The line that a finished run prints: what it was, its score beside the paper's, and its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lora_repro.cells import Cell, chosen_settings


def summary_line(record: dict[str, Any], cell: Cell, again: bool = False) -> str:
    """The line. `again`: the record existed already, and nothing was run."""
    took = "already recorded" if again else f"in {duration(record['measured']['wall_seconds'])}"
    parts = [f"{record['status']} {took}", *filter(None, [score(record, cell)]), shown(cell.folder)]
    chosen = chosen_settings(cell) if cell.asked["row"]["table"] else []  # without a table the label has them
    return ", ".join([cell.row.label, *chosen, cell.task, f"seed {cell.seed}"]) + ": " + "  ".join(parts)


def score(record: dict[str, Any], cell: Cell) -> str:
    """The task's main score in per cent and the paper's value for this row; empty if no score was measured."""
    said = measured(record, cell)
    if record["measured"].get("scores", {}).get(cell.score) is None or not cell.asked["backbone"].get("pretrained", True):
        return said  # the paper prints no score of random weights
    backbone = str(cell.asked["backbone"]["name"])
    for name in (backbone, *cell.row.paper):  # its own backbone, or the first that the paper has
        printed = cell.row.paper.get(name, {})
        number = printed.get(cell.score, printed.get(cell.task))
        if isinstance(number, int | float):
            return f"{said} (paper{'' if name == backbone else f', {name}'}: {number})"
    return said


def measured(record: dict[str, Any], cell: Cell) -> str:
    """The task's main score in per cent: `bleu 60.2`; all measured scores if that one is missing."""
    scores = record["measured"].get("scores", {})
    value = scores.get(cell.score)
    if value is None:
        return "  ".join(f"{key} {number:.4g}" for key, number in scores.items() if number is not None)
    return f"{cell.score} {100 * value:.1f}"


def duration(seconds: float) -> str:
    """A duration as `92 s`, `12 min`, `3.4 h`."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def shown(folder: Path) -> str:
    """A folder's path, relative to the current folder if it lies below it."""
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_absolute() and folder.is_relative_to(here) else folder)
