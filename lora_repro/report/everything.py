"""Render all that is published again: every table and figure, the claims, the pages. One process composes each run once.

    python -m lora_repro render

What `table --published`, `claims` and `report` do, one after the other. Reads results/ alone: the same records, the same bytes.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from lora_repro import cli
from lora_repro.config.place import ROOT, checkout
from lora_repro.report import present
from lora_repro.report.claims import command as claims
from lora_repro.report.page import command as pages


def parser() -> argparse.ArgumentParser:
    return cli.parser("render", __doc__)


@cli.command
def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """The command line above; returns the exit status. `root`: the folder that holds results/."""
    parser().parse_args(arguments)
    checkout("rendering all that is published")
    return max(present.main(["--published"], root), claims.main([], root), pages.main([], root))
