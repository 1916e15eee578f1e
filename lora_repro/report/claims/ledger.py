"""The ledger: every claim of conf/claim at every published profile, as Markdown and CSV."""

from __future__ import annotations

import csv
import io
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from lora_repro.config.compose import CONF, build
from lora_repro.errors import UserError
from lora_repro.report.captions import models
from lora_repro.report.claims.base import ClaimTest, Evidence
from lora_repro.report.claims.reading import Reading, sentence
from lora_repro.stats.comparable import is_generated
from lora_repro.stats.intervals import LEVEL, pocock
from lora_repro.stats.verdict import INCONCLUSIVE, NOT_RUN, combined

PROFILES = ("smoke", "mini", "laptop", "paper")  # from small to large
SHOWN = 3  # readings in a cell of the overview; the claim's own section has all of them
AFTER = "after"  # conf/claim/after.yaml: findings of later work
TOLD = CONF.parent / "docs" / "claims.md"  # how to read the ledger, then the history of the tests
HISTORY = "## When the tests changed"


@dataclass(frozen=True)
class Claim:
    """One block of conf/claim. `id`: its key. `figure`: the number that its `source` gives. after: a claim of later work.

    printed: that number in the unit of the claim's first reading; None where the source prints none.
    """

    id: str
    order: int
    statement: str
    figure: str
    source: str
    test: ClaimTest
    after: bool = False
    printed: float | None = None


@dataclass(frozen=True)
class Outcome:
    verdict: str
    readings: tuple[Reading, ...]

    @property
    def sentence(self) -> str:
        return sentence(self.verdict, self.readings)


@dataclass(frozen=True)
class Ledger:
    """`scales`: profile -> its models and data, from its records; `entries`: each claim with its outcome at each profile."""

    scales: dict[str, str]
    entries: list[tuple[Claim, dict[str, Outcome]]]


def load(folder: Path = CONF / "claim") -> list[Claim]:
    """Every claim in its order. Raises UserError if one lacks a key, has an unknown key, or repeats another's id or order."""
    claims: list[Claim] = []
    for path in sorted(folder.glob("*.yaml")):
        for name, node in ((str(key), value) for key, value in OmegaConf.load(path).items()):
            if set(node) - {"looks", "printed"} != {"order", "statement", "figure", "source", "test"}:
                raise UserError(f"{path.name}: {name} must have order, statement, figure, source and test, may have looks and "
                                "printed, and nothing else")  # fmt: skip
            test, after = build(node.test), path.stem == AFTER
            _look(f"{path.name}: {name}", test, node.get("looks") or {})
            number = _printed(node.get("printed"), test)
            claims.append(Claim(name, int(node.order), node.statement, node.figure, node.source, test, after, number))
    for field in ("id", "order"):
        ordered = sorted(claims, key=lambda claim: getattr(claim, field))
        for one, other in itertools.pairwise(ordered):
            if getattr(one, field) == getattr(other, field):
                raise UserError(f"claims {one.id} and {other.id} have the same {field} {getattr(one, field)}")
    return ordered


def _printed(quote: float | None, test: ClaimTest) -> float | None:
    """The source's number: as quoted, or as the test compares with it."""
    number = getattr(test, "printed", None) if quote is None else quote
    return None if number is None else float(number)


def _look(name: str, test: ClaimTest, looks: Mapping[str, int]) -> None:
    """Tell a test how often its seeds were added to. Raises UserError for a number below 2, or a test that it costs nothing."""
    if any(not isinstance(n, int) or n < 2 for n in looks.values()) or (looks and not test.counts_looks):
        raise UserError(f"{name} has looks {dict(looks)}: whole numbers from 2, and only where scores are compared")
    for part in (test, *getattr(test, "parts", ())):
        part.looks = {str(profile): n for profile, n in looks.items()}


def wanted(claims: Sequence[Claim]) -> dict[str, list[str]]:
    """table -> the rows that claims read."""
    by_table: dict[str, set[str]] = {}
    for claim in claims:
        for table, rows in claim.test.rows().items():
            by_table.setdefault(table, set()).update(rows)
    return {table: sorted(rows) for table, rows in by_table.items()}


def judge_all(claims: Sequence[Claim], results: Path) -> Ledger:
    """Every claim judged at every published profile. Raises UserError if nothing is published or records cannot be compared."""
    names = {path.parent.name for kind in ("records", "measures") for path in results.glob(f"*/{kind}")}
    profiles = sorted(names, key=lambda name: (PROFILES.index(name) if name in PROFILES else len(PROFILES), name))
    if not profiles:
        raise UserError(f"nothing is published under {results} yet; make publish comes first")
    evidence = {name: Evidence(name, results / name, wanted(claims)) for name in profiles}
    entries = []
    for claim in claims:
        outcomes = {}
        for name in profiles:
            readings = claim.test.read(evidence[name])
            outcomes[name] = Outcome(claim.test.verdict(readings), tuple(readings))
        entries.append((claim, outcomes))
    return Ledger({name: scale(evidence[name]) for name in profiles}, entries)


def scale(evidence: Evidence) -> str:
    """Models and data of everything that a profile has published."""
    records = list(evidence.store.records.values())
    if not records:
        return "measurements only"
    return f"{'; '.join(models(records))}. {'Generated' if is_generated(records) else 'Real'} data"


def markdown(ledger: Ledger) -> str:
    """The ledger: how to read it, an overview, a section per claim with links to the files read, and the tests' history."""
    profiles = list(ledger.scales)
    head, history = TOLD.read_text(encoding="utf-8").split(HISTORY)
    lines = [head.rstrip(), ""]
    for name, text in ledger.scales.items():
        counts = Counter(outcomes[name].verdict for _, outcomes in ledger.entries).most_common()
        lines.append(f"- `{name}`: {text}. {', '.join(f'{count} {verdict}' for verdict, count in counts)}.")
    subheading = ["", "**After the paper**: findings of later work on LoRA."]
    for after, heading in ((False, []), (True, subheading)):
        entries = [entry for entry in ledger.entries if entry[0].after == after]
        if entries:
            title = "| Claim | Source | " + " | ".join(profiles) + " |"
            lines += [*heading, "", title, "| --- | --- |" + " --- |" * len(profiles)]
        for claim, outcomes in entries:
            cells = [_cell(name, outcome) for name, outcome in outcomes.items()]
            link = f"[{claim.statement}](#{claim.id})"
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in (link, claim.figure, *cells)) + " |")
    sections = [_section(claim, outcomes) for claim, outcomes in ledger.entries]
    return "\n".join([*lines, "", *sections, f"{HISTORY}{history}"])


def _cell(profile: str, outcome: Outcome) -> str:
    readings = [reading for reading in outcome.readings if reading.value is not None or reading.verdict == INCONCLUSIVE]
    alike = len({reading.what for reading in readings}) < len(readings)
    lines = [f"**{outcome.verdict}**{_where(profile, outcome)}{_better(outcome)}"]
    if len(readings) == 1:
        lines.append(readings[0].text)
    else:
        names = [f"{reading.what} ({reading.unit})" if alike else reading.what for reading in readings]
        lines += [f"{name}: {reading.text}" for name, reading in zip(names[:SHOWN], readings, strict=False)]
        lines += [f"{len(readings) - SHOWN} more below"] if len(readings) > SHOWN else []
    if readings and (missing := len(outcome.readings) - len(readings)):
        lines.append(f"{missing} not run")
    return "<br>".join(lines)


def _better(outcome: Outcome) -> str:
    """The second verdict of a claim "at least as good": the first judges the margin, this one whether it is better."""
    verdicts = [reading.better for reading in outcome.readings if reading.better]
    return f"; better: **{combined(verdicts, 'all')}**" if set(verdicts) - {NOT_RUN} else ""


def _looks(claim: Claim, profile: str) -> str:
    """How often the seeds were added to, if they were, and the level that this leaves to each look."""
    n = claim.test.looks.get(profile, 1)
    return f"; {n} looks, each at {100 * pocock(LEVEL, n):.2g} %" if n > 1 else ""


def _where(profile: str, outcome: Outcome) -> str:
    if not any(reading.sources for reading in outcome.readings) or outcome.verdict == NOT_RUN:
        return ""
    data = ", generated data" if any(reading.generated for reading in outcome.readings) else ""
    return f" at {profile}{data}"


def _section(claim: Claim, outcomes: dict[str, Outcome]) -> str:
    lines = [
        f'<a id="{claim.id}"></a>\n\n## {claim.statement}\n',
        f"- Test: {claim.test.rule}.",
        f"- Source: {claim.figure} ({claim.source}).",
    ]
    if claim.test.anywhere:
        outcomes = {"any profile": next(iter(outcomes.values()))}
    for name, outcome in outcomes.items():
        lines.append(f"- {name}: **{outcome.verdict}**{_where(name, outcome)}{_better(outcome)}{_looks(claim, name)}. "
                     f"{outcome.sentence}")  # fmt: skip
        for reading in outcome.readings:
            unit = f" ({reading.unit})" if reading.unit else ""
            verdict = f", {reading.verdict}" if len(outcome.readings) > 1 else ""
            lines.append(f"  - {reading.what}{unit}: {reading.detail}{verdict}{''.join(f'; {note}' for note in reading.notes)}")
        sources = dict.fromkeys(path for reading in outcome.readings for path in reading.sources)
        if sources:
            lines.append("  - Read: " + ", ".join(f"[{_short(path)}]({path})" for path in sources))
    return "\n".join(lines) + "\n"


def _short(path: str) -> str:
    """The link text of a file: the first 8 characters of its stem, and its ending unless that is json."""
    stem, _, ending = path.rpartition("/")[2].rpartition(".")
    return f"{stem[:8]}{'' if ending == 'json' else '.' + ending}"


def comma_separated(ledger: Ledger) -> str:
    """One line per reading, or one without numbers for a claim that has no reading; an empty field is a missing value."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n")
    write.writerow("claim profile verdict reading unit value low high n reading_verdict generated better detectable".split())
    for claim, outcomes in ledger.entries:
        for name, outcome in outcomes.items():
            for reading in outcome.readings or (None,):
                numbers = [""] * 4
                if reading is not None:
                    ends = (reading.value, reading.low, reading.high)
                    numbers = ["" if end is None else f"{end:.6g}" for end in ends] + [str(reading.n or "")]
                what_and_unit = (reading.what, reading.unit) if reading else ("", "")
                last = (reading.verdict, "yes" if reading.generated else "", reading.better) if reading else ("", "", "")
                least = "" if reading is None or reading.detectable is None else f"{reading.detectable:.6g}"
                write.writerow([claim.id, name, outcome.verdict, *what_and_unit, *numbers, *last, least])
    return out.getvalue()
