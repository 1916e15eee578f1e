"""How long a sweep has still to go, from its own pace: printed after its first, second, fourth, eighth run and so on."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from threading import Lock

from lora_repro.cells import Cell
from lora_repro.sweep.run_summary import duration


class Pace:
    """The missing runs of a sweep, each weighted by its seconds in `known` (signature -> seconds), or else by their mean.

    Runs side by side need no special case, since the pace is measured by the time since the sweep began.
    """

    def __init__(self, missing: Sequence[Cell], known: Mapping[str, float]) -> None:
        seconds = {cell.signature: known.get(cell.signature) for cell in missing}
        usual = statistics.mean(found) if (found := [value for value in seconds.values() if value]) else 1.0
        self.left = {name: value or usual for name, value in seconds.items()}
        self.all, self.runs, self.began, self.done, self.lock = len(self.left), 0, time.monotonic(), 0.0, Lock()

    def ended(self, cell: Cell, failed: bool = False) -> str:
        """`2 of 14 runs done, about 21 min left`; empty if nothing is due. A failed run is neither done nor left."""
        with self.lock:
            weight = self.left.pop(cell.signature, 0.0)
            if failed or not weight:
                return ""
            self.done, self.runs = self.done + weight, self.runs + 1
            if not self.left or self.runs & (self.runs - 1):
                return ""
            left = (time.monotonic() - self.began) / self.done * sum(self.left.values())
        return f"{self.runs} of {self.all} runs done, about {duration(left)} left"
