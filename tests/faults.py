"""A job in a fork that meets a fault at its n-th write below a folder, by whatever way Python and safetensors write.

A write is: an open for writing, each write of bytes, a flush to disk, a rename, a removal, a new folder or link.

    kill   the process dies there; of bytes that it was writing half are in the file
    full   that write and every later one but removals fail, as on a full disk, after half of the bytes
    io     that one write fails (EIO), as on a failing disk, after half of the bytes
"""

from __future__ import annotations

import builtins
import errno
import io
import mmap
import os
import shutil
import sys
import traceback
import zlib
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import IO, Any

import safetensors.torch
from safetensors import SafetensorError

from lora_repro.records.transaction import LOCK

KILLED = 137
FAULTS = ("kill", "full", "io")
OPENED = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
ADDING = ("open", "os.rename", "os.mkdir", "os.link", "os.symlink", "os.truncate")  # what a full disk refuses
REMOVING = ("os.remove", "os.rmdir")
BYTES, FLUSH = "write", "fsync"
PLACED = 4095  # writes of a job whose place in the code is kept


class Seam:
    """Counts the writes below a folder, in this process and its forks together, and raises or dies at the chosen one."""

    def __init__(self, folder: Path, number: int, fault: str) -> None:
        self.folder, self.number, self.fault = str(folder.resolve()), number, fault
        self.shared = mmap.mmap(-1, 8 * (PLACED + 1))

    @property
    def count(self) -> int:
        return int.from_bytes(self.shared[:8], "little")

    def ends_of_places(self) -> list[int]:
        """The first and the last write of each place in the code, in their order."""
        ends: dict[bytes, tuple[int, int]] = {}
        for number in range(1, min(self.count, PLACED) + 1):
            place = self.shared[8 * number : 8 * number + 8]
            first, _ = ends.get(place, (number, number))
            ends[place] = first, number
        return sorted({number for both in ends.values() for number in both})

    def due(self, event: str) -> bool:
        """Whether this write, which it counts, is to meet the fault."""
        number = self.count + 1
        self.shared[:8] = number.to_bytes(8, "little")
        if number <= PLACED:
            self.shared[8 * number : 8 * number + 8] = _place_in_code(event).to_bytes(8, "little")
        if self.fault == "full":
            return self.count >= self.number and event not in REMOVING
        return self.count == self.number

    def fail(self, path: object) -> None:
        if self.fault == "kill":
            os._exit(KILLED)
        number = errno.ENOSPC if self.fault == "full" else errno.EIO
        raise OSError(number, os.strerror(number), str(path))

    def below(self, path: object, given: tuple[Any, ...] = (None,)) -> bool:
        return _place(path, given).startswith(self.folder)

    def hook(self, event: str, given: tuple[Any, ...]) -> None:
        """For `sys.addaudithook`: everything but bytes and flushes."""
        if event not in ADDING + REMOVING or (
            event == "open" and not (isinstance(given[2], int) and given[2] & OPENED)
        ):
            return
        if any(self.below(item, given) for item in given[: 2 if event == "os.rename" else 1]) and self.due(
            event
        ):
            self.fail(given[0])

    def install(self) -> None:
        """For the rest of this process's life."""
        sys.addaudithook(self.hook)
        serialize, original_open = safetensors.torch.serialize_file, io.open

        def fsync(
            handle: int,
        ) -> None:  # flushes nothing: what a dead process wrote stays, and a disk would take most of the time
            path = os.readlink(f"/proc/self/fd/{handle}")
            if self.below(path) and self.due(FLUSH):
                self.fail(path)

        def serialize_file(tensors: Any, path: Any, metadata: Any = None) -> None:
            due = self.below(path) and self.due(BYTES)  # Rust opens and writes it
            serialize(tensors, path, metadata)
            if due:
                os.truncate(path, os.path.getsize(path) // 2)
                try:
                    self.fail(path)
                except OSError as error:
                    raise SafetensorError(f"Error while serializing: I/O error: {error.strerror}") from None

        def open_(file: Any, mode: str = "r", *rest: Any, **named: Any) -> IO[Any]:
            writes = (
                set(mode) & set("wax+")
                and isinstance(file, str | os.PathLike)
                and self.below(os.fspath(file))
            )
            return _opened(self, file, mode, *rest, **named) if writes else original_open(file, mode, *rest, **named)

        os.fsync, io.open, builtins.open = fsync, open_, open_  # type: ignore[assignment]
        safetensors.torch.serialize_file = serialize_file
        for name in ("_USE_CP_SENDFILE", "_USE_CP_COPY_FILE_RANGE"):
            setattr(shutil, name, False)  # copies are then read and written like any file


class _Raw(io.FileIO):
    """A file whose writes pass the seam."""

    def __init__(self, seam: Seam, path: Any, mode: str, opener: Any) -> None:
        super().__init__(path, mode, opener=opener)
        self.seam, self.path = seam, path

    def write(self, data: Any) -> int:
        if self.seam.due(BYTES):
            super().write(memoryview(data).cast("B")[: memoryview(data).nbytes // 2])
            self.seam.fail(self.path)
        return super().write(data)


def _opened(seam: Seam, file: Any, mode: str, buffering: int = -1, encoding: str | None = None, errors: str | None = None,
            newline: str | None = None, closefd: bool = True, opener: Any = None) -> IO[Any]:  # fmt: skip
    """`open` for writing, through the seam."""
    raw = _Raw(seam, file, mode.replace("b", "").replace("t", ""), opener)
    if buffering == 0:
        return raw  # type: ignore[return-value]
    buffer: Any = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
    if "b" in mode:
        return buffer  # type: ignore[no-any-return]
    text = io.TextIOWrapper(
        buffer, io.text_encoding(encoding), errors, newline, line_buffering=buffering == 1
    )
    text.mode = mode  # type: ignore[misc]
    return text


def interrupted(
    job: Callable[[], int], folder: Path, number: int, fault: str = "kill", log: Path | None = None
) -> int:
    """The exit code of `job` in a fork that meets a fault at write `number` (from 1) below `folder`, or its own without it.

    log: a file for what it prints.
    """
    return counted(job, folder, number, fault, log)[0]


def counted(
    job: Callable[[], int], folder: Path, number: int, fault: str, log: Path | None = None
) -> tuple[int, int]:
    """`interrupted`, and how many writes it and its forks made."""
    seam = Seam(folder, number, fault)
    return _forked(job, seam, log), seam.count


def _forked(job: Callable[[], int], seam: Seam, log: Path | None = None) -> int:
    """The exit code of `job` in a fork whose writes pass the seam."""
    sys.stdout.flush()
    sys.stderr.flush()
    if not (pid := os.fork()):
        code = 1
        try:
            if log:
                handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(handle, 1)
                os.dup2(handle, 2)
            seam.install()
            code = job()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else int(left.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def ends_of_places(job: Callable[[], int], folder: Path) -> tuple[int, list[int]]:
    """Run `job` without a fault: how many writes it makes, and the first and the last of those of each place in the code."""
    seam = Seam(folder, 0, "kill")
    assert _forked(job, seam) == 0
    return seam.count, seam.ends_of_places()


def at_every_write(
    job: Callable[[], int],
    root: Path,
    look: Callable[[], Any],
    after: Callable[[int], None] = lambda number: None,
) -> int:
    """Interrupt `job` at its writes below `root`, every time from the same start; returns how many writes there are.

    Of the writes that the same lines of the code make, of one file after the other, the first and the last are interrupted, by
    turns killed and on a full disk; `make torture` gives every write each fault. After each, `after` may look at what is left;
    then the same job ends with what `look` sees when nothing interrupts it, and no temporary file is left.
    """
    start = root.with_name("start")
    shutil.copytree(root, start)
    writes, numbers = ends_of_places(job, root)
    reference = look()
    for number, fault in zip(numbers, cycle(("kill", "full")), strict=False):
        shutil.rmtree(root)
        shutil.copytree(start, root)
        code = interrupted(job, root, number, fault)
        assert code in ((KILLED,) if fault == "kill" else (0, 2)), number
        assert code or look() == reference, number
        after(number)
        assert interrupted(job, root, 0) == 0, number
        assert look() == reference, number
        assert not [path for path in root.rglob(".*") if path.name != LOCK], number
    return writes


def _place_in_code(event: str) -> int:
    """A number for an event and the lines of lora_repro that led to it."""
    frame, lines = sys._getframe(1), [event]
    while frame is not None:
        if f"{os.sep}lora_repro{os.sep}" in frame.f_code.co_filename:
            lines.append(f"{frame.f_code.co_filename} {frame.f_lineno}")
        frame = frame.f_back  # type: ignore[assignment]
    return zlib.crc32("\n".join(lines).encode())


def _place(path: object, given: tuple[Any, ...]) -> str:
    """The absolute path that an event is about; `shutil.rmtree` names files by their folder's descriptor."""
    if not isinstance(path, str | os.PathLike):
        return ""
    descriptor = given[-1]
    if not os.path.isabs(path) and isinstance(descriptor, int) and descriptor > 2:
        return os.path.join(os.readlink(f"/proc/self/fd/{descriptor}"), path)
    return os.path.abspath(path)
