"""What one profile has published: declared cells, their records and predictions, probed arrays, measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora_repro.analysis.probed_run import ProbedRun
from lora_repro.costs import measures
from lora_repro.planning.cells import Cell
from lora_repro.report.views.probed import probed_runs
from lora_repro.results import Run, Store, declared_cells, published, runs

Record = dict[str, Any]


@dataclass
class Evidence:
    """results/<profile>, read once. `wanted`: table -> the rows that claims read; only these are composed."""

    profile: str
    folder: Path
    wanted: Mapping[str, Sequence[str]]
    store: Store = field(init=False)
    _cells: dict[str, list[Cell]] = field(init=False, default_factory=dict)
    _probed: dict[str, list[ProbedRun]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.store = published(self.folder)

    def cells(self, table: str) -> list[Cell]:
        """The declared cells of a table. Raises UserError for a table or row that conf/ does not declare."""
        if table not in self._cells:
            rows = ",".join(sorted(self.wanted[table]))
            self._cells[table] = declared_cells(table, self.profile, [f"row/{table}={rows}"])
        return self._cells[table]

    def runs(self, declared: Sequence[Cell]) -> dict[int, Run]:
        """seed -> run, of any status, for the cells of one row at one place."""
        return {run.cell.seed: run for run in runs(declared, self.store)}

    def probed(self, table: str) -> list[ProbedRun]:
        """The LoRA runs of a table that left arrays."""
        if table not in self._probed:
            self._probed[table] = [run for run in probed_runs(runs(self.cells(table), self.store)) if run.rank]
        return self._probed[table]

    def measures(self, name: str) -> dict[str, Record]:
        """path below results/ -> measurement, one per kind of device."""
        return {f"{self.profile}/measures/{stem}.json": measured for stem, measured in measures.load(self.folder, name).items()}

    def source(self, key: str) -> str:
        """Where the record of a signature lies, below results/."""
        return f"{self.profile}/records/{key}.json"
