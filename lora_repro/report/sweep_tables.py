"""What a sweep prints: a table that grows row by row while an experiment's runs end, and one at the end of one's own grid."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lora_repro.config.compose import profile_of
from lora_repro.config.paths import ROOT
from lora_repro.errors import UserError
from lora_repro.planning.cells import SHOWN, Cell, own_title
from lora_repro.records.run_folder import RECORD
from lora_repro.report.exhibit import ReportRequest
from lora_repro.report.pivot import Pivot
from lora_repro.report.sheet import Scores, first_in_words, tables_of
from lora_repro.report.show import declaration
from lora_repro.report.table import save_tables
from lora_repro.report.terminal import WIDTH, first_panel, paragraph, terminal
from lora_repro.results import Store, own, published, runs_folder


class Growing:
    """A row's scores beside the published and the paper's as soon as its last run ended.

    The rows of `wanted`, each printed once. pivot: what the experiment declares. ask: the sweep's request for a table.
    """

    def __init__(self, pivot: Pivot, ask: ReportRequest, cells: Sequence[Cell], root: Path = ROOT) -> None:
        self.ask, self.wanted, self.root = ask, cells, root
        # Differences from the reference come last, with the whole table: they need both rows, and seconds.
        self.pivot = replace(pivot, reference="", each={})
        self.printed: set[str] = set()
        self.theirs: Store | None = None
        self.widths: list[int] = []

    @classmethod
    def of(cls, table: str, arguments: Sequence[str], cells: Sequence[Cell]) -> Growing | None:
        """For `lora-repro run <arguments>`, whose runs are `cells`; None if the experiment shows no scores by row."""
        pivot = declaration(table)
        if not isinstance(pivot, Pivot):
            return None
        profile, extra = profile_of([item for item in arguments if not item.startswith(("-", "experiment=", "hydra"))])
        overrides = [item for item in extra if not item.startswith(f"row/{table}=")]
        rows = ",".join(dict.fromkeys(cell.row.name for cell in cells))
        return cls(pivot, ReportRequest(table, profile, (*overrides, f"row/{table}={rows}")), cells)

    def ended(self, cell: Cell) -> list[str]:
        """The lines of the row of `cell`, the first time below the table's header; none while a run of the row has no record.

        Raises UserError as the table does.
        """
        name = cell.row.name
        if name in self.printed or not all((cell.folder / RECORD).is_file() for cell in self.wanted if cell.row.name == name):
            return []
        self.printed.add(name)
        if self.theirs is None:
            self.theirs = published(self.root / "results" / self.ask.profile)
        scores = self._scores([own(runs_folder(self.ask.cells, self.root, self.ask.profile)), self.theirs])
        first = not self.widths
        if first:  # as wide as all published rows need, so that the columns of all rows are aligned
            *_, self.widths = first_panel(scores.table(), self._width())
        row = replace(scores, results=tuple(result for result in scores.results if result.row == name))
        header, lines, _ = first_panel(row.table(), self._width(), self.widths)
        return [*(header if first else []), *lines]

    def _scores(self, stores: Sequence[Store]) -> Scores:
        """The whole table by the experiment's first metric, so that a row has every column, also one that it does not fill.

        Raises UserError if there are several tables.
        """
        tables = [
            part for part in self.pivot.scores(self.ask, self.ask.cells, stores) if part.score == self.pivot.metrics[0].label
        ]
        if len(tables) != 1:
            raise UserError(f"{self.ask.name} has a table for each backbone or task")
        return tables[0]

    def _width(self) -> int:
        return shutil.get_terminal_size((WIDTH, 24)).columns


FULL = "full"


def as_rows(cells: Sequence[Cell]) -> list[Cell]:
    """The grid's runs as the cells of a table: a row is what differs besides task, backbone and seed."""
    titles = {cell.signature: title(cell) for cell in cells}
    places = {name: 10 * index for index, name in enumerate(dict.fromkeys(titles.values()))}
    rows = []
    for cell in cells:
        name = titles[cell.signature]
        axes: dict[str, Any] = {key: value for key, value in cell.axes.items() if key in ("task", "backbone")}
        rows.append(replace(cell, row=replace(cell.row, name=name, label=name, order=places[name]), axes=axes))
    return rows


def title(cell: Cell) -> str:
    """`lora method.rank=8`: the method and its values on the grid's other axes."""
    settings = [f"{key}={value}" for key, value in cell.axes.items() if key not in (*SHOWN, "backbone") and value is not None]
    return own_title(str(cell.asked["method"]["name"]), settings)


def grid_scores(cells: Sequence[Cell], ours: Store) -> list[Scores]:
    """What to show of a grid: differences are from full fine-tuning, or from the first row if the grid lacks it.

    Raises UserError if the runs cannot share a table.
    """
    rows = as_rows(cells)
    names = list(dict.fromkeys(cell.row.name for cell in rows))
    reference = next((name for name in names if name.partition(" ")[0] == FULL), names[0])
    pivot = Pivot("Grid", {}, by="task", reference=reference, reference_label=reference)
    scores = pivot.scores(ReportRequest("grid", str(cells[0].asked["profile_name"])), rows, [ours])
    # No experiment reproduces it: the reader has just typed the command.
    return [replace(part, caption=replace(part.caption, command="")) for part in scores]


def show_grid(cells: Sequence[Cell]) -> str:
    """The grid's table for a terminal, with the files that hold it; `cells`: its runs, of which some have a record."""
    folder = cells[0].folder.parent
    scores = grid_scores(cells, own(folder))
    tables = tables_of(scores)
    files: list[Path] = save_tables(tables, folder / "tables" / "grid")
    words = "".join(f"{paragraph(line)}\n" for line in first_in_words(scores))
    return f"{terminal(tables, str(files[0]))}\n{words}{files[0].with_suffix('')}.{{md,csv}}"
