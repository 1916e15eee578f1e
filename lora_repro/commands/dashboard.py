"""Build a W&B workspace from a profile's tables, figures and runs.

    lora-repro dashboard profile=mini             upload tables and figures as one run, save the workspace
    lora-repro dashboard profile=mini --dry-run   print the workspace instead (or DRY_RUN=1); needs no key
    WANDB_MODE=offline lora-repro dashboard       keep the run here for `wandb sync`; needs no key

It takes this checkout's tables and figures (runs/<profile>); of those that are missing there, the published ones
(results/<profile>). Panels are made from these files, so a new table or figure needs no change here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from lora_repro import console
from lora_repro.config.paths import ROOT
from lora_repro.tracking import dashboard


@console.command
def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """The command line above; returns the exit status."""
    parser = console.parser("dashboard", __doc__)
    parser.add_argument("profile", nargs="?", default="profile=mini", help="profile=mini (default)")
    parser.add_argument("--dry-run", action="store_true", help="print the workspace as JSON (or DRY_RUN=1)")
    options = parser.parse_args(arguments)
    profile = console.named_profile(options.profile)
    artefacts = dashboard.find(root, profile)
    spec = dashboard.workspace(artefacts, profile)
    if options.dry_run or os.environ.get("DRY_RUN", "") not in ("", "0"):
        print(json.dumps(spec, indent=1, ensure_ascii=False))
    else:
        from lora_repro.tracking.wandb_board import save

        tables = {f"tables/{stem}": dashboard.rows(path) for stem, path in artefacts.tables.items()}
        if verdicts := dashboard.claims(root, profile):
            tables[dashboard.CLAIMS] = verdicts
        figures = {f"figures/{stem}": path for stem, path in artefacts.figures.items()}
        print(f"saved: {save(spec, tables, figures, root / 'runs' / profile)}")
    return 0
