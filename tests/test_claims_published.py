"""results/claims.md and results/claims.csv are what the published records give now."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_repro.report.claims import ledger

RESULTS = Path(__file__).resolve().parents[1] / "results"


@pytest.mark.skipif(not (RESULTS / "claims.md").is_file(), reason="the ledger is not published yet: make claims")
def test_the_published_ledger_is_what_the_records_give() -> None:
    found = ledger.judge_all(ledger.load(), RESULTS)
    assert (RESULTS / "claims.md").read_text(encoding="utf-8") == ledger.markdown(found), "make claims writes it again"
    assert (RESULTS / "claims.csv").read_text(encoding="utf-8") == ledger.comma_separated(found)
