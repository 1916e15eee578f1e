"""Writes anew what is derived from published records: the ledger of claims with its figure, what was run, the report pages.

Tables and figures: `show.render_published`. Nothing but results/, conf/, docs/claims.md and docs/results.md is read.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from lora_repro import console
from lora_repro.errors import UserError
from lora_repro.files import write_text
from lora_repro.records import manifest, rates
from lora_repro.report import coverage, report_json
from lora_repro.report.claims import ledger
from lora_repro.report.figures import forest
from lora_repro.report.page.build import BEHIND, FRONT, pages
from lora_repro.report.show import all_published
from lora_repro.results import published


@rates.published_only()
def render_claims(root: Path) -> None:
    """Judge every claim; write results/{claims.md,claims.csv,README.md,report.json}, a figure of them for each profile, and the
    lines on results in README.md.

    root: the folder that holds results/ and README.md. Raises UserError if nothing is published there.
    """
    results = root / "results"
    judged = ledger.judge_all(ledger.load(), results)
    runs = coverage.page(results)
    with manifest.changing(results) as change:
        write_text(change.staged / "claims.md", ledger.markdown(judged))
        write_text(change.staged / "claims.csv", ledger.comma_separated(judged))
        report_json.update_report(change, claims=report_json.claim_entries(judged))
        write_text(change.staged / coverage.NAME, runs)
        for profile in judged.scales:
            forest.save(judged, profile, change.staged / profile / "figures" / "claims")
    more = ", README.md" if coverage.write_claim_lines(root) else ""
    for profile in judged.scales:
        counts = Counter(outcomes[profile].verdict for _, outcomes in judged.entries)
        print(f"{profile}: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
    print(f"wrote results/claims.md, claims.csv, report.json, README.md, */figures/claims.{{svg,png}}{more}")


@rates.published_only()
def render_pages(root: Path, profile: str | None = None, data: str | None = None) -> None:
    """Write report.html of one published profile, by default of each, and the pages behind it, report/<experiment>.html.

    root: the folder that holds results/ and runs/. profile: profile=NAME. data: a folder with the real data, whose texts the page
    then shows; it is written under runs/, because the data's own texts never enter results/. Raises UserError if the profile is
    not published.
    """
    for name in _profiles(profile, root):
        target = root / ("runs" if data else "results") / name / FRONT
        store = published(root / "results" / name)
        texts = pages(store, target, all_published(store), data)
        old = {path.relative_to(target.parent).as_posix(): path for path in (target.parent / BEHIND).glob("*.html")}
        gone = [path for address, path in old.items() if address not in texts]
        with manifest.writing_to(target.parent, gone) as folder:
            for address, text in texts.items():
                write_text(folder / address, text)
        size = sum(len(text.encode()) for text in texts.values()) / 1000
        print(f"wrote {target.relative_to(root)} and {len(texts) - 1} pages behind it ({size:,.0f} kB)")


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
