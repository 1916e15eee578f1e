"""Rendering all tables, figures, claims and pages in one process, and how reading records grows with their number."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lora_repro.config.paths import ROOT
from lora_repro.files import sealed, write_json
from lora_repro.records import manifest, record
from lora_repro.results import published
from tests.benchmarks._processes import seconds
from tests.benchmarks._table import Row, told

COUNTS = (1000, 10_000)
RENDER = """
import sys
from pathlib import Path
from lora_repro.config import paths
paths.CACHE = Path(sys.argv[2])  # before others take it from there
from lora_repro.commands import render
sys.exit(render.unless_done(Path(sys.argv[1])))
"""


def measure(overrides: Sequence[str], counts: Sequence[int] = COUNTS, whole: bool = True) -> dict[str, Any]:
    """CPU seconds of `make render` on a copy of results/, without any cache and again, and of reading records."""
    rows, render_times = [], []
    with tempfile.TemporaryDirectory() as folder:
        if whole:
            for name in ("results", "docs"):
                shutil.copytree(ROOT / name, Path(folder) / name)
            shutil.copyfile(ROOT / "README.md", Path(folder) / "README.md")
            render_times = [seconds(["-c", RENDER, folder, str(Path(folder) / "cache")]) for _ in range(2)]
            rows.append(Row("all tables, figures, claims and pages, all caches empty", render_times[0], target="≤ 80 s"))
            rows.append(Row("the same again, nothing changed", render_times[1], target="≤ 5 s"))
        read = {count: reading(Path(folder) / str(count), count) for count in counts}
    few, many = min(read), max(read)
    what, baseline = f"reading {many:,} records", f"{few:,} records, {many // few} times"
    rows.append(Row(what, read[many], baseline, read[few] * many / few, "1, or it is not linear"))
    return {"rows": told(rows), "rendered": render_times, "read": {str(count): duration for count, duration in read.items()}}


def reading(folder: Path, count: int) -> float:
    """CPU seconds of reading `count` records that differ only in their seeds."""
    base = record.read_run(next(iter(sorted((ROOT / "results").glob("*/records/*.json")))))
    with manifest.changing(folder) as change:
        for seed in range(count):
            name = f"{seed:016x}"
            config = {**base["asked"], "seed": seed}
            write_json(change.staged / "mini" / "records" / f"{name}.json", sealed({**base, "signature": name, "asked": config}))
    began = time.process_time()
    assert len(published(folder / "mini").records) == count
    return time.process_time() - began
