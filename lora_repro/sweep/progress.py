"""What a sweep shows before and while its runs go on.

First the expected time of what is missing here, by the times of the published runs. Then a line on how far the runs are, by their
own steps, how long they still have to go, by the sweep's own pace, and its table, row by row as rows are complete.
"""

from __future__ import annotations

import heapq
import json
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from lora_repro import console
from lora_repro.bisection import recorded, search_note
from lora_repro.config.paths import choices
from lora_repro.errors import UserError
from lora_repro.planning.cells import Cell
from lora_repro.records.run_folder import METRICS
from lora_repro.report.sweep_tables import Growing
from lora_repro.sweep.run_summary import duration, generated

CLEAR = "\033[K"  # erases the rest of a terminal's line
OPENING = 0.6  # the part before training, of what a run takes besides training and answering; scoring is the rest
TRAINING = 0.6  # the share of a run that its training takes, where nothing is published
EARLY = 0.02  # the share of a sweep below which its pace is not yet known
GENERATED = (
    "the data are generated: they show what a method costs here, that every step works, and whether your numbers are those that "
    "are published; they do not show which method is best, and no score compares with the paper's"
)


def announce(cells: Sequence[Cell], records: Mapping[str, Mapping[str, Any]], arguments: Sequence[str]) -> None:
    """Print how many of an experiment's runs are missing and about how long they take. Silent for a grid of one's own.

    records: signature -> published record. The estimate sums their `wall_seconds`, so it holds for a similar machine. A run that
    is not published counts as of unknown length.
    """
    table, profile = cells[0].asked["row"]["table"], cells[0].asked["profile_name"]
    if not table:
        return
    missing = sorted(cell.signature for cell in cells if recorded(cell) is None)
    seconds = [records[name]["measured"]["wall_seconds"] for name in missing if name in records]
    if profile == "smoke":
        console.say("profile smoke is for tests: its models are untrained and its numbers mean nothing; try profile=mini")
    elif any(map(generated, cells)):
        console.say(GENERATED)
    many, n_done = len(cells), len(cells) - len(missing)
    text = f"{table} at profile {profile}: {many} run{'s' * (many != 1)}{f', {n_done} already here' if n_done else ''}"
    if seconds:
        which = "" if len(seconds) == many else f"{len(seconds)} of them "
        text += f"; {which}took {sum(seconds) / 60:.0f} min, one after another, on the machine that published them"
    if seconds and (unknown := len(missing) - len(seconds)):
        text += f"; {unknown} of unknown duration"
    console.say("; ".join(filter(None, [text, search_note(cells)])))
    if others := others_of(table, cells, arguments):
        console.say(f"rows that {profile} leaves out: {', '.join(others)}; to run them, too, add the word all (make: ARGS=all)")


def others_of(table: str, cells: Sequence[Cell], arguments: Sequence[str]) -> list[str]:
    """The rows of a table that are not among these cells, if the experiment's profile, not the command line, left them out."""
    named = any(item.startswith(f"row/{table}=") for item in arguments)
    rows = {cell.row.name for cell in cells}
    return [] if named else [row for row in choices(f"row/{table}") if row not in rows]


@dataclass
class Work:
    """One run of a sweep. weight: its seconds on the machine that published it, or the mean of the others'.

    opening, training: the shares of `weight` before the first step and in training. begun: when it started here, None before;
    behind: the share that an earlier attempt had done by then.
    """

    cell: Cell
    weight: float
    opening: float
    training: float
    begun: float | None = None
    behind: float = 0.0

    @classmethod
    def of(cls, cell: Cell, record: Mapping[str, Any] | None, usual: float) -> Work:
        measurements = record["measured"] if record else {}
        total = measurements.get("wall_seconds")
        if not total:
            return cls(cell, usual, OPENING * (1 - TRAINING) / 2, TRAINING)
        training, answering = measurements.get("train_seconds") or 0.0, measurements.get("decode_seconds") or 0.0
        return cls(cell, total, OPENING * max(0.0, total - training - answering) / total, min(1.0, training / total))

    def share(self) -> float:
        """How much of this run is done, from 0 to 1, by the last step that it logged."""
        step, steps = steps_of(self.cell)
        return min(1.0, self.opening + self.training * step / steps) if step else 0.0


def steps_of(cell: Cell) -> tuple[int, int]:
    """The last step that a run logged, and the number of its steps; (0, 0) before the first."""
    try:
        lines = (cell.folder / METRICS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return 0, 0
    train = cell.asked["train"]
    for line in reversed(lines):
        try:
            entry = json.loads(line)
            step, epoch = int(entry["step"]), float(entry["epoch"])  # a validation's line has no epoch
            return step, max(step, int(train["steps"] or round(step / epoch * float(train["epochs"]))))
        except (ValueError, KeyError, TypeError, ZeroDivisionError):
            continue
    return 0, 0


@dataclass
class Pace:
    """The runs of a sweep that are still to make, in their order, `beside` at a time; `known`: signature -> published record."""

    missing: Sequence[Cell]
    known: Mapping[str, Mapping[str, Any]]
    beside: int = 1
    runs: int = 0
    spent: float = 0.0  # seconds of runs that have ended here
    done: float = 0.0  # and their weight, without what earlier attempts had done
    left: dict[str, Work] = field(init=False)
    lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        records = {cell.signature: self.known.get(cell.signature) for cell in self.missing}
        seconds = [value for record in records.values() if record and (value := record["measured"].get("wall_seconds"))]
        usual = statistics.mean(seconds) if seconds else 1.0
        self.left = {cell.signature: Work.of(cell, records[cell.signature], usual) for cell in self.missing}
        self.all = len(self.left)

    def began(self, cell: Cell) -> None:
        with self.lock:
            if work := self.left.get(cell.signature):
                work.begun, work.behind = time.monotonic(), work.share()

    def ended(self, cell: Cell, failed: bool = False) -> str:
        """`2 of 14 runs done, about 21 min left`; empty if nothing is due. A failed run is neither done nor left."""
        with self.lock:
            work = self.left.pop(cell.signature, None)
            if failed or work is None:
                return ""
            self.runs += 1
            if work.begun is not None:
                self.spent += time.monotonic() - work.begun
                self.done += (1 - work.behind) * work.weight
        return self.told() if self.left else ""

    def told(self) -> str:
        """`2 of 14 runs done, about 21 min left`."""
        seconds = self.seconds()
        return f"{self.runs} of {self.all} runs done" + (f", about {duration(seconds)} left" if seconds is not None else "")

    def at_work(self) -> list[tuple[Cell, int, int]]:
        """The runs that are going on, each with its last step and the number of its steps."""
        with self.lock:
            return [(work.cell, *steps_of(work.cell)) for work in self.left.values() if work.begun is not None]

    def seconds(self) -> float | None:
        """Seconds until the last run ends: what is left of every run at this sweep's pace, `beside` at a time.

        None until enough is done to know the pace.
        """
        now = time.monotonic()
        with self.lock:
            works = [(work, work.share()) for work in self.left.values()]
            going = [(work, share) for work, share in works if work.begun is not None]
            runtime = self.spent + sum(now - (work.begun or now) for work, _ in going)
            progress = self.done + sum((share - work.behind) * work.weight for work, share in going)
            everything = progress + sum((1 - share) * work.weight for work, share in works)
        if runtime <= 0 or progress < EARLY * everything:
            return None
        slots = [(1 - share) * work.weight for work, share in going]
        slots += [0.0] * (self.beside - len(slots))
        heapq.heapify(slots)
        for work, share in works:
            if work.begun is None:
                heapq.heapreplace(slots, slots[0] + (1 - share) * work.weight)
        return runtime / progress * max(slots)


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
            message = self.pace.ended(cell, failed)
            if not failed and not console.quiet() and (lines := self._row(cell)):
                print("\n".join(["", *lines, ""]), flush=True)
            if message:
                console.say(message)

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
        terminal = sys.stderr.isatty()
        while not over.wait(1.0 if terminal else console.LOGGED):
            if line := self.line(shutil.get_terminal_size().columns - 1):
                with self.lock:
                    # Back at its first column, so that whatever is printed next replaces it.
                    sys.stderr.write(f"{line}{CLEAR}\r" if terminal else f"{line}\n")
                    sys.stderr.flush()
        if terminal:
            sys.stderr.write(CLEAR)

    def line(self, width: int) -> str:
        """`2 of 5 runs done, about 4 min left; LoRA e2e 12/32, Full fine-tuning e2e 8/32`; empty while no run is at work."""
        going = self.pace.at_work()
        if not going:
            return ""
        runs = [f"{name(cell)} {f'{step}/{steps}' if step else 'starts'}" for cell, step, steps in going]
        text = f"{self.pace.told()}; {', '.join(runs)}"
        return text if len(text) <= width else f"{text[: width - 3]}..."


def name(cell: Cell) -> str:
    """What the line calls a run."""
    return f"{cell.row.label} {cell.task}{f' seed {cell.seed}' if cell.seed else ''}"


def growing_table(arguments: Sequence[str], cells: Sequence[Cell]) -> Growing | None:
    """The table of a sweep over an experiment's rows; None for a grid of one's own."""
    table = cells[0].asked["row"]["table"]
    if not table:
        return None
    try:
        return Growing.of(table, arguments, cells)
    except UserError:
        return None
