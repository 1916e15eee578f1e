"""List or delete published files that no experiment asks for any more: runs, and searches whose rate no run adopts.

    python -m lora_repro prune profile=mini             lists them
    python -m lora_repro prune profile=mini --delete    deletes them from results/mini, with their hashes; git keeps them

A file is kept if an experiment asks for its run at this profile, or for a run that starts from it; any other file comes from an
earlier protocol. Measurements without training (results/<profile>/measures) are not touched.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lora_repro import console
from lora_repro.config.paths import ROOT, checkout_root
from lora_repro.errors import UserError
from lora_repro.records import manifest, rates
from lora_repro.report import prune


def parser() -> argparse.ArgumentParser:
    made = console.parser("prune", __doc__)
    made.add_argument("profile", nargs="?", default="profile=mini", help="profile=mini (default)")
    made.add_argument("--delete", action="store_true", help="delete the listed files")
    return made


@console.command
@rates.published_only()
def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """The command line above; returns the exit status. `root`: the folder that holds results/."""
    given = parser().parse_args(arguments)
    profile = console.named_profile(given.profile)
    folder = root / "results" / profile
    if not folder.is_dir():
        raise UserError(f"nothing is published at profile {profile}: there is no {folder}")
    checkout_root("pruning what is published")
    manifest.check_evidence(folder)
    found = prune.leftover(folder, prune.requested_runs(profile))
    for path in found:
        print(path.relative_to(root))
    if given.delete:
        with manifest.changing(root / "results") as change:
            for path in found:
                change.remove(path)
    counts = ", ".join(f"{sum(path.parent.name == kind for path in found)} {kind}" for kind in prune.KINDS)
    print(f"results/{profile}: {counts} that nothing asks for{'; deleted: now make render' if given.delete and found else ''}")
    return 0
