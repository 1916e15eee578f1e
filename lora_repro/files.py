"""Files that survive a kill, a full disk or a flipped bit: written atomically, and sealed so that damage is detected.

A sealed JSON file holds the SHA-256 of the rest of itself under `sha256`; an unfinished run keeps such files for its next
attempt. The hash of a tensor file is in a sealed file beside it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from lora_repro import console

SEAL = "sha256"
Others = TypeVarTuple("Others")
Result = TypeVar("Result")
FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)


def why_it_ended(error: OSError, folder: Path) -> str:
    """One line on what ended the run of a folder, and what to do: another place, more space, or the same command again."""
    if error.errno in FORBIDDEN:
        if error.filename and not Path(error.filename).resolve().is_relative_to(folder.resolve()):
            return f"cannot use {error.filename}: {error.strerror}; give access, or name another place (LORA_REPRO_CACHE)"
        return f"cannot write in {folder}: {error.strerror}; choose another folder with paths.runs=/path"
    if error.errno in FULL or error.errno is None:  # safetensors gives no errno
        return f"cannot write in {folder}: {error.strerror or error}; free some space, then run again"
    return f"the run {folder} ended: {error}; run the same command again to resume"


def sync(path: Path) -> None:
    """Flush a file or folder to disk (fsync)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def regular(path: Path) -> Path:
    """`path`. Raises OSError unless it is a regular file: whoever opens a pipe waits for its writer."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(f"{path} is not a file")
    return path


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex. Raises OSError if it cannot be read."""
    with regular(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def once_per_version(read: Callable[[Path, *Others], Result]) -> Callable[[Path, *Others], Result]:
    """`read`, which reads the file of its first argument, done once in this process while the file stays as it is.

    What it returns is shared: copy it before you change it. Its file's inode, size and time of change tell one version from the
    next. The result raises OSError if there is no such file.
    """

    @cache
    def read_version(path: Path, version: tuple[int, ...], *others: Any) -> Any:
        return read(path, *others)

    @wraps(read)
    def call(path: Path, *others: *Others) -> Result:
        status = path.stat()
        result: Result = read_version(path, (status.st_ino, status.st_size, status.st_mtime_ns), *others)
        return result

    return call


known_sha256 = once_per_version(sha256)


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` to write to, renamed to it at the end: a reader sees the old or the new file, never half.

    durable: whether the content is on disk before the name is, so that a power failure cannot leave the name with less.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if durable:
            sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically, with the line ends of `text` unchanged."""
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
    """The object that `write_json(path, sealed(...))` wrote; None if it is missing or, with a line on stderr, damaged."""
    try:
        content = json.loads(regular(path).read_text(encoding="utf-8"))
        if sealed(content)[SEAL] != content[SEAL]:
            raise ValueError("it does not match its hash")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        damaged(path, error)
        return None
    return {key: item for key, item in content.items() if key != SEAL}


def damaged(path: Path, error: object) -> None:
    """Say on stderr that a file of an unfinished run is damaged and that its content will be computed again."""
    why = " ".join(str(error).split())[:100] or type(error).__name__
    console.warn(f"{path} is damaged ({why}); it will be made again")


def share_weights(folder: Path) -> None:
    """Let whoever may read config.json of a folder read its tensors too: safetensors lets nobody but their owner."""
    for path in folder.glob("*.safetensors"):
        shutil.copymode(folder / "config.json", path)


def remove_orphans(folder: Path) -> None:
    """Remove the temporary files of processes that have ended from a folder which others may write to."""
    for path in folder.glob(".*.tmp"):
        process = path.name.split(".")[-2]
        if process.isdigit() and not running(int(process)):
            path.unlink(missing_ok=True)


def running(process: int) -> bool:
    """Whether a process with this id runs and is this user's; an id that is free, or another user's, was given anew."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, PermissionError, OverflowError):
        return False
    return True


def remove_temporaries(folder: Path) -> None:
    """Remove the temporary files of killed processes from a folder whose lock we hold."""
    for path in folder.glob(".*.tmp"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
