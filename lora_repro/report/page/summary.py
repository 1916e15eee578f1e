"""The opening of a page: the count of verdicts, and the scores of LoRA and full fine-tuning in every table that was run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora_repro.report.columns import ANY, AVERAGE
from lora_repro.report.page.runs import table_of
from lora_repro.report.table import EMPTY, Table
from lora_repro.results import PUBLISHED
from lora_repro.stats.verdict import (
    ARITHMETIC,
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_RUN,
    REFUTED,
    REPLICATED,
    TESTED,
)

# Verdict, which is the text of its badge -> what it means; in the order shown.
VERDICTS = {
    REPLICATED: "the interval lies where the claim says",
    REFUTED: "the interval lies outside, on one side",
    CONTRADICTED: "it is not replicated, by a test that the source's own numbers fail, too",
    INCONCLUSIVE: "neither, or too few seeds or test inputs, learning rates not searched, or trainings too short",
    ARITHMETIC: "follows from a formula",
    TESTED: "checked by a test of this repository",
    NOT_RUN: "nothing was run for it at this profile",
}
METHOD, REFERENCE = "lora", "full"  # the rows of the summary


@dataclass(frozen=True)
class Claim:
    """A claim with its outcome at one profile. sentence: the verdict in plain words. elsewhere: other profile -> verdict."""

    id: str
    statement: str
    figure: str
    source: str
    test: str
    verdict: str
    sentence: str
    readings: tuple[Mapping[str, Any], ...]
    elsewhere: Mapping[str, str]


def claims_of(told: Sequence[Mapping[str, Any]], profile: str, after: bool) -> list[Claim]:
    """The claims of the paper, or with `after` those of later work, at a profile. told: the claims of report.json."""
    found = []
    for one in told:
        if one["after_the_paper"] == after and profile in one["profiles"]:
            here, elsewhere = one["profiles"][profile], {k: v["verdict"] for k, v in one["profiles"].items() if k != profile}
            told_of = {key: one[key] for key in ("id", "statement", "figure", "source", "test")}
            judged = {"verdict": here["verdict"], "sentence": here["sentence"], "readings": tuple(here["readings"])}
            found.append(Claim(**told_of, **judged, elsewhere=elsewhere))
    return found


def counted(claims: Sequence[Claim]) -> dict[str, int]:
    """Verdict -> how many claims have it, without verdicts that no claim has."""
    counts = Counter(claim.verdict for claim in claims)
    return {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]}


def headline(tables: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> Table | None:
    """One line per table that has both rows, with their scores here and in the paper. titles: stem -> title of what was run."""
    rows = [line for stem, title in titles.items() if (line := _line(title, tables.get(stem, {}).get("cells", [])))]
    header = ("Table", "Score", "LoRA: ours", "LoRA: paper", "Full fine-tuning: ours", "Full fine-tuning: paper", "Seeds")
    return table_of("LoRA beside full fine-tuning", header, rows) if rows else None


def _line(title: str, cells: Sequence[Mapping[str, Any]]) -> list[str] | None:
    columns = list(dict.fromkeys(str(cell["column"]) for cell in cells))
    if not columns:
        return None
    main = AVERAGE if AVERAGE in columns else columns[0]
    by_row = {(c["row"], "ours" if c["source"] == PUBLISHED else "paper"): c for c in reversed(cells)
             if c["column"] == main and (c["source"] == PUBLISHED or c["source"].startswith("paper"))}  # fmt: skip
    if not {(METHOD, "ours"), (REFERENCE, "ours")} <= set(by_row) or main == ANY:
        return None
    digits = 1 if abs(by_row[METHOD, "ours"]["value"]) >= 10 else 2
    values = [_value(by_row.get((row, who)), digits) for row in (METHOD, REFERENCE) for who in ("ours", "paper")]
    n = sorted({int(by_row[row, "ours"]["n"]) for row in (METHOD, REFERENCE)})
    return [title, str(by_row[METHOD, "ours"]["metric"]), *values, "-".join(map(str, n))]


def _value(cell: Mapping[str, Any] | None, digits: int) -> str:
    if cell is None or cell["value"] is None:
        return EMPTY
    spread = "" if cell["sd"] is None else f" ± {cell['sd']:.{digits}f}"
    return f"{cell['value']:.{digits}f}{spread}".replace("-", "−")


def reading(one: Mapping[str, Any]) -> str:
    """`1.4 [−3.3, 6.5] (n = 3), 4 of 5 seeds inside, Δ 7.0`, or the verdict without a value. Δ: what would have shown."""
    if one["value"] is None:
        return str(one["verdict"])
    number = [_signed(one[key]) for key in ("value", "low", "high") if one[key] is not None]
    between = f" [{number[1]}, {number[2]}]" if len(number) == 3 else ""
    n = f" (n = {one['n']})" if one["n"] else ""
    least = "" if one.get("detectable") is None else f", Δ {_signed(one['detectable'])}"
    return number[0] + between + n + (f", {one['inside']}" if one["inside"] else "") + least


def _signed(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")
