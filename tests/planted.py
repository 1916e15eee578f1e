"""Runs as `run` leaves them, and planted results as `publish` would have left them: records with hashes, and a manifest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lora_repro.files import SEAL, sealed, sha256, write_json
from lora_repro.records import manifest
from lora_repro.results import Store, published

BESIDE = {"predictions.jsonl": ("predictions", "jsonl"), "updates.safetensors": ("updates", "safetensors")}
LINE = {"key": "0123456789ab", "output": "a pub", "matches": [1, 0, 0, 0]}
HIDDEN = (manifest.NAME, ".manifest.lock")


def run(folder: Path, signature: str = "s", lines: list[dict[str, Any]] | None = None, **change: Any) -> Path:
    record = {
        "schema": 1,
        "signature": signature,
        "status": change.get("status", "finished"),
        "asked": change.get("asked", {}),
        "row": {"table": "e2e", "name": "lora", "label": "LoRA"},
        "measured": {"scores": change.get("scores", {"bleu": 0.5, "meteor": None})},
        "where": {"dirty": change.get("dirty", False), "data": change.get("data", {})},
    }
    place = folder / "runs" / "mini" / signature
    place.mkdir(parents=True, exist_ok=True)
    if lines != []:
        text = "".join(json.dumps(line) + "\n" for line in lines or [LINE])
        (place / "predictions.jsonl").write_text(text)
    seal(place, record)
    return place


def seal(place: Path, record: dict[str, Any] | None = None) -> None:
    """Write a run's record with the hashes of what lies beside it."""
    path = place / "record.json"
    fields = json.loads(path.read_text()) if record is None else record
    names = ("predictions.jsonl", "updates.safetensors", "metrics.jsonl")
    files = {name: sha256(place / name) for name in names if (place / name).is_file()}
    try:
        path.write_text(json.dumps(sealed({**fields, "files": files})))
    except ValueError:  # a NaN
        path.write_text(json.dumps({**fields, "files": files}))


def left(results: Path) -> list[str]:
    """What lies in a results folder, without its manifest and the lock."""
    paths = [path for path in results.rglob("*") if path.is_file() and path.name not in HIDDEN]
    return sorted(path.relative_to(results).as_posix() for path in paths)


def note(results: Path, below: str = "") -> None:
    """Seal every record below results/`below` that has no hashes, and write the manifest of what lies there."""
    for path in (results / below).rglob("records/*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        if SEAL not in record or "files" not in record:
            places = {name: path.parents[1] / kind / f"{path.stem}.{end}" for name, (kind, end) in BESIDE.items()}
            files = {name: sha256(place) for name, place in places.items() if place.is_file()}
            write_json(path, sealed({**record, "files": files}))
    paths = sorted(path for path in (results / below).rglob("*") if path.is_file() and path.name not in HIDDEN)
    lines = sorted(f"{path.relative_to(results).as_posix()}\n{sha256(path)}" for path in paths)
    text = "".join("  ".join(reversed(line.split("\n"))) + "\n" for line in lines)
    (results / manifest.NAME).write_text(text, encoding="utf-8")


def noted(folder: Path) -> Store:
    """`published(folder)` of a planted results/<profile>, after `note`."""
    note(folder.parent, folder.name)
    return published(folder)


def edited(old: str, new: str, name: str = "") -> Callable[[Path], None]:
    """A change of a file, or of the file `name` of a folder: the first `old` becomes `new`."""

    def change(place: Path) -> None:
        path = place / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8", newline="")

    return change


def flipped(path: Path) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def without(key: str, name: str = "") -> Callable[[Path], None]:
    """A change of a record that loses `key` and has the hash of what is left, unless that hash is what it loses."""

    def change(place: Path) -> None:
        path = place / name
        fields = {name: value for name, value in json.loads(path.read_text(encoding="utf-8")).items() if name != key}
        write_json(path, fields if key == SEAL else sealed(fields))

    return change
