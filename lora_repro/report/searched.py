"""What a table says of its learning rates: which nobody searched, and which lie at an edge of those tried."""

from __future__ import annotations

from collections.abc import Sequence

from lora_repro.cells import Cell
from lora_repro.config import rates
from lora_repro.report.columns import task_label


def remarks(cells: Sequence[Cell]) -> list[str]:
    """What a table says of the rates of the cells that it shows, where these are not given: not searched, at an edge, shorter."""
    by_setting = {rates.setting(cell.asked): cell for cell in reversed(cells) if cell.guess}
    shown = list(by_setting.values())[::-1]
    found = [(cell, search) for cell in shown if (search := cell.search)]
    lists = [
        ("Learning rate not searched, a first guess", [cell for cell in shown if cell.unsearched]),
        ("The best learning rate lies at an edge of those tried", [cell for cell, search in found if search["edge"]]),
        ("Learning rate searched on a part of the training's length", [cell for cell, search in found if search["length"] < 1]),
    ]
    return [f"{text}: {_names(wanted, shown)}." for text, wanted in lists if wanted]


def _names(wanted: Sequence[Cell], shown: Sequence[Cell]) -> str:
    """`every row`, or each with the tasks and places that are meant, where not all are."""
    if len(wanted) == len(shown):
        return "every row"
    parts = []
    for label in dict.fromkeys(cell.row.label for cell in wanted):
        mine = [cell for cell in wanted if cell.row.label == label]
        everywhere = len(mine) == sum(cell.row.label == label for cell in shown)
        parts.append(label if everywhere else f"{label} ({', '.join(_place(cell) for cell in mine)})")
    return "; ".join(parts)


def _place(cell: Cell) -> str:
    axes = [f"{key.rpartition('.')[2]} {value}" for key, value in cell.axes.items() if key not in ("task", "backbone")]
    return " ".join([task_label(cell), *axes])
