"""Several files of a folder change together or not at all, whatever ends the process: a write-ahead journal.

    FOLDER/.pending/      the new files, at their paths below FOLDER, until they take their places
    FOLDER/.pending.json  the journal, written once all of them are on disk: the hash of each, and which files are to go

Without a journal nothing has changed, and what lies in .pending is dropped. With one the change is decided: its files take their
places, however often that is interrupted, before anything of ours reads or writes in the folder again (`settle`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from lora_repro.errors import Busy, UserError
from lora_repro.files import sha256, sync, write_json

LOCK, STAGED, JOURNAL = ".manifest.lock", ".pending", ".pending.json"
WAIT_SECONDS = 60.0  # for a command that writes: longer than its files take to move, not as long as all tables take to render


@dataclass
class Change:
    """What is to change in `folder`: the files that are written below `staged`, and those of `removed`, by their paths in it."""

    folder: Path
    removed: set[str] = field(default_factory=set)

    @property
    def staged(self) -> Path:
        return self.folder / STAGED

    def remove(self, path: Path) -> None:
        """Remove a file of `folder`, and the folders that become empty by it."""
        self.removed.add(path.relative_to(self.folder).as_posix())

    def place(self, path: Path) -> Path:
        """Where a file of `staged` will lie."""
        return self.folder / path.relative_to(self.staged)

    def new(self) -> dict[str, Path]:
        """Path in `folder` -> the file that takes its place."""
        paths = sorted(path for path in self.staged.rglob("*") if path.is_file())
        return {path.relative_to(self.staged).as_posix(): path for path in paths}


@contextmanager
def changing(folder: Path) -> Iterator[Change]:
    """Change files of `folder` together: all of them when the block ends, none if it raises.

    Raises Busy if another process goes on changing files of the folder, UserError as `settle` does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder, WAIT_SECONDS):
        _recover(folder)
        change = Change(folder)
        try:
            change.staged.mkdir()
            yield change
            decided = _decide(change)
        except BaseException:
            if not (folder / JOURNAL).exists():
                shutil.rmtree(change.staged, ignore_errors=True)
            raise
        if decided:
            _apply(folder)
        else:
            shutil.rmtree(change.staged)


def settle(folder: Path) -> None:
    """Finish or drop the change that a killed process left in `folder`; wait while another one's files take their places.

    Raises UserError if the change cannot be finished, Busy if another process takes more than a minute.
    """
    decided = (folder / JOURNAL).exists()
    if not decided and not (folder / STAGED).exists():
        return
    try:
        with _locked(folder, WAIT_SECONDS if decided else 0):
            _recover(folder)
    except Busy:
        if decided:
            raise  # otherwise another process is preparing a change, and the files are as they were
    except OSError as error:
        if decided:
            reason = "a change of it was interrupted, and it cannot be finished"
            raise UserError(f"{folder}: {reason} ({error.strerror}): repeat this where you may write") from None


@contextmanager
def _locked(folder: Path, seconds: float) -> Iterator[None]:
    try:
        file_lock = FileLock(folder / LOCK, timeout=seconds, fallback_to_soft=False).acquire()
    except Timeout:
        raise Busy(f"another process is writing in {folder}: try again when it has ended") from None
    with file_lock:
        yield


def _decide(change: Change) -> bool:
    """Put what changes on disk, then the journal; whether anything changes. A file that is there already does not."""
    files = {}
    for name, path in change.new().items():
        digest, place = sha256(path), change.folder / name
        if place.is_file() and not place.is_symlink() and sha256(place) == digest:
            path.unlink()
        else:
            sync(path)
            files[name] = digest
    removals = sorted(name for name in change.removed - files.keys() if (change.folder / name).exists())
    if files or removals:
        write_json(change.folder / JOURNAL, {"files": files, "removed": removals})
        sync(change.folder)
    return bool(files or removals)


def _recover(folder: Path) -> None:
    """Leave nothing of a killed process's change: finished if it was decided, else dropped."""
    for path in folder.glob(".*.tmp"):
        path.unlink()
    if (folder / JOURNAL).exists():
        _apply(folder)
    elif (folder / STAGED).exists():
        shutil.rmtree(folder / STAGED)


def _apply(folder: Path) -> None:
    """Do what the journal says, from wherever it was interrupted, then drop it."""
    files, removals = _read_journal(folder / JOURNAL)
    for name, digest in files.items():
        source, place = folder / STAGED / name, folder / name
        if (not source.is_file() and not place.is_file()) or (source.is_file() and sha256(source) != digest):
            way = f"delete {folder / JOURNAL} and {folder / STAGED}, then git checkout -- {folder}"
            raise UserError(f"{source} is damaged, so an interrupted change cannot be finished; {way}")
        if source.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            source.replace(place)
    for name in removals:
        (folder / name).unlink(missing_ok=True)
        _remove_empty(folder, (folder / name).parent)
    for parent in {(folder / name).parent for name in files}:
        sync(parent)
    (folder / JOURNAL).unlink()
    shutil.rmtree(folder / STAGED, ignore_errors=True)


def _read_journal(path: Path) -> tuple[dict[str, str], list[str]]:
    """(path -> hash, removed paths). Raises UserError unless all of them lie below the journal's folder."""
    try:
        journal = json.loads(path.read_text(encoding="utf-8"))
        files, removals = dict(journal["files"]), list(journal["removed"])
        if bad := [
            name
            for name in (*files, *removals)
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts
        ]:
            raise ValueError(f"it names {bad[0]}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}): delete it, then git checkout -- {path.parent}") from None
    return files, removals


def _remove_empty(folder: Path, place: Path) -> None:
    """Remove a folder below `folder`, and those above it, as far as they are empty: git keeps none either."""
    with suppress(OSError):
        while place != folder:
            place.rmdir()
            place = place.parent
