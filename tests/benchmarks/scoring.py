"""The five E2E metrics of 630 outputs: by one command, in a process that has scored before, and by the official script.

That script, tuetschek/e2e-metrics' measure_scores.py, is not part of this repository: the variable E2E_METRICS has its path.
"""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from lora_repro.config.compose import build, compose
from lora_repro.metrics import jvm, nlg
from tests.benchmarks._arms import within
from tests.benchmarks._processes import seconds
from tests.benchmarks._table import Row, told

OUTPUTS, OFFICIAL = 630, "E2E_METRICS"


def measure(overrides: Sequence[str], outputs: int = OUTPUTS, rounds: int = 3) -> dict[str, Any]:
    """CPU seconds of each, Java included. The outputs are human texts, each scored against the other texts of its input."""
    profile, rest = within(overrides, "e2e")
    config = compose([f"profile={profile}", "task=e2e", *rest])
    task = build(config.task)
    texts, examples = task.human(task.load(config.paths.data).test)
    pairs = list(itertools.islice(itertools.cycle(zip(texts, (e.references for e in examples), strict=True)), outputs))
    with tempfile.TemporaryDirectory() as folder:
        files = {"--predictions": Path(folder) / "outputs.txt", "--references": Path(folder) / "references.txt"}
        files["--predictions"].write_text("".join(f"{text}\n" for text, _ in pairs), encoding="utf-8")
        files["--references"].write_text("\n".join("\n".join(group) + "\n" for _, group in pairs), encoding="utf-8")
        words = [str(word) for pair in files.items() for word in pair]
        once = [seconds(["-m", "lora_repro", "score", "e2e", *words, "--json"]) for _ in range(rounds)]
        paths = [str(files["--references"]), str(files["--predictions"])]
        official = [seconds([path, "-p", *paths]) for _ in range(rounds)] if (path := os.environ.get(OFFICIAL)) else []
    _warm(pairs[::-1])  # starts Java
    again = [_warm([(f"{text} {i}", group) for text, group in pairs]) for i in range(rounds)]
    jvm.close()
    command, warm = statistics.median(once), statistics.median(again)
    baseline, theirs = ("the official script", statistics.median(official)) if official else ("", None)
    rows = [
        Row(f"five E2E metrics of {outputs} outputs, one command", command, baseline, theirs, "2.0 of the official script's"),
        Row("new outputs in the same process", warm, "one command", command, note="target: 4.0 of the official script's time"),
    ]
    return {"rows": told(rows), "once": once, "again": again, "official": official}


def _warm(pairs: Sequence[tuple[str, Sequence[str]]]) -> float:
    """CPU seconds of scoring once, in this process and in the Java process."""
    before = _used()
    nlg.score([text for text, _ in pairs], [group for _, group in pairs])
    return _used() - before


def _used() -> float:
    return time.process_time() + sum(sum(child.cpu_times()[:2]) for child in psutil.Process().children(recursive=True))
