"""Files that a kill, a full disk or a flipped bit cannot turn into something else: written whole or not at all, or sealed.

A sealed JSON file holds the SHA-256 of the rest of itself under `sha256`: what an unfinished run keeps for its own next attempt.
Tensors have theirs in such a file beside them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lora_repro import cli

SEAL = "sha256"


def sync(path: Path) -> None:
    """Have the operating system write a file or folder through to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """Of a file's bytes, in hex. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to, which takes its place at the end: a reader sees old or new, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically, every line end as it is in `text`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically. Raises ValueError on NaN or infinity: they are not results."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """`value` with its own hash as the last key."""
    rest = {key: item for key, item in value.items() if key != SEAL}
    text = json.dumps(rest, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return {**rest, SEAL: hashlib.sha256(text.encode()).hexdigest()}


def read_sealed(path: Path) -> dict[str, Any] | None:
    """The object that `write_json(path, sealed(...))` wrote; None if there is none, or if it is damaged, which is said."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if sealed(found)[SEAL] != found[SEAL]:
            raise ValueError("it does not match its hash")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        damaged(path, error)
        return None
    return {key: item for key, item in found.items() if key != SEAL}


def damaged(path: Path, error: object) -> None:
    """Warn on stderr that a file of an unfinished run is damaged and will be made again."""
    why = " ".join(str(error).split())[:100] or type(error).__name__
    cli.warn(f"{path} is damaged ({why}); it will be made again")


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder whose lock we hold."""
    for path in folder.glob(".*.tmp"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
