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
    """One line per profile."""
    said = []
    for profile in claims[0]["profiles"] if claims else ():
        outcomes = {claim["id"]: claim["profiles"][profile] for claim in claims}
        generated = any(one["generated"] for outcome in outcomes.values() for one in outcome["readings"])
        parts = []
        for verdict in (REPLICATED, REFUTED, CONTRADICTED):
            names = [name for name, outcome in outcomes.items() if outcome["verdict"] == verdict]
            if verdict == CONTRADICTED and not names:
                continue
            parts.append(" ".join([str(len(names)), verdict, *([f"({', '.join(names)})"] if names else [])]))
        data = "generated" if generated else "real"
        later = sum(claim["after_the_paper"] for claim in claims)
        of = f"[{len(outcomes)} claims](results/claims.md), {later} of them from later work,"
        said.append(f"- Of {of} at `{profile}`, {data} data: {', '.join(parts)}.\n")
    return "".join(said)


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
