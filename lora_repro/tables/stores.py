"""The two places where records lie, never confused: what this checkout ran, and what is published."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora_repro.errors import UserError
from lora_repro.record import load_records
from lora_repro.tables.rows import Block


@dataclass(frozen=True)
class Store:
    """Records by signature, and where the predictions of a signature lie."""

    source: str
    records: dict[str, dict[str, Any]]
    predictions: Callable[[str], Path] = field(repr=False)
    updates: Callable[[str], Path] = field(repr=False, default=lambda key: Path(key))  # a probe's arrays


def own(folder: Path) -> Store:
    """What this checkout ran: runs/<profile>/<signature>/{record.json, predictions.jsonl}."""
    return Store(
        "this checkout",
        load_records(folder),
        lambda key: folder / key / "predictions.jsonl",
        lambda key: folder / key / "updates.safetensors",
    )


def published(folder: Path) -> Store:
    """What is published: results/<profile>/records/<signature>.json, predictions/<signature>.jsonl, updates/*.safetensors."""
    return Store(
        "published",
        load_records(folder / "records"),
        lambda key: folder / "predictions" / f"{key}.jsonl",
        lambda key: folder / "updates" / f"{key}.safetensors",
    )


def records_of(blocks: Sequence[Block], store: Store) -> list[dict[str, Any]]:
    """The records of the declared cells, whatever their status, in the order of rows and seeds."""
    keys = [key for block in blocks for row in block.rows for key, _ in row.asked.values()]
    return [store.records[key] for key in keys if key in store.records]


def one_origin(records: Sequence[dict[str, Any]], same_backbone: bool = True) -> None:
    """Raise UserError unless all records saw the same data files in one text form (through the same weights)."""
    checks = {
        "data": {_data(record) for record in records},
        "text form": {str(record["asked"]["task"].get("text_form")) for record in records},
    }
    if same_backbone:
        # A row without a model (human texts) has no weights to differ in.
        checks["backbone"] = {
            _backbone(record) for record in records if record["where"]["backbone"].get("sha256")
        }
    for what, values in checks.items():
        if len(values) > 1:
            found = " | ".join(sorted(values))
            raise UserError(f"different {what} in one table: {found}; rerun the older")


def _data(record: dict[str, Any]) -> str:
    data = record["where"]["data"]
    digests = ", ".join(
        f"{name} {digest[:12]}" for name, digest in sorted((data.get("hashes") or {}).items())
    )
    return f"{data['caption']} ({digests})"


def _backbone(record: dict[str, Any]) -> str:
    backbone = record["where"]["backbone"]
    return f"{backbone['label']} ({str(backbone.get('sha256', ''))[:12]})"
