"""What is published and no experiment asks for any more: runs, and searches whose rate no run adopts (`publish --prune`)."""

from collections.abc import Iterable
from pathlib import Path

from lora_repro.errors import UserError
from lora_repro.planning.cells import Cell, with_starts
from lora_repro.records import manifest, rates
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


@rates.published_only()
def prune(profile: str, delete: bool, root: Path) -> None:
    """Print the files of results/<profile> that nothing asks for; with `delete` delete them, with their hashes.

    root: the folder that holds results/. Raises UserError if nothing is published at the profile.
    """
    folder = root / "results" / profile
    if not folder.is_dir():
        raise UserError(f"nothing is published at profile {profile}: there is no {folder}")
    manifest.check_evidence(folder)
    files = leftover(folder, requested_runs(profile))
    for path in files:
        print(path.relative_to(root))
    if delete:
        with manifest.changing(root / "results") as change:
            for path in files:
                change.remove(path)
    counts = ", ".join(f"{sum(path.parent.name == kind for path in files)} {kind}" for kind in KINDS)
    print(f"results/{profile}: {counts} that nothing asks for{'; deleted: now make render' if delete and files else ''}")
