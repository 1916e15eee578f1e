"""How far a sweep's runs are, by their own steps, and how long it still has to go, by its own pace."""

from __future__ import annotations

import heapq
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from lora_repro.planning.cells import Cell
from lora_repro.records.run_folder import METRICS
from lora_repro.sweep.run_summary import duration

OPENING = 0.6  # the part before training, of what a run takes besides training and answering; scoring is the rest
TRAINING = 0.6  # the share of a run that its training takes, where nothing is published
EARLY = 0.02  # the share of a sweep below which its pace is not yet known


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
    def of(cls, cell: Cell, published: Mapping[str, Any] | None, usual: float) -> Work:
        measured = published["measured"] if published else {}
        whole = measured.get("wall_seconds")
        if not whole:
            return cls(cell, usual, OPENING * (1 - TRAINING) / 2, TRAINING)
        training, answering = measured.get("train_seconds") or 0.0, measured.get("decode_seconds") or 0.0
        return cls(cell, whole, OPENING * max(0.0, whole - training - answering) / whole, min(1.0, training / whole))

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
            found = json.loads(line)
            step, epoch = int(found["step"]), float(found["epoch"])  # a validation's line has no epoch
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
        found = {cell.signature: self.known.get(cell.signature) for cell in self.missing}
        seconds = [value for one in found.values() if one and (value := one["measured"].get("wall_seconds"))]
        usual = statistics.mean(seconds) if seconds else 1.0
        self.left = {cell.signature: Work.of(cell, found[cell.signature], usual) for cell in self.missing}
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
        left = self.seconds()
        return f"{self.runs} of {self.all} runs done" + (f", about {duration(left)} left" if left is not None else "")

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
            spent = self.spent + sum(now - (work.begun or now) for work, _ in going)
            done = self.done + sum((share - work.behind) * work.weight for work, share in going)
            everything = done + sum((1 - share) * work.weight for work, share in works)
        if spent <= 0 or done < EARLY * everything:
            return None
        slots = [(1 - share) * work.weight for work, share in going]
        slots += [0.0] * (self.beside - len(slots))
        heapq.heapify(slots)
        for work, share in works:
            if work.begun is None:
                heapq.heapreplace(slots, slots[0] + (1 - share) * work.weight)
        return spent / done * max(slots)
