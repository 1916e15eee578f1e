"""The content of the user's own files as part of what names a run: `sha256: {train: "${sha256:${task.train}}"}`.

So a run of other rows under an old path is another run, and a file that is moved or renamed is not.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from omegaconf import OmegaConf

from lora_repro.errors import UserError

HUB = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(:(?P<config>[\w.-]+))?@(?P<revision>[0-9a-f]{40})")  # a data set of the model hub


def use() -> None:
    """Register `${sha256:...}` with OmegaConf, in this process."""
    OmegaConf.register_new_resolver("sha256", content_hash, replace=True)


def content_hash(source: str | None) -> str | None:
    """sha256 of a file's bytes, or of a folder's names and bytes; a pinned data set of the hub is its own hash.

    None for None. Of `score.py:function` the file counts. Raises UserError if it is no file or folder.
    """
    if source is None:
        return None
    path = Path(re.sub(r"(?<=\.py):\w+$", "", source)).expanduser()
    if HUB.fullmatch(source) and not path.exists():
        return source
    if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would be waited for without end
        raise UserError(f"{source} is a device or a pipe: give a file")
    try:
        return _hashed(path, stamp(path))
    except OSError as error:
        hint = "; a data set of the hub is written owner/name@COMMIT, with all 40 digits of the commit"
        raise UserError(f"cannot read {source}: {error.strerror or error}{'' if path.suffix else hint}") from None


def current(task: Mapping[str, object]) -> dict[str, str | None]:
    """Setting -> today's hash of each file that a resolved task names; where it names none, the hash that it has."""
    hashes = task["sha256"]
    assert isinstance(hashes, Mapping)
    return {key: content_hash(str(task[key])) if task.get(key) else hashes[key] for key in hashes}


def stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size and modification time of a file, or of all files in a folder. Raises OSError."""
    return tuple((str(file), (status := file.stat()).st_size, status.st_mtime_ns) for file in _files(path))


def _files(path: Path) -> list[Path]:
    """The file, or the files of a folder but for hidden ones and the caches that `datasets` leaves beside its data."""
    if not path.is_dir():
        return [path]
    paths = [file for file in sorted(path.rglob("*")) if file.is_file() and not file.name.startswith((".", "cache-"))]
    if not paths:
        raise FileNotFoundError(2, "the folder is empty")
    return paths


@lru_cache(maxsize=64)
def _hashed(path: Path, stamps: tuple[tuple[str, int, int], ...]) -> str:
    digests = []
    for name, *_ in stamps:
        with open(name, "rb") as file:
            digests.append((str(Path(name).relative_to(path)), hashlib.file_digest(file, "sha256").hexdigest()))
    return digests[0][1] if not path.is_dir() else hashlib.sha256(repr(digests).encode()).hexdigest()
