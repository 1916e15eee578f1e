"""results/*/tables are what the published records give now: what a refactoring must not change."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_repro.report import show
from lora_repro.report.exhibit import ReportRequest
from lora_repro.report.table import comma_separated, latex, markdown
from lora_repro.results import published

RESULTS = Path(__file__).resolve().parents[1] / "results"
RENDER = {".md": markdown, ".csv": comma_separated, ".tex": latex}


@pytest.mark.parametrize("name", ["e2e", "glue", "delta_w", "latency", "intrinsic_dimension"])
def test_the_published_tables_are_what_the_records_give(name: str) -> None:
    """`make tables` writes them again, all of them: these are of every kind of view."""
    for profile in sorted(folder.parent.name for folder in RESULTS.glob("*/tables")):
        shown = show.declaration(name).exhibits(ReportRequest(name, profile), [published(RESULTS / profile)])
        for exhibit in (one for one in shown if one.keep):
            for suffix, render in RENDER.items():
                path = RESULTS / profile / "tables" / f"{exhibit.stem}{suffix}"
                assert path.read_text(encoding="utf-8") == render(exhibit.tables), path
