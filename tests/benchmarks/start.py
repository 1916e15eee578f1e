"""The time from a command to its first training step, and to its help."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from lora_repro.config.paths import ROOT
from lora_repro.errors import UserError
from tests.benchmarks._processes import ALONE, seconds
from tests.benchmarks._table import Row, told


def measure(overrides: Sequence[str]) -> dict[str, Any]:
    """CPU seconds of the imports, the backbone, the data and one step of LoRA on E2E, and of `run --help`."""
    step, usage = first_step(["task=e2e", "method=lora", *overrides]), seconds(["-m", "lora_repro", "run", "--help"])
    rows = [Row("a command to its first step, LoRA on E2E", step, target="≤ 15 s"), Row("run --help", usage, target="≤ 0.5 s")]
    return {"rows": told(rows)}


def first_step(overrides: Sequence[str]) -> float:
    """CPU seconds until a run has logged a step, at which it is killed. Raises UserError if it ends before."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "lora_repro.run", *overrides, f"paths.runs={folder}"]
        process = subprocess.Popen(
            words, cwd=ROOT, env={**os.environ, **ALONE}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        try:
            while not any(path.stat().st_size for path in Path(folder).glob("*/*/metrics.jsonl")):
                if process.poll() is not None:
                    message = process.stderr.read().strip() if process.stderr else ""
                    raise UserError(f"the run ended before its first step: {message[-200:]}")
                time.sleep(0.02)
            return float(sum(psutil.Process(process.pid).cpu_times()[:2]))
        finally:
            process.kill()
            process.wait()
            if process.stderr:
                process.stderr.close()
