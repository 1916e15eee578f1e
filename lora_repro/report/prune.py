"""What is published and no experiment asks for any more: runs, and searches whose rate no run adopts (`commands/prune.py`)."""

from collections.abc import Iterable
from pathlib import Path

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
