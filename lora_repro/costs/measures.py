"""Records of measurements that are not training runs: their files, their signatures, and whether they can be reused.

runs/<profile>/measures/<name>.json: this checkout's measurement with the declared settings, one file per kind of device
(`latency`, `latency_cuda`). measures/adhoc/: measurements with other settings, which are never published.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lora_repro.config.signature import digest
from lora_repro.planning.cells import Cell
from lora_repro.records.record import read
from lora_repro.results import backbone_name, declared_cells, grouped

PLAIN, FULL = "plain", "full"  # the rows of the model without a method, and of full fine-tuning
BUSY = 0.5  # a load average before a measurement above this is noted: the machine was busy
# Overrides of where it runs and where it is written: the settings stay the declared ones. The thread count is recorded.
PLACE = ("profile", "paths.runs", "paths.data", "device", "bench.threads")


def declared(name: str, profile: str, overrides: Sequence[str] = ()) -> list[Cell]:
    """The cells to measure: one per row and backbone, by backbone. Raises UserError for anything that conf/ does not declare."""
    cells = declared_cells(name, profile, overrides)
    return [cell for block in grouped(cells, backbone_name) for cell in block]


def signature_of(cells: Sequence[Cell]) -> str:
    """16 hex digits over all `cells`; they change with any setting, backbone or row."""
    return digest([cell.signature for cell in cells])


def path_of(folder: Path, name: str, cells: Sequence[Cell], overrides: Sequence[str], device: str) -> Path:
    """The file of a measurement in `folder`, which is runs/<profile>."""
    stem = name if device == "cpu" else f"{name}_{device}"
    if all(item.split("=", 1)[0] in PLACE for item in overrides):
        return folder / "measures" / f"{stem}.json"
    return folder / "measures" / "adhoc" / f"{stem}-{signature_of(cells)}.json"


def find(path: Path, signature: str, device: str) -> dict[str, Any] | None:
    """The finished measurement with this `signature` on the same device, from committed code; None if there is none."""
    if not path.is_file():
        return None
    measurement = read(path)
    same = measurement["signature"] == signature and measurement["where"]["device"] == device
    return measurement if same and measurement["where"]["dirty"] is False else None


def load(folder: Path, name: str) -> dict[str, dict[str, Any]]:
    """stem -> measurement, for every kind of device in `folder`/measures."""
    paths = sorted((folder / "measures").glob(f"{name}.json")) + sorted((folder / "measures").glob(f"{name}_*.json"))
    return {path.stem: read(path) for path in paths}
