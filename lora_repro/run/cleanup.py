"""Removes what a run left that was killed between its record and its clean-up; the next process to find the record does it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from lora_repro.errors import Busy
from lora_repro.records import record, run_folder


def tidy(folder: Path) -> None:
    """Remove from a recorded run's folder what only an unfinished run needs, unless a process holds the folder."""
    if run_folder.leftovers(folder):
        with suppress(Busy), record.lock(folder):
            run_folder.clean(folder)
