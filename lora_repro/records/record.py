"""One JSON record per run: what was asked, what was measured, where. Its name is a hash of what was asked, so it is found again.

A run's name, its signature, covers
- every component of the resolved configuration (a root node with a `_target_`) except the tracker: the name of its class and the
  values that differ from its constructor's defaults (null counts as absent unless the default is something else);
- the seed, and the runs that it starts from.

So neither a new option with a default nor a class that moves renames a run. The record keeps the whole of what was asked, and is
refused if it disagrees with what is asked today: after a default has changed, no old run is adopted.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lora_repro import console
from lora_repro.config.schema import class_name, defaults
from lora_repro.errors import Busy, UserError
from lora_repro.records.disk import SEAL, regular, sealed, sha256, write_json, write_text
from lora_repro.records.run_folder import ADAPTER, LOCK, METRICS, PREDICTIONS, RECORD, UPDATES

SCHEMA = 1
# Components and fields that cannot change a result: display names, checks and places of files, settings that only trade memory
# for speed, additional measurements.
MIRRORS = ("tracker",)
EXCLUDED = (
    "backbone.label",
    "backbone.sizes",
    "backbone.packages",
    "backbone.files",
    "train.micro_batch_size",
    "train.eval_batch_size",
    "train.checkpoint_every",
    "train.recompute",
    "data.n_train_scored",
    "decode.batch_size",
    "task.scale",
    "task.train",  # files of the user's: `task.sha256` holds what stands in them
    "task.dev",
    "task.test",
    "task.whole",
)
# The top-level entries of a record with their types, and the keys inside them on which readers rely.
KINDS: dict[str, type] = {"signature": str, "status": str, "asked": dict, "row": dict, "measured": dict, "where": dict}
PARTS = {
    "asked": ("backbone", "task", "method", "train", "decode", "data", "seed"),
    "row": ("table", "name", "label"),
    "measured": ("parameters", "wall_seconds"),
    "where": ("backbone", "data", "device", "precision"),
}
# Files beside a record, if the run has them: trained weights, outputs, measurements of its updates, step metrics.
FILES = (ADAPTER, PREDICTIONS, UPDATES, METRICS)
# A run with one of these statuses is not repeated: it would end the same way. A failed attempt leaves no record.
DONE = ("finished", "diverged", "collapsed")


def identity(resolved: dict[str, Any]) -> dict[str, Any]:
    """What a record keeps of a resolved configuration: components without `EXCLUDED`, the seed, what the run starts from."""
    kept = {key: resolved[key] for key in ("seed", "starts", "starts_from") if resolved.get(key) is not None}
    for group, node in resolved.items():
        if isinstance(node, dict) and "_target_" in node and group not in MIRRORS:
            kept[group] = {key: value for key, value in node.items() if f"{group}.{key}" not in EXCLUDED}
    return kept


def signature(resolved: dict[str, Any]) -> str:
    """The run's name: 16 hex digits. Raises UserError if a component's class does not exist."""
    return digest(named(resolved))


def named(resolved: dict[str, Any]) -> dict[str, Any]:
    """The value of which the signature is a digest; it holds `seed` and `starts_from` unchanged. Raises what `signature` does."""
    kept = identity(resolved)
    kept.pop("starts", None)  # `starts_from` has their signatures
    return {key: _named(value) for key, value in kept.items()}


def digest(value: Any) -> str:
    """16 hex digits of a JSON value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _named(node: Any) -> Any:
    """The canonical form that is hashed: a component as its class and what differs from its defaults, whole floats as ints."""
    if isinstance(node, dict):
        usual = {key: _named(value) for key, value in defaults(node["_target_"]).items()} if "_target_" in node else {}
        values = {key: _named(value) for key, value in node.items() if key != "_target_"}
        kept = {key: value for key, value in values.items() if not _same(value, usual.get(key))}
        return {"_target_": class_name(node["_target_"]), **kept} if "_target_" in node else kept
    if isinstance(node, list | tuple):
        return [_named(item) for item in node]
    return int(node) if isinstance(node, float) and node.is_integer() else node


def _same(value: Any, other: Any) -> bool:
    """Whether two values are written the same in JSON: 1 is not true."""
    if type(value) is type(other) and isinstance(value, str | int | None):
        return bool(value == other)
    return json.dumps(value, sort_keys=True) == json.dumps(other, sort_keys=True)


def check_same_config(record: dict[str, Any], resolved: dict[str, Any]) -> None:
    """Raise UserError if a record's configuration differs from today's of the same name, on any key that both have."""
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


def main_metric(asked: Mapping[str, Any]) -> str:
    """The metric that a run is compared by: the first that its task's yaml names, else BLEU."""
    return str((asked["task"].get("metrics") or ["bleu"])[0])


def finite(value: float) -> float | None:
    """A number fit for JSON: None in place of NaN and infinity."""
    return value if math.isfinite(value) else None


def save(folder: Path, record: dict[str, Any], predictions: list[dict[str, Any]]) -> dict[str, Any]:
    """Write predictions first and the record last: a record proves that the files beside it are complete. Returns the record.

    It holds the hashes of the files beside it (`files`) and, last, its own.
    """
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in predictions]
    sealed(record)  # raises on NaN before any file of an older record is replaced
    write_text(folder / PREDICTIONS, "".join(line + "\n" for line in lines))
    files = {name: sha256(folder / name) for name in FILES if (folder / name).is_file()}
    record = sealed({**record, "files": files})
    write_json(folder / RECORD, record)
    return record


def of_run(folder: Path, names: Iterable[str] = ()) -> dict[str, Any]:
    """The record in a run's folder, with those of the files `names` that the run has checked against it.

    Raises UserError as `read_run` does, and for a file that is not the one that the run wrote.
    """
    found = read_run(folder / RECORD)
    if name := defect(folder, found, names):
        raise UserError(f"{folder / name} is not what run {folder.name} wrote: run it again, or copy the right file")
    return found


def defect(folder: Path, record: dict[str, Any], names: Iterable[str]) -> str | None:
    """The first of the files `names` of a run that is not the one in its record, by its hash; None if there is none.

    A file that the record does not list must not be there.
    """
    for name in names:
        path, digest = folder / name, record["files"].get(name)
        if (digest or path.exists()) and (not path.is_file() or sha256(path) != digest):
            return str(name)
    return None


def parse(text: str) -> Any:
    """The JSON of a record of possibly unknown origin.

    Raises ValueError for invalid JSON, a key twice in one object, and `${`: a record holds resolved values, and an interpolation
    could read this machine's environment.
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
    """The texts in a value or in nested lists; objects inside have been checked already."""
    if isinstance(value, str):
        yield value
    for item in value if isinstance(value, list) else ():
        yield from _texts(item)


def read(path: Path) -> dict[str, Any]:
    """A JSON file of this project, such as the trials of a search. Raises UserError if it cannot be read.

    For the record of a run use `read_run`, which wants its hashes, too.
    """
    return _read(path, checked)


def read_run(path: Path) -> dict[str, Any]:
    """The record of a run. Raises UserError if it cannot be read, was altered, or lacks the hashes that would tell."""
    return _read(path, checked_run)


def _read(path: Path, check: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    try:
        return check(parse(regular(path).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(f"record {path} cannot be read ({error}); delete it to run again") from error


def checked_run(value: Any) -> dict[str, Any]:
    """The record of a run itself. Raises ValueError as `checked` does, and without its own hash or those of its files."""
    found = checked(value)
    if SEAL not in found:
        raise ValueError("it has no hash of its own, so it may have been altered")
    if not isinstance(files := found.get("files"), dict) or PREDICTIONS not in files:
        raise ValueError("it has no hashes of the files beside it, so they may have been altered")
    return found


def checked(value: Any) -> dict[str, Any]:
    """The value itself. Raises ValueError unless it has this schema, entries of the right types, and its own hash, if any."""
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
    """The record in a run's folder if that run is done, else None. Raises UserError for a record that lacks a needed entry.

    With `resolved` (what is asked) it raises UserError as `check_same_config` does, and checks the files beside the record: a
    run with a damaged file gets a warning and counts as not done.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    record = read_run(path)
    for key in ("status",) if resolved is None else ("status", "asked"):
        if key not in record:
            raise UserError(f"record {path} has no {key}; delete it to run again")
    if resolved is not None:
        check_same_config(record, resolved)
        if record["status"] in DONE and (name := defect(folder, record, FILES[:3])):
            console.warn(f"{folder / name} has changed since the run wrote it: running it again")
            return None
    return record if record["status"] in DONE else None


def load_records(folder: Path, reader: Callable[[Path], dict[str, Any]] = read_run) -> dict[str, dict[str, Any]]:
    """signature -> record of every run in `runs/<profile>` or of every published one in `results/<profile>/records`.

    reader: `read_run`, or `read` for a caller that says of each record why its hashes do not hold. Raises UserError for a record
    that cannot be read or, by `read_run`, lacks its hashes, or whose signature is not its folder's or file's name.
    """
    found = {}
    for path in sorted([*folder.glob("*/record.json"), *folder.glob("*.json")]):
        record, name = reader(path), path.parent.name if path.name == RECORD else path.stem
        if record.get("signature") != name:
            raise UserError(f"record {path} belongs to run {record.get('signature')}: copy the right record from its source")
        found[name] = record
    return found


def load_predictions(path: Path) -> list[dict[str, Any]]:
    """The per-input lines of one run, in test order. Raises UserError if they cannot be read.

    A line ends at \\n only: an output may contain any other character that Unicode counts as a line break.
    """
    try:
        lines = regular(path).read_bytes().decode().split("\n")
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
    """Lock a run's folder for this process, on this host and all that share the folder. A killed process loses its lock.

    The lock file names the holder: process id and host. Raises Busy if another process holds it, UserError if none can be made
    or if the folder holds a link, a pipe or a device: what a run writes stays in its folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Wait a moment: a sweep's table takes the lock briefly to see whether the run is being worked on.
        held = FileLock(folder / LOCK, timeout=0.2, poll_interval=0.05, fallback_to_soft=False).acquire()
    except Timeout:
        who = holder(folder) or "unknown"
        raise Busy(f"another process ({who}) is already running {folder.name}: wait for it to end") from None
    except OSError as error:
        lockless = error.errno in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
        what = f"no file can be locked in {folder}" if lockless else f"cannot write in {folder}"
        raise UserError(f"{what}: {error.strerror or error}; choose another folder with paths.runs=/path") from error
    with held:
        for path in folder.iterdir():
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise UserError(f"{path} is neither a file nor a folder: delete it, then run again")
        (folder / LOCK).write_text(f"{os.getpid()} on {platform.node()}", encoding="utf-8")
        yield


def vacate(folder: Path) -> None:
    """Remove a run's folder, and empty ones above it, if it holds nothing but our lock: a refused command leaves no files."""
    with suppress(OSError):
        if [path.name for path in folder.iterdir()] == [LOCK]:
            (folder / LOCK).unlink()
            for place in (folder, folder.parent, folder.parents[1] / ".hydra", folder.parents[1]):
                with suppress(OSError):
                    place.rmdir()


def holder(folder: Path) -> str:
    """`<pid> on <host>`: the process that holds a run's folder or held it last; empty if there was none."""
    try:
        return (folder / LOCK).read_text(encoding="utf-8")
    except OSError:
        return ""
