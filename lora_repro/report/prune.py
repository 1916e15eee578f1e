"""List or delete published files that no experiment asks for any more: runs, and searches whose rate no run adopts.

    python -m lora_repro prune profile=mini             lists them
    python -m lora_repro prune profile=mini --delete    deletes them from results/mini, with their hashes; git keeps them

A file is kept if an experiment asks for its run at this profile, or for a run that starts from it; any other file comes from an
earlier protocol. Measurements without training (results/<profile>/measures) are not touched.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from lora_repro import console
from lora_repro.cells import Cell, with_starts
from lora_repro.config import rates
from lora_repro.config.paths import ROOT, checkout_root
from lora_repro.errors import UserError
from lora_repro.records import manifest
from lora_repro.report import show
from lora_repro.results import declared_cells

KINDS = tuple(kind for kind in manifest.EVIDENCE if kind != "measures")


def requested_runs(profile: str) -> list[Cell]:
    """Every run that some experiment asks for at a profile, and the runs that these start from. Raises UserError, as `cells`."""
    return with_starts([cell for name in show.names() for cell in declared_cells(name, profile)])


def leftover(folder: Path, wanted: Iterable[Cell]) -> list[Path]:
    """The files of results/<profile> that belong to none of the `wanted` runs, neither as their results nor as rate trials."""
    wanted = list(wanted)
    runs, settings = {cell.signature for cell in wanted}, {rates.setting_signature(cell.asked) for cell in wanted}
    files = [path for kind in KINDS for path in sorted((folder / kind).glob("[!.]*"))]
    return [path for path in files if path.stem not in (settings if path.parent.name == "trials" else runs)]


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
    found = leftover(folder, requested_runs(profile))
    for path in found:
        print(path.relative_to(root))
    if given.delete:
        with manifest.changing(root / "results") as change:
            for path in found:
                change.remove(path)
    counts = ", ".join(f"{sum(path.parent.name == kind for path in found)} {kind}" for kind in KINDS)
    print(f"results/{profile}: {counts} that nothing asks for{'; deleted: now make render' if given.delete and found else ''}")
    return 0
