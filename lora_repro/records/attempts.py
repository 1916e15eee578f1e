"""The tries of a run that a sweep supervises, in `attempts.json` of its folder, and how its processes know of the sweep."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from lora_repro import console
from lora_repro.errors import Busy, UserError
from lora_repro.files import read_sealed, sealed, write_json
from lora_repro.records.run_folder import ATTEMPTS

SUPERVISED = "LORA_REPRO_SUPERVISED"  # the folder of a supervised run
ATTEMPT = "LORA_REPRO_ATTEMPT"  # the number of the try, counted from 1


def in_sweep() -> bool:
    """Whether this process runs one of several runs."""
    return console.MARK in os.environ


def attempts(folder: Path) -> dict[str, Any]:
    """A run's failed tries: their number `attempts`, and the last one's `exit` and `why`."""
    return read_sealed(folder / ATTEMPTS) or {"attempts": 0}


def note(folder: Path, code: int, why: str, number: int | None = None) -> None:
    """Record that a try (the next one, or that of `number`) ended without a record; where nothing can be written, do not."""
    tries = number or attempts(folder)["attempts"] + 1
    with suppress(OSError):  # a full disk must not hide the reason itself, which is printed
        write_json(folder / ATTEMPTS, sealed({"attempts": tries, "exit": code, "why": why}))


def record_failure(error: UserError) -> None:
    """In a supervised run: record why it ends without a record.

    Any rank may do so: torchrun ends all ranks when any of them exits.
    """
    if SUPERVISED in os.environ and not isinstance(error, Busy):
        note(Path(os.environ[SUPERVISED]), error.exit_code, str(error), int(os.environ.get(ATTEMPT, "0")) or None)
