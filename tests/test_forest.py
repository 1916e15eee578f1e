"""The forest plot of the claims: which are drawn, on which axis, and that a source's number follows from what it prints."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from lora_repro.report.claims import ledger
from lora_repro.report.claims.ledger import Claim, Ledger, Outcome
from lora_repro.report.claims.reading import Reading
from lora_repro.report.figures import forest
from lora_repro.stats.verdict import BESIDE, INCONCLUSIVE, NOT_RUN, REFUTED, REPLICATED, Region


def claim(name: str, printed: float | None = None) -> Claim:
    nothing: Any = None
    return Claim(name, 1, f"{name} holds.", "", "", nothing, False, printed)


def made() -> Ledger:
    points = Region(-1, unit=" points")
    readings = {
        "better": (Reading("a − b", "BLEU, E2E", REPLICATED, 30.0, 25.0, 40.0, 3, region=points), 2.2, REPLICATED),
        "lighter": (Reading("a / b", "peak memory", REFUTED, 1.5, 1.2, 1.8, 3, region=Region(ceiling=1)), 0.3, REFUTED),
        "slower": (Reading("slow-down", "%", INCONCLUSIVE, 1.0, -1.0, 2.0, 3, region=Region(-2, 2)), None, INCONCLUSIVE),
        "absent": (Reading("a − b", "BLEU, E2E", NOT_RUN, region=points), 1.0, NOT_RUN),
        "beside": (Reading("a − b", "BLEU, E2E", BESIDE, 1.0, region=points), 1.0, REPLICATED),
    }
    entries = [(claim(name, number), {"mini": Outcome(verdict, (one,))}) for name, (one, number, verdict) in readings.items()]
    return Ledger({"mini": "A model. Real data"}, entries)


def test_claims_with_a_number_are_drawn_on_the_axis_of_their_unit() -> None:
    rows = forest.rows(made(), "mini")
    assert [(row.label, row.panel, row.printed) for row in rows] == [
        ("better holds", forest.POINTS, 2.2), ("lighter holds", forest.TIMES, 0.3), ("slower holds", "%", None),
    ]  # fmt: skip
    assert forest.statement(made(), "mini") == (
        "Of 5 claims 2 hold at mini, 1 fail, 1 are open; 1 follow from arithmetic or tests, or were not run"
    )


def test_a_disc_shows_the_verdict_an_arrow_what_goes_on_and_a_square_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plots: list[Figure] = []
    monkeypatch.setattr(forest, "write", lambda draw, stem, *shown: plots.append(draw(*shown)) or [stem])
    assert forest.save(made(), "mini", tmp_path / "claims") == [tmp_path / "claims"]
    (points, times, percent) = plots[0].axes
    marks = {line.get_marker(): line for line in points.lines}
    assert marks["o"].get_xdata()[0] == 20 and marks["o"].get_markerfacecolor() == forest.GREEN  # 30 lies beyond the axis
    assert marks[">"].get_xdata()[0] == 20 and "<" not in marks and marks["s"].get_xdata()[0] == 2.2
    assert times.get_xscale() == "log" and {line.get_color() for line in times.lines if line.get_marker() == "o"} == {forest.RED}
    hollow = [line.get_markerfacecolor() for line in percent.lines if line.get_marker() == "o"]
    assert hollow == ["white"] and not [line for line in percent.lines if line.get_marker() == "s"]
    ((left, width),) = [(patch.get_x(), patch.get_width()) for patch in percent.patches]
    assert (left, left + width) == (-2, 2)
    assert "3 claims" not in plots[0].get_label() and any("2 claims have no number" in text.get_text() for text in plots[0].texts)


def test_a_printed_number_follows_from_what_the_source_is_said_to_print() -> None:
    """It is one of the numbers that `figure` tells, or a difference, quotient or mean of two; what is told in words is listed."""
    prose = {"not_the_top": 0.1, "merged_latency": 0, "amplification": 0.0625, "amplification_rank": 0.36}  # yaml comments
    claims = {one.id: one for one in ledger.load() if one.printed is not None}
    assert len(claims) > 15
    for name, one in claims.items():
        text = re.sub(r" ± [\d.]+", "", one.figure.replace(",", "")).replace("1.2 TB", "1200 GB")
        numbers = [float(digits) for digits in re.findall(r"\d+(?:\.\d+)?", text)]
        pairs = list(itertools.permutations(numbers, 2))
        values = [*numbers, *(a - b for a, b in pairs), *(a / b for a, b in pairs if b), *((a + b) / 2 for a, b in pairs)]
        assert prose.get(name) == one.printed or any(
            abs(one.printed - value) < 6e-4 * max(1, abs(value)) for value in values
        ), name
