"""What a run that was killed between its record and its clean-up left, dropped by whoever meets the record next."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from lora_repro.errors import Busy
from lora_repro.records import record
from lora_repro.train import kept


def tidy(folder: Path) -> None:
    """Drop from a recorded run's folder what only an unfinished one needs, unless a process is at it."""
    if kept.leftovers(folder):
        with suppress(Busy), record.lock(folder):
            kept.clean(folder)
