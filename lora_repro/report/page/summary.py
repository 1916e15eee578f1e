"""The claims on the pages: their verdicts, how many have each, and which experiment each reads."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def claims_of(entries: Sequence[Mapping[str, Any]], profile: str, after: bool) -> list[Claim]:
    """The claims of the paper, or with `after` those of later work, at a profile. entries: the claims of report.json."""
    claims = []
    for entry in entries:
        if entry["after_the_paper"] == after and profile in entry["profiles"]:
            outcome = entry["profiles"][profile]
            elsewhere = {name: other["verdict"] for name, other in entry["profiles"].items() if name != profile}
            facts = {key: entry[key] for key in ("id", "statement", "figure", "source", "test")}
            judgement = {"verdict": outcome["verdict"], "sentence": outcome["sentence"], "readings": tuple(outcome["readings"])}
            claims.append(Claim(**facts, **judgement, elsewhere=elsewhere))
    return claims


def counted(claims: Sequence[Claim]) -> dict[str, int]:
    """Verdict -> how many claims have it, without verdicts that no claim has."""
    counts = Counter(claim.verdict for claim in claims)
    return {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]}


def decided(claims: Sequence[Claim]) -> dict[str, list[Claim]]:
    """Verdict -> its claims, for the verdicts that a number gave."""
    verdicts = (REPLICATED, REFUTED, CONTRADICTED)
    by_verdict = {verdict: [claim for claim in claims if claim.verdict == verdict] for verdict in verdicts}
    return {verdict: those for verdict, those in by_verdict.items() if those}


def by_experiment(
    claims: Sequence[Claim], tables: Mapping[str, Mapping[str, Any]], stems: Sequence[str]
) -> dict[str, list[Claim]]:
    """Stem -> the claims that read it, those with a verdict first.

    These are the tables that a claim's test names or, if it names none, those that show every record which it reads.
    tables: the profile's part of report.json.
    """
    order = [REPLICATED, REFUTED, CONTRADICTED, INCONCLUSIVE]
    behind = {
        stem: {name for item in (*table["cells"], *table["sheets"]) for name in item["records"]} for stem, table in tables.items()
    }
    by_stem: dict[str, list[Claim]] = {}
    for claim in sorted((claim for claim in claims if claim.verdict in order), key=lambda claim: order.index(claim.verdict)):
        sources = {source for reading in claim.readings for source in reading["sources"]}
        mentions = [stem for stem in stems if re.search(rf"`{stem}/", claim.test)]
        read = {Path(source).stem for source in sources if "/measures/" not in source}
        measures = {Path(source).stem.partition("@")[0] for source in sources if "/measures/" in source}
        holding = [stem for stem in stems if (read and read <= behind.get(stem, set())) or stem in measures]
        for stem in mentions or holding:
            by_stem.setdefault(stem, []).append(claim)
    return by_stem


def reading(entry: Mapping[str, Any]) -> str:
    """`1.4 [−3.3, 6.5] (n = 3), 4 of 5 seeds inside, Δ 7.0`, or the verdict without a value. Δ: what would have shown."""
    if entry["value"] is None:
        return str(entry["verdict"])
    number = [_signed(entry[key]) for key in ("value", "low", "high") if entry[key] is not None]
    between = f" [{number[1]}, {number[2]}]" if len(number) == 3 else ""
    n = f" (n = {entry['n']})" if entry["n"] else ""
    least = "" if entry.get("detectable") is None else f", Δ {_signed(entry['detectable'])}"
    return number[0] + between + n + (f", {entry['inside']}" if entry["inside"] else "") + least


def _signed(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")
