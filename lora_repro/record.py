"""One JSON record a run: what was asked, what was measured, where. Content-addressed, written atomically, found again.

The signature is a hash of the whole resolved configuration less a short list of what cannot change a result: names for
the eye, paths, trackers, the device, and knobs that only trade memory for speed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lora_repro.errors import Busy, UserError

SCHEMA = 1
EXCLUDED = (
    "row",
    "printed",  # tables of values; what a run uses of them stands in its own groups
    "budget",
    "tune",
    "tracker",
    "paths",
    "device",
    "launch",
    "profile_name",
    "recipe_name",
    "hydra",
    "backbone.label",
    "backbone.sizes",
    "backbone.packages",
    "train.micro_batch_size",
    "train.eval_batch_size",
    "train.checkpoint_every",
    "decode.batch_size",
)
# A run that ended in one of these would end so again: it is not repeated. An attempt that failed leaves no record.
DONE = ("finished", "diverged", "collapsed")


def identity(resolved: dict[str, Any]) -> dict[str, Any]:
    """The part of a resolved configuration that the signature covers."""
    kept = {key: dict(value) if isinstance(value, dict) else value for key, value in resolved.items()}
    for path in EXCLUDED:
        group, _, key = path.partition(".")
        if not key:
            kept.pop(group, None)
        elif isinstance(kept.get(group), dict):
            kept[group].pop(key, None)
    return kept


def signature(resolved: dict[str, Any]) -> str:
    """16 hex digits: the run's identity."""
    text = json.dumps(identity(resolved), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: a reader or a kill sees the old content or the new, never half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        if temporary.exists():
            temporary.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically. Raises ValueError on NaN or infinity: they are not results."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def finite(value: float) -> float | None:
    """A number fit for JSON: None in place of NaN and infinity."""
    return value if math.isfinite(value) else None


def save(folder: Path, record: dict[str, Any], predictions: list[dict[str, Any]]) -> None:
    """Predictions first, the record last: a record is the proof that everything beside it is complete."""
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in predictions]
    write_text(folder / "predictions.jsonl", "".join(line + "\n" for line in lines))
    write_json(folder / "record.json", record)


def read(path: Path) -> dict[str, Any]:
    """One record. Raises UserError if it cannot be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["schema"] != SCHEMA:
            raise ValueError(f"schema {value['schema']}")
        return value  # type: ignore[no-any-return]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"record {path} cannot be read ({error}); delete it to run again") from error


def find(folder: Path) -> dict[str, Any] | None:
    """The record in a run's folder if that run is done."""
    path = folder / "record.json"
    if not path.exists():
        return None
    record = read(path)
    return record if record["status"] in DONE else None


def load_records(folder: Path) -> dict[str, dict[str, Any]]:
    """signature -> record of every run in `runs/<profile>` or of every published one in `results/<profile>/records`."""
    paths = [*folder.glob("*/record.json"), *folder.glob("*.json")]
    return {record["signature"]: record for record in map(read, sorted(paths))}


def load_predictions(path: Path) -> list[dict[str, Any]]:
    """The per-input lines of one run, in test order."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a run's folder for this process. Raises Busy if another one has it; a killed holder's lock is gone with it.

    The file says who holds it: process id and host.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("a")
    except OSError as error:
        raise UserError(
            f"cannot write in {folder}: {error.strerror}; choose another place with paths.runs=/path"
        ) from error
    with file:
        for last in (False, True):  # twice: a table of a sweep looks whether somebody holds it, which takes a moment
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if last:
                    who = holder(folder) or "unknown"
                    raise Busy(f"another process ({who}) is already at this run ({folder.name}); it goes on") from None
                time.sleep(0.1)
        file.truncate(0)
        file.write(f"{os.getpid()} on {platform.node()}")
        file.flush()
        yield


def holder(folder: Path) -> str:
    """`<pid> on <host>`: the process that holds a run's folder, or held it last; empty if none did."""
    try:
        return (folder / "lock").read_text(encoding="utf-8")
    except OSError:
        return ""
