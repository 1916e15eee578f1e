"""What an experiment is asked to show, and what it then shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from lora_repro.planning.cells import Cell, cells, data_hint
from lora_repro.report.table import Table
from lora_repro.results import Store, declared_cells


@dataclass(frozen=True)
class ReportRequest:
    """An experiment (the stem of its files), a profile, and the training command's other overrides."""

    name: str
    profile: str
    overrides: tuple[str, ...] = ()

    @cached_property
    def cells(self) -> list[Cell]:
        """Every run that is asked for. Raises UserError for anything that conf/ does not declare."""
        return declared_cells(self.name, self.profile, self.overrides)

    @cached_property
    def swept(self) -> set[str]:
        """The signatures that the training command runs: a profile may run fewer seeds than its rows ask for."""
        return {cell.signature for cell in cells([f"experiment={self.name}", f"profile={self.profile}", *self.overrides])}

    def command(self, cell: Cell) -> str:
        """The command that runs all that is asked for. The reader fills in the folder of the data that `cell`'s task needs."""
        hint = [] if any(item.startswith("paths.data=") for item in self.overrides) else data_hint(cell.asked["task"])
        return " ".join(
            ["lora-repro run", f"experiment={self.name}", f"profile={self.profile}", *self.overrides, *hint]
        )

    def said(self, signatures: Iterable[str]) -> str:
        """How many of the runs asked for have one of these signatures."""
        records, every = set(signatures), {cell.signature for cell in self.cells}
        more = every - self.swept
        beyond = f"; {len(records & more)} of {len(more)} more rows and seeds, which this command does not run" if more else ""
        return f"{len(records & self.swept)} of {len(self.swept)} runs asked for are recorded{beyond}"


@dataclass(frozen=True)
class Exhibit:
    """Tables and the figures beside them.

    stem: of their files. title: what they are of, in a few words. said: one line on what there is. draw: draws the figures at a
    path without suffix; returns the files. keep: whether to write files. heading: whose results these are, if no column says it.
    words: what its intervals mean, for a terminal.
    """

    stem: str
    title: str
    tables: tuple[Table, ...]
    said: str
    draw: Callable[[Path], list[Path]]
    keep: bool = True
    heading: str = ""
    words: tuple[str, ...] = ()


class Declaration(Protocol):
    """The type of TABLE in experiments/<name>.py.

    If it shows a `Pivot` and more beside, that is its `pivot`; if runs do not make it, `command(ask)` is what does.
    """

    def exhibits(self, ask: ReportRequest, stores: Sequence[Store]) -> list[Exhibit]:
        """The exhibits of what the stores have of `ask`; empty if they have nothing to show."""


def belonging(stems: list[str], figures: list[str]) -> dict[str, list[str]]:
    """Table stem -> its figures. A figure belongs to the longest table stem with which its name begins: `rank_cost` to `rank`.

    A figure without a table is a section of its own.
    """
    by_stem: dict[str, list[str]] = {stem: [] for stem in stems}
    for name in sorted(figures):
        homes = [stem for stem in stems if name == stem or name.startswith(f"{stem}_")]
        by_stem.setdefault(max(homes, key=len, default=name), []).append(name)
    return by_stem
