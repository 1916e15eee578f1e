"""Judge every claim of conf/claim by the published records and write results/claims.md and results/claims.csv.

    python -m lora_repro.claims

Reads results/*/{records,predictions,updates,measures} alone, trains nothing, needs no network.
"""

import argparse

from lora_repro import manners


def parser() -> argparse.ArgumentParser:
    return manners.parser("lora_repro.claims", __doc__)


manners.begin(__name__, parser)  # --help does not wait for the imports below

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lora_repro.claims import ledger
from lora_repro.errors import UserError
from lora_repro.record import write_text

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command line above; returns the exit status. `root`: the folder that holds results/."""
    parser().parse_args(arguments)
    results = root / "results"
    try:
        found = ledger.judge_all(ledger.load(), results)
        write_text(results / "claims.md", ledger.markdown(found))
        write_text(results / "claims.csv", ledger.comma_separated(found))
    except UserError as error:
        return manners.failed(error)
    for profile in found.scales:
        counts = Counter(outcomes[profile].verdict for _, outcomes in found.entries)
        print(f"{profile}: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
    print("wrote results/claims.md, results/claims.csv")
    return 0


if __name__ == "__main__":
    sys.exit(main())
