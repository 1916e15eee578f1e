"""A job in a fork that is killed, or finds the disk full, at its n-th write below a folder, by whatever way Python writes."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lora_repro.records.transaction import LOCK

KILLED = 137
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
ADDING = ("open", "os.rename", "os.mkdir", "os.link", "os.symlink")  # what a full disk refuses
REMOVING = ("os.remove", "os.rmdir")


def interrupted(job: Callable[[], int], folder: Path, number: int, full: bool = False) -> int:
    """The exit code of `job` in a fork that ends at write `number` (from 1) below `folder`, or 0 if there are fewer.

    full: instead, that write and every later one but removals fail, as on a full disk.
    """
    if not (pid := os.fork()):
        code = 1
        try:
            sys.addaudithook(_hook(str(folder.resolve()), number, full))
            code = job()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def at_every_write(
    job: Callable[[], int], root: Path, full: bool, look: Callable[[], Any], after: Callable[[int], None] = lambda number: None
) -> int:
    """Interrupt `job` at each of its writes below `root`, every time from the same start; returns how many there are.

    After each, `after` may look at what is left; then the same job ends with what `look` sees when nothing interrupts it, and no
    temporary file is left.
    """
    start = root.with_name("start")
    shutil.copytree(root, start)
    assert interrupted(job, root, 10**9) == 0
    wanted = look()
    for number in range(1, 1000):
        shutil.rmtree(root)
        shutil.copytree(start, root)
        code = interrupted(job, root, number, full)
        if code == 0:
            return number - 1
        assert code == (2 if full else KILLED), number
        after(number)
        assert interrupted(job, root, 10**9) == 0, number
        assert look() == wanted, number
        assert not [path for path in root.rglob(".*") if path.name != LOCK], number
    raise AssertionError("it writes without end")


def _hook(folder: str, number: int, full: bool) -> Callable[[str, tuple[Any, ...]], None]:
    count = 0

    def hook(event: str, given: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in ADDING + REMOVING or (event == "open" and not (isinstance(given[2], int) and given[2] & WRITING)):
            return
        if not any(_place(item, given).startswith(folder) for item in given[: 2 if event == "os.rename" else 1]):
            return
        count += 1
        if count == number and not full:
            os._exit(KILLED)
        if count >= number and event in ADDING:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(given[0]))

    return hook


def _place(path: object, given: tuple[Any, ...]) -> str:
    """The absolute path that an event is about; `shutil.rmtree` names files by their folder's descriptor."""
    if not isinstance(path, str | os.PathLike):
        return ""
    descriptor = given[-1]
    if not os.path.isabs(path) and isinstance(descriptor, int) and descriptor > 2:
        return os.path.join(os.readlink(f"/proc/self/fd/{descriptor}"), path)
    return os.path.abspath(path)
