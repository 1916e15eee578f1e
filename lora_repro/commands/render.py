"""Render everything published again: all tables and figures, the claims and the report pages.

    python -m lora_repro render

It does the work of `table --published`, `claims` and `report` in one process, which is faster: each run is composed once. It
reads results/ only; the same records give the same bytes.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from lora_repro import console
from lora_repro.commands import claims
from lora_repro.commands import report as pages
from lora_repro.commands import table as table_command
from lora_repro.config.paths import ROOT, checkout_root


def parser() -> argparse.ArgumentParser:
    return console.parser("render", __doc__)


@console.command
def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """The command line above; returns the exit status. `root`: the folder that holds results/."""
    parser().parse_args(arguments)
    checkout_root("rendering everything published")
    return max(table_command.main(["--published"], root), claims.main([], root), pages.main([], root))
