"""What a sweep shows while its runs go on: a line on how far they are, and its table, row by row as rows are complete."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lora_repro import console
from lora_repro.errors import UserError
from lora_repro.planning.cells import Cell
from lora_repro.report.sweep_tables import Growing
from lora_repro.sweep.time_left import Pace

CLEAR = "\033[K"  # erases the rest of a terminal's line


class Progress:
    """The display of one sweep's process. pace: of the runs that it makes. growing: its table, if the experiment has one."""

    def __init__(self, pace: Pace, growing: Growing | None) -> None:
        self.pace, self.growing = pace, growing
        self.lock = threading.Lock()

    def began(self, cell: Cell) -> None:
        self.pace.began(cell)

    def ended(self, cell: Cell, failed: bool = False) -> None:
        """Print the row that is complete with this run, if one is, and how much is left. Call it for a recorded run, too."""
        with self.lock:  # so that the header comes before the first row
            told = self.pace.ended(cell, failed)
            if not failed and not console.quiet() and (lines := self._row(cell)):
                print("\n".join(["", *lines, ""]), flush=True)
            if told:
                console.say(told)

    def _row(self, cell: Cell) -> list[str]:
        try:
            return self.growing.ended(cell) if self.growing else []
        except UserError:  # the table at the end says what is wrong
            self.growing = None
            return []

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the runs at work on one line of a terminal, or every half minute in a log. For runs side by side, whose own bars
        would overwrite each other.
        """
        if console.quiet():
            yield
            return
        over = threading.Event()
        shower = threading.Thread(target=self._show, args=(over,), daemon=True)
        shower.start()
        try:
            yield
        finally:
            over.set()
            shower.join()

    def _show(self, over: threading.Event) -> None:
        alone = sys.stderr.isatty()
        while not over.wait(1.0 if alone else console.LOGGED):
            if line := self.line(shutil.get_terminal_size().columns - 1):
                with self.lock:
                    # Back at its first column, so that whatever is printed next replaces it.
                    sys.stderr.write(f"{line}{CLEAR}\r" if alone else f"{line}\n")
                    sys.stderr.flush()
        if alone:
            sys.stderr.write(CLEAR)

    def line(self, width: int) -> str:
        """`2 of 5 runs done, about 4 min left; LoRA e2e 12/32, Full fine-tuning e2e 8/32`; empty while no run is at work."""
        going = self.pace.at_work()
        if not going:
            return ""
        told = [f"{name(cell)} {f'{step}/{steps}' if step else 'starts'}" for cell, step, steps in going]
        text = f"{self.pace.told()}; {', '.join(told)}"
        return text if len(text) <= width else f"{text[: width - 3]}..."


def name(cell: Cell) -> str:
    """What the line calls a run."""
    return f"{cell.row.label} {cell.task}{f' seed {cell.seed}' if cell.seed else ''}"


def growing_table(arguments: Sequence[str], wanted: Sequence[Cell]) -> Growing | None:
    """The table of a sweep over an experiment's rows; None for a grid of one's own."""
    table = wanted[0].asked["row"]["table"]
    if not table:
        return None
    try:
        return Growing.of(table, arguments, wanted)
    except UserError:
        return None
