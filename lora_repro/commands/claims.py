"""Judge every claim of conf/claim by the published records; write results/{claims,README}.md and report.json.

    python -m lora_repro claims

It also draws every claim of a profile in one figure and updates the lines on results in README.md. It reads what is
published, conf/ and docs/claims.md, trains nothing and needs no network.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lora_repro import console
from lora_repro.config.paths import ROOT, checkout_root
from lora_repro.files import write_text
from lora_repro.records import manifest, rates
from lora_repro.report import coverage, readme, report_json
from lora_repro.report.claims import ledger
from lora_repro.report.figures import forest


def parser() -> argparse.ArgumentParser:
    return console.parser("claims", __doc__)


@console.command
@rates.published_only()
def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """The command line above; returns the exit status. `root`: the folder that holds results/."""
    parser().parse_args(arguments)
    checkout_root("judging the claims")
    results = root / "results"
    found = ledger.judge_all(ledger.load(), results)
    with manifest.changing(results) as change:
        write_text(change.staged / "claims.md", ledger.markdown(found))
        write_text(change.staged / "claims.csv", ledger.comma_separated(found))
        report_json.update_report(change, claims=report_json.claim_entries(found))
        write_text(change.staged / coverage.NAME, coverage.page(results))
        for profile in found.scales:
            forest.save(found, profile, change.staged / profile / "figures" / "claims")
    more = ", README.md" if readme.write(root) else ""
    for profile in found.scales:
        counts = Counter(outcomes[profile].verdict for _, outcomes in found.entries)
        print(f"{profile}: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
    print(f"wrote results/claims.md, claims.csv, report.json, README.md, */figures/claims.{{svg,png}}{more}")
    return 0
