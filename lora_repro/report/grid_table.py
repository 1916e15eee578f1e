"""The table at the end of a grid of one's own: a line for each method with its settings, over the grid's seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lora_repro.planning.cells import SHOWN, Cell, own_title
from lora_repro.report.exhibit import ReportRequest
from lora_repro.report.in_words import of_tables
from lora_repro.report.pivot import Pivot
from lora_repro.report.sheet import Scores, tables_of
from lora_repro.report.table import REPRODUCE, save_tables
from lora_repro.report.terminal import paragraph, terminal
from lora_repro.results import Store, own

FULL = "full"


def as_rows(wanted: Sequence[Cell]) -> list[Cell]:
    """The grid's runs as the cells of a table: a row is what differs besides task, backbone and seed."""
    titles = {cell.signature: title(cell) for cell in wanted}
    places = {name: 10 * index for index, name in enumerate(dict.fromkeys(titles.values()))}
    made = []
    for cell in wanted:
        name = titles[cell.signature]
        axes: dict[str, Any] = {key: value for key, value in cell.axes.items() if key in ("task", "backbone")}
        made.append(replace(cell, row=replace(cell.row, name=name, label=name, order=places[name]), axes=axes))
    return made


def title(cell: Cell) -> str:
    """`lora method.rank=8`: the method and its values on the grid's other axes."""
    settings = [f"{key}={value}" for key, value in cell.axes.items() if key not in (*SHOWN, "backbone") and value is not None]
    return own_title(str(cell.asked["method"]["name"]), settings)


def scores(wanted: Sequence[Cell], ours: Store) -> list[Scores]:
    """What to show of a grid: differences are from full fine-tuning, or from the first row if the grid lacks it.

    Raises UserError if the runs cannot share a table.
    """
    rows = as_rows(wanted)
    names = list(dict.fromkeys(cell.row.name for cell in rows))
    reference = next((name for name in names if name.partition(" ")[0] == FULL), names[0])
    pivot = Pivot("Grid", {}, by="task", reference=reference, reference_label=reference)
    made = pivot.scores(ReportRequest("grid", str(wanted[0].asked["profile_name"])), rows, [ours])
    # No experiment reproduces it: the reader has just typed the command.
    return [replace(one, facts=tuple(fact for fact in one.facts if not fact.startswith(REPRODUCE))) for one in made]


def show(wanted: Sequence[Cell]) -> str:
    """The grid's table for a terminal, with the files that hold it; `wanted`: its runs, of which some have a record."""
    folder = wanted[0].folder.parent
    made = scores(wanted, own(folder))
    tables = tables_of(made)
    files: list[Path] = save_tables(tables, folder / "tables" / "grid")
    words = "".join(f"{paragraph(line)}\n" for line in of_tables(made))
    return f"{terminal(tables, str(files[0]))}\n{words}{files[0].with_suffix('')}.{{md,csv}}"
