"""One JSON record a run: what was asked, what was measured, where. Named by what was asked, written atomically, found again.

A run's name, its signature, covers every component of the resolved configuration (a root node with a `_target_`; no tracker):
the name of its class and the values that differ from the defaults of the class's constructor (null is absent unless the default
is something else); further the seed and the runs that it starts from. So an option that is added with a default renames no run,
nor does a class that moves. The record keeps the whole of what was asked, and one that disagrees with what is asked today is
refused: a default that was changed adopts no old run.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lora_repro import cli
from lora_repro.config.schema import class_name, defaults
from lora_repro.errors import Busy, UserError
from lora_repro.records.disk import SEAL, sealed, sha256, write_json, write_text

SCHEMA = 1
# Components that cannot change a result, and fields that cannot: names for the eye, what a file is held to, knobs that
# only trade memory for speed, what is looked at besides.
MIRRORS = ("tracker",)
EXCLUDED = (
    "backbone.label",
    "backbone.sizes",
    "backbone.packages",
    "train.micro_batch_size",
    "train.eval_batch_size",
    "train.checkpoint_every",
    "train.recompute",
    "data.n_train_scored",
    "decode.batch_size",
    "task.scale",
    "task.whole",
)
# What a run's record holds, and what in it everybody relies on.
KINDS: dict[str, type] = {"signature": str, "status": str, "asked": dict, "row": dict, "measured": dict, "where": dict}
PARTS = {
    "asked": ("backbone", "task", "method", "train", "decode", "data", "seed"),
    "row": ("table", "name", "label"),
    "measured": ("parameters", "wall_seconds"),
    "where": ("backbone", "data", "device", "precision"),
}
# Beside a record, where the run has them: what it trained, said, measured of its updates and logged.
FILES = ("adapter.safetensors", "predictions.jsonl", "updates.safetensors", "metrics.jsonl")
# A run that ended in one of these would end so again: it is not repeated. An attempt that failed leaves no record.
DONE = ("finished", "diverged", "collapsed")


def identity(resolved: dict[str, Any]) -> dict[str, Any]:
    """What a record keeps of a resolved configuration: components less `EXCLUDED`, the seed, what the run starts from."""
    kept = {key: resolved[key] for key in ("seed", "starts", "starts_from") if resolved.get(key) is not None}
    for group, node in resolved.items():
        if isinstance(node, dict) and "_target_" in node and group not in MIRRORS:
            kept[group] = {key: value for key, value in node.items() if f"{group}.{key}" not in EXCLUDED}
    return kept


def signature(resolved: dict[str, Any]) -> str:
    """16 hex digits: the run's name. Raises UserError if a component's class is not there."""
    return digest(named(resolved))


def named(resolved: dict[str, Any]) -> dict[str, Any]:
    """What a signature is the digest of; `seed` and `starts_from` stand in it as they are. Raises what `signature` does."""
    kept = identity(resolved)
    kept.pop("starts", None)  # `starts_from` says it better
    return {key: _named(value) for key, value in kept.items()}


def digest(value: Any) -> str:
    """16 hex digits of a JSON value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _named(node: Any) -> Any:
    """The one form that is hashed: of a component its class and what differs from its defaults, whole floats as integers."""
    if isinstance(node, dict):
        usual = {key: _named(value) for key, value in defaults(node["_target_"]).items()} if "_target_" in node else {}
        values = {key: _named(value) for key, value in node.items() if key != "_target_"}
        kept = {key: value for key, value in values.items() if not _same(value, usual.get(key))}
        return {"_target_": class_name(node["_target_"]), **kept} if "_target_" in node else kept
    if isinstance(node, list | tuple):
        return [_named(item) for item in node]
    return int(node) if isinstance(node, float) and node.is_integer() else node


def _same(value: Any, other: Any) -> bool:
    """Equal as they are written: 1 is not true."""
    if type(value) is type(other) and isinstance(value, str | int | None):
        return bool(value == other)
    return json.dumps(value, sort_keys=True) == json.dumps(other, sort_keys=True)


def agree(record: dict[str, Any], resolved: dict[str, Any]) -> None:
    """Raise UserError if a record was asked otherwise, on any key that both have, than the run of the same name is today."""
    if differing := _differing(record["asked"], identity(resolved), ""):
        key, was, now = differing[0]
        raise UserError(
            f"record {record['signature']} was made with {key}={was!r}, but that run now has {key}={now!r} "
            "(has a default changed?); delete the record to run again"
        )


def _differing(recorded: Any, today: Any, key: str) -> list[tuple[str, Any, Any]]:
    if isinstance(recorded, dict) and isinstance(today, dict):
        shared = [name for name in recorded if name in today]
        return [pair for name in shared for pair in _differing(recorded[name], today[name], f"{key}.{name}" if key else name)]
    if key.endswith("._target_"):
        recorded, today = class_name(recorded), class_name(today)
    return [] if _same(_named(recorded), _named(today)) else [(key, recorded, today)]


def finite(value: float) -> float | None:
    """A number fit for JSON: None in place of NaN and infinity."""
    return value if math.isfinite(value) else None


def save(folder: Path, record: dict[str, Any], predictions: list[dict[str, Any]]) -> dict[str, Any]:
    """Predictions first, the record last: a record is the proof that everything beside it is complete. Returns it as written.

    It holds the hashes of what lies beside it (`files`) and, last, its own.
    """
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in predictions]
    sealed(record)  # which refuses NaN, before anything of an older record's is replaced
    write_text(folder / "predictions.jsonl", "".join(line + "\n" for line in lines))
    files = {name: sha256(folder / name) for name in FILES if (folder / name).is_file()}
    record = sealed({**record, "files": files})
    write_json(folder / "record.json", record)
    return record


def defect(folder: Path, record: dict[str, Any], names: Iterable[str]) -> str | None:
    """The first file of a run, of these, that is not what its record says; None if all are, or an older record says nothing."""
    for name, digest in record.get("files", {}).items():
        if name in names and (not (folder / name).is_file() or sha256(folder / name) != digest):
            return str(name)
    return None


def parse(text: str) -> Any:
    """JSON of a record, which may be a stranger's.

    Raises ValueError on what is no JSON, a key that stands twice in one object, and `${`: a record holds resolved values, and
    what refers to others could refer to this machine's environment.
    """
    try:
        return json.loads(text, object_pairs_hook=_plain_object)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _plain_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands in it twice")
    for key, value in pairs:
        if referring := next((item for item in _texts(value) if "${" in item), None):
            raise ValueError(f"{key} refers to something else ({referring[:40]!r})")
    return found


def _texts(value: Any) -> Iterator[str]:
    """The text in a value, or in lists of lists of it; objects have been looked at."""
    if isinstance(value, str):
        yield value
    for item in value if isinstance(value, list) else ():
        yield from _texts(item)


def read(path: Path) -> dict[str, Any]:
    """One record. Raises UserError if it cannot be read."""
    try:
        return checked(parse(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(f"record {path} cannot be read ({error}); delete it to run again") from error


def checked(value: Any) -> dict[str, Any]:
    """The record itself. Raises ValueError unless it is one of this schema and what stands in it is of its kind."""
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise ValueError(f"schema {value.get('schema') if isinstance(value, dict) else None}, not {SCHEMA}")
    for key, kind in KINDS.items():
        if key in value and not isinstance(value[key], kind):
            raise ValueError(f"{key} is {value[key]!r:.40}")
    if SEAL in value and sealed(value)[SEAL] != value[SEAL]:
        raise ValueError("it does not match its own hash")
    return value


def whole(found: dict[str, Any], path: Path) -> dict[str, Any]:
    """The record of a finished run. Raises UserError if a part of it is missing."""
    lacking = [key for key in KINDS if key not in found]
    lacking += [f"{part}.{key}" for part, keys in PARTS.items() for key in keys if key not in found.get(part, {})]
    if lacking:
        raise UserError(f"record {path} has no {lacking[0]}; delete it to run again")
    return found


def find(folder: Path, resolved: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """The record in a run's folder if that run is done. `resolved`: what is asked; raises UserError as `agree` does.

    With it the files beside the record must be what it says; a run with a damaged one is not done, which is said.
    Raises UserError for a record that lacks what it is asked for.
    """
    path = folder / "record.json"
    if not path.exists():
        return None
    record = read(path)
    for key in ("status",) if resolved is None else ("status", "asked"):
        if key not in record:
            raise UserError(f"record {path} has no {key}; delete it to run again")
    if resolved is not None:
        agree(record, resolved)
        if record["status"] in DONE and (name := defect(folder, record, FILES[:3])):
            cli.warn(f"{folder / name} has changed since the run wrote it: running it again")
            return None
    return record if record["status"] in DONE else None


def load_records(folder: Path) -> dict[str, dict[str, Any]]:
    """signature -> record of every run in `runs/<profile>` or of every published one in `results/<profile>/records`.

    Raises UserError for one that cannot be read, or has another name than its folder or file.
    """
    found = {}
    for path in sorted([*folder.glob("*/record.json"), *folder.glob("*.json")]):
        record, name = read(path), path.parent.name if path.name == "record.json" else path.stem
        if record.get("signature") != name:
            raise UserError(f"record {path} belongs to run {record.get('signature')}: copy the right record from its source")
        found[name] = record
    return found


def load_predictions(path: Path) -> list[dict[str, Any]]:
    """The per-input lines of one run, in test order. Raises UserError if they cannot be read.

    A line ends at \\n and nowhere else: an output may hold any other character that Unicode calls a line's end.
    """
    try:
        lines = path.read_bytes().decode().split("\n")
        if lines.pop():
            raise ValueError("its last line is cut short")
        rows = list(map(json.loads, lines))
        if any("key" not in row for row in rows):
            raise ValueError("a line has no key")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"predictions {path} cannot be read ({error}): copy them again from their source") from error
    return rows


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a run's folder for this process, on this host and on all that share it. A killed holder's lock is gone with it.

    The file says who holds it: process id and host. Raises Busy if another process has it, UserError where none can be had.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A moment's patience: a table of a sweep looks whether somebody holds it.
        held = FileLock(folder / "lock", timeout=0.2, poll_interval=0.05, fallback_to_soft=False).acquire()
    except Timeout:
        who = holder(folder) or "unknown"
        raise Busy(f"another process ({who}) is already running {folder.name}: wait for it to end") from None
    except OSError as error:
        lockless = error.errno in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
        what = f"no file can be locked in {folder}" if lockless else f"cannot write in {folder}"
        raise UserError(f"{what}: {error.strerror or error}; choose another folder with paths.runs=/path") from error
    with held:
        (folder / "lock").write_text(f"{os.getpid()} on {platform.node()}", encoding="utf-8")
        yield


def vacate(folder: Path) -> None:
    """Remove a run's folder, and empty ones above it, if nothing but our lock is in it: a refused command leaves nothing."""
    with suppress(OSError):
        if [path.name for path in folder.iterdir()] == ["lock"]:
            (folder / "lock").unlink()
            for place in (folder, folder.parent, folder.parents[1] / ".hydra", folder.parents[1]):
                with suppress(OSError):
                    place.rmdir()


def holder(folder: Path) -> str:
    """`<pid> on <host>`: the process that holds a run's folder, or held it last; empty if none did."""
    try:
        return (folder / "lock").read_text(encoding="utf-8")
    except OSError:
        return ""
