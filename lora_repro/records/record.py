"""One JSON record per run: what was asked, what was measured, where. Its name is the run's signature (`config/signature.py`).

The record keeps the whole of what was asked, and is refused if it disagrees with what is asked today: after a default has
changed, no old run is adopted.
"""

from __future__ import annotations

import errno
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
from lora_repro.config import signature
from lora_repro.errors import Busy, UserError
from lora_repro.files import SEAL, regular, sealed, sha256, write_json, write_text
from lora_repro.records import run_folder
from lora_repro.records.run_folder import ADAPTER, LOCK, METRICS, PREDICTIONS, RECORD, UPDATES

SCHEMA = 1
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


def main_metric(config: Mapping[str, Any]) -> str:
    """The metric that a run is compared by: the first that its task's yaml names, else BLEU."""
    return str((config["task"].get("metrics") or ["bleu"])[0])


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
    record = read_run(folder / RECORD)
    if name := defect(folder, record, names):
        raise UserError(f"{folder / name} is not what run {folder.name} wrote: run it again, or copy the right file")
    return record


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
    dollar = "$" in text or r"\u0024" in text  # JSON's two ways to write one; without it no text can refer to anything
    try:
        return json.loads(text, object_pairs_hook=_plain_object if dollar else _object)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("a key stands in it twice")
    return mapping


def _plain_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = _object(pairs)
    for key, value in pairs:
        if referring := next((item for item in _texts(value) if "${" in item), None):
            raise ValueError(f"{key} refers to something else ({referring[:40]!r})")
    return mapping


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
    record = checked(value)
    if SEAL not in record:
        raise ValueError("it has no hash of its own, so it may have been altered")
    if not isinstance(files := record.get("files"), dict) or PREDICTIONS not in files:
        raise ValueError("it has no hashes of the files beside it, so they may have been altered")
    return record


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


def whole(record: dict[str, Any], path: Path) -> dict[str, Any]:
    """The record of a finished run. Raises UserError if a part of it is missing."""
    missing = [key for key in KINDS if key not in record]
    missing += [f"{part}.{key}" for part, keys in PARTS.items() for key in keys if key not in record.get(part, {})]
    if missing:
        raise UserError(f"record {path} has no {missing[0]}; delete it to run again")
    return record


def find(folder: Path, config: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """The record in a run's folder if that run is done, else None. Raises UserError for a record that lacks a needed entry.

    With `config` (what is asked) it raises UserError as `check_same_config` does, and checks the files beside the record: a
    run with a damaged file gets a warning and counts as not done.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    record = read_run(path)
    for key in ("status",) if config is None else ("status", "asked"):
        if key not in record:
            raise UserError(f"record {path} has no {key}; delete it to run again")
    if config is not None:
        signature.check_same_config(record, config)
        if record["status"] in DONE and (name := defect(folder, record, FILES[:3])):
            console.warn(f"{folder / name} has changed since the run wrote it: running it again")
            return None
    return record if record["status"] in DONE else None


def load_records(folder: Path, reader: Callable[[Path], dict[str, Any]] = read_run) -> dict[str, dict[str, Any]]:
    """signature -> record of every run in `runs/<profile>` or of every published one in `results/<profile>/records`.

    reader: `read_run`, or `read` for a caller that says of each record why its hashes do not hold. Raises UserError for a record
    that cannot be read or, by `read_run`, lacks its hashes, or whose signature is not its folder's or file's name.
    """
    records = {}
    for path in sorted([*folder.glob("*/record.json"), *folder.glob("*.json")]):
        record, name = reader(path), path.parent.name if path.name == RECORD else path.stem
        if record.get("signature") != name:
            raise UserError(f"record {path} belongs to run {record.get('signature')}: copy the right record from its source")
        records[name] = record
    return records


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
        file_lock = FileLock(folder / LOCK, timeout=0.2, poll_interval=0.05, fallback_to_soft=False).acquire()
    except Timeout:
        who = holder(folder) or "unknown"
        raise Busy(f"another process ({who}) is already running {folder.name}: wait for it to end") from None
    except OSError as error:
        lockless = error.errno in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
        problem = f"no file can be locked in {folder}" if lockless else f"cannot write in {folder}"
        raise UserError(f"{problem}: {error.strerror or error}; choose another folder with paths.runs=/path") from error
    with file_lock:
        for path in folder.iterdir():
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise UserError(f"{path} is neither a file nor a folder: delete it, then run again")
        (folder / LOCK).write_text(f"{os.getpid()} on {platform.node()}", encoding="utf-8")
        yield


def tidy(folder: Path) -> None:
    """Remove from a recorded run's folder what only an unfinished run needs, unless a process holds the folder.

    A run that was killed between its record and its clean-up left it; the next process to find the record calls this.
    """
    if run_folder.leftovers(folder):
        with suppress(Busy), lock(folder):
            run_folder.clean(folder)


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
