"""Compare this checkout's finished runs with the published ones, cell by cell: reproduced, differs, or not run.

    lora-repro verify experiment=e2e profile=mini    after make reproduce-e2e; one row: row/e2e=lora
    lora-repro verify                                every experiment that is published at mini
    lora-repro verify --all                          is everything in results/ what was published?

A cell is reproduced if it differs from the published one by no more than the spread allows:

    over seeds     Student's interval of a difference of means, the standard deviation over seeds pooled over a task's rows
    over machines  if narrower: the differences of other rows between the same seeds here and published, three at least

Both are at 5 % for the whole table, by Bonferroni. Where no row has two seeds, a cell that is off by more than half of its last
printed digit is undecided: it needs another seed.

Only scores are compared, not spectra or norms of updates, latencies or memory. An experiment without scores (subspace, delta_w,
latency) is reported as not compared.

--all compares no runs: it checks the hash of every published file, that no file lacks one, every record's own hash, its name and
files, and computes its scores again from its predictions. Its exit status is 0 if all of that holds, else 1, with a line for each
fault.

Exit status: 0 all are reproduced; 1 one differs; 2 none differs, but one is not run, undecided or not compared, or nothing is
published. `make verify` exits with 2 in both failing cases, since make has one status for a command that failed.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lora_repro import console
from lora_repro.config.paths import ROOT, checkout_root
from lora_repro.errors import UserError
from lora_repro.records import rates
from lora_repro.report import show, verify


def parser() -> argparse.ArgumentParser:
    arg_parser = console.parser("verify", __doc__)
    arg_parser.add_argument("--all", action="store_true", help="check everything that is published, without comparing runs")
    arg_parser.add_argument("settings", nargs="*", help="experiment=e2e, profile=mini (default), other overrides of run")
    return arg_parser


@console.command
@rates.published_only()
def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """The command line above; returns the exit status. `root`: the folder that holds runs/ and results/."""
    options = parser().parse_args(arguments)
    settings = options.settings
    checkout_root("comparing with what is published")
    if options.all:
        if settings:
            raise UserError(f"--all takes no settings: leave out {settings[0]}")
        return verify.check_published(root / "results")
    experiments = [item.partition("=")[2] for item in settings if item.startswith("experiment=")]
    others = [item for item in settings if not item.startswith("experiment=")]
    verdicts = [verdict for name in experiments or show.names() for verdict in verify.verify(name, others, root)]
    counts = Counter(verdicts)
    statuses = [verdict for verdict in verify.STATUS if counts[verdict]]
    parts = [console.paint(f"{counts[verdict]} {verdict}", verify.COLOUR.get(verdict, console.YELLOW)) for verdict in statuses]
    print(", ".join(parts) or "nothing to compare: none of the runs asked for is published")
    return 1 if counts[verify.DIFFERS] else max((verify.STATUS[verdict] for verdict in counts), default=2)
