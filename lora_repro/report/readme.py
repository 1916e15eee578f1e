"""The results in README.md: which claims are replicated and which are not at each profile.

`python -m lora_repro render claims` writes these lines between two marks, from results/report.json alone.
"""

from __future__ import annotations

from pathlib import Path

from lora_repro.files import write_text
from lora_repro.report import report_json
from lora_repro.stats.verdict import CONTRADICTED, REFUTED, REPLICATED

MARKS = "<!-- make claims writes the lines from here -->\n", "<!-- to here -->\n"


def lines(claims: list[report_json.Answer]) -> str:
    """For each profile, real data first, and each verdict: how many claims have it, and their statements."""
    later = sum(claim["after_the_paper"] for claim in claims)
    said = []
    for profile in claims[0]["profiles"] if claims else ():
        outcomes = [(claim["statement"], claim["profiles"][profile]) for claim in claims]
        generated = any(one["generated"] for _, outcome in outcomes for one in outcome["readings"])
        data = "generated" if generated else "real"
        part = f"- `{profile}`, {data} data, [{len(claims)} claims](results/claims.md), {later} from later work:\n"
        for verdict in (REPLICATED, REFUTED, CONTRADICTED):
            statements = [statement for statement, outcome in outcomes if outcome["verdict"] == verdict]
            if statements:
                part += f"    - **{len(statements)} {verdict}**: {' '.join(statements)}\n"
        said.append((generated, part))
    return "".join(part for _, part in sorted(said, key=lambda one: one[0]))


def write(root: Path) -> bool:
    """Write the lines into README.md of `root`, which holds results/. Returns whether the file has the marks."""
    path = root / "README.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if not all(mark in text for mark in MARKS):
        return False
    head, rest = text.split(MARKS[0])
    for left in root.glob(".README.md.*.tmp"):  # by a killed process
        left.unlink()
    claims = lines(report_json.read(root / "results")["claims"])
    write_text(path, f"{head}{MARKS[0]}{claims}{MARKS[1]}{rest.split(MARKS[1])[1]}")
    return True
