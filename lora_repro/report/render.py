"""Writes anew what is derived from published records: the ledger of claims, what was run, the report pages.

Tables and figures: `show.render_published`. Nothing but results/, conf/ and docs/claims.md is read.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from lora_repro import console
from lora_repro.errors import UserError
from lora_repro.files import write_text
from lora_repro.records import manifest, rates
from lora_repro.report import coverage, readme, report_json
from lora_repro.report.claims import ledger
from lora_repro.report.page.build import page


@rates.published_only()
def render_claims(root: Path) -> None:
    """Judge every claim; write results/{claims.md,claims.csv,README.md,report.json} and the lines on results in README.md.

    root: the folder that holds results/ and README.md. Raises UserError if nothing is published there.
    """
    results = root / "results"
    judged = ledger.judge_all(ledger.load(), results)
    with manifest.changing(results) as change:
        write_text(change.staged / "claims.md", ledger.markdown(judged))
        write_text(change.staged / "claims.csv", ledger.comma_separated(judged))
        report_json.update_report(change, claims=report_json.claim_entries(judged))
        write_text(change.staged / coverage.NAME, coverage.page(results))
    more = ", README.md" if readme.write(root) else ""
    for profile in judged.scales:
        counts = Counter(outcomes[profile].verdict for _, outcomes in judged.entries)
        print(f"{profile}: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
    print(f"wrote results/claims.md, results/claims.csv, results/report.json, results/README.md{more}")


@rates.published_only()
def render_pages(root: Path, profile: str | None = None, data: str | None = None) -> None:
    """Write report.html of one published profile, by default of each.

    root: the folder that holds results/ and runs/. profile: profile=NAME. data: a folder with the real data, whose texts the page
    then shows; it is written under runs/, because the data's own texts never enter results/. Raises UserError if the profile is
    not published.
    """
    for name in _profiles(profile, root):
        target = root / ("runs" if data else "results") / name / "report.html"
        text = page(root / "results", name, target, data)
        with manifest.writing_to(target.parent) as folder:
            write_text(folder / target.name, text)
        print(f"wrote {target.relative_to(root)} ({len(text.encode()) / 1000:,.0f} kB)")


def _profiles(given: str | None, root: Path) -> list[str]:
    """The profile that profile=NAME names, by default each that is published."""
    published = sorted(path.parent.name for path in (root / "results").glob("*/records"))
    if given is None:
        if not published:
            raise UserError("nothing is published under results/ yet; see make publish")
        return published
    profile = console.named_profile(given)
    if profile not in published:
        raise UserError(f"no records under results/{profile}; published: {', '.join(published) or 'none'}")
    return [profile]
