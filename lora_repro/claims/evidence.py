"""What one profile has published: declared cells, their records and predictions, probed arrays, measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora_repro import record
from lora_repro.analysis.updates import Probed, probed
from lora_repro.tables.rows import Block, Row, declared
from lora_repro.tables.stores import Store, published

Record = dict[str, Any]


@dataclass
class Evidence:
    """results/<profile>, read once. `wanted`: table -> rows that some claim reads; only these are composed."""

    profile: str
    folder: Path
    wanted: Mapping[str, Sequence[str]]
    store: Store = field(init=False)
    _blocks: dict[str, list[Block]] = field(init=False, default_factory=dict)
    _predictions: dict[str, list[Record] | None] = field(init=False, default_factory=dict)
    _probed: dict[str, list[Probed]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.store = published(self.folder)

    def blocks(self, table: str) -> list[Block]:
        """The declared places of a table. Raises UserError for a table or row that conf/ does not declare."""
        if table not in self._blocks:
            rows = ",".join(sorted(self.wanted[table]))
            self._blocks[table] = declared(table, self.profile, [f"row/{table}={rows}"])
        return self._blocks[table]

    def runs(self, row: Row) -> dict[int, Record]:
        """seed -> record, whatever its status."""
        return {seed: self.store.records[key] for seed, (key, _) in row.asked.items() if key in self.store.records}

    def predictions(self, key: str) -> list[Record] | None:
        """The per-input lines of a run, None where they are not published."""
        if key not in self._predictions:
            path = self.store.predictions(key)
            self._predictions[key] = record.load_predictions(path) if path.is_file() else None
        return self._predictions[key]

    def probed(self, table: str) -> list[Probed]:
        """The LoRA runs of a table that left arrays."""
        if table not in self._probed:
            self._probed[table] = [run for run in probed(self.blocks(table), self.store) if run.rank]
        return self._probed[table]

    def measures(self, name: str) -> dict[str, Record]:
        """path below results/ -> measurement, one a kind of device."""
        paths = sorted((self.folder / "measures").glob(f"{name}*.json"))
        return {f"{self.profile}/measures/{path.name}": record.read(path) for path in paths}

    def source(self, key: str) -> str:
        """Where the record of a signature lies, below results/."""
        return f"{self.profile}/records/{key}.json"


def generated(records: Sequence[Record]) -> bool:
    """Whether any of these runs saw data that are not the real ones."""
    captions = [str(found["where"]["data"]["caption"]) for found in records]
    return any(word in caption for caption in captions for word in ("synthetic", "generated"))
