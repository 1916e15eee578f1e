"""CPU seconds of commands, each in a process of its own on one thread."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence

from lora_repro.config.paths import ROOT
from lora_repro.errors import UserError

ALONE = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def seconds(arguments: Sequence[str]) -> float:
    """CPU seconds of `python <arguments>` and of the processes that it waited for. Raises UserError if it fails."""
    before = _children()
    process = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env={**os.environ, **ALONE}, capture_output=True, text=True, check=False
    )
    if process.returncode:
        raise UserError(f"python {' '.join(arguments)[:80]} ended with {process.returncode}: {process.stderr.strip()[-200:]}")
    return _children() - before


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
