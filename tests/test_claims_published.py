"""results/claims.md, results/claims.csv and results/README.md are what the published records give now.

Both tests need every planned run; the second finds what the first has composed.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lora_repro.report import render
from lora_repro.report.claims import ledger

RESULTS = Path(__file__).resolve().parents[1] / "results"


@pytest.mark.skipif(not (RESULTS / "claims.md").is_file(), reason="the ledger is not published yet: make claims")
def test_the_published_ledger_is_what_the_records_give() -> None:
    verdicts = ledger.judge_all(ledger.load(), RESULTS)
    assert (RESULTS / "claims.md").read_text(encoding="utf-8") == ledger.markdown(verdicts), "make claims writes it again"
    assert (RESULTS / "claims.csv").read_text(encoding="utf-8") == ledger.comma_separated(verdicts)


def test_the_published_list_of_runs_is_what_the_records_give(tmp_path: Path) -> None:
    copy = tmp_path / "results"
    for profile in ("mini", "laptop"):
        for kind in ("records", "trials", "measures"):
            if (RESULTS / profile / kind).is_dir():
                shutil.copytree(RESULTS / profile / kind, copy / profile / kind)
    assert render.page(copy) == (RESULTS / render.NAME).read_text(encoding="utf-8")
