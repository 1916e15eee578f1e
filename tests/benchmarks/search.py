"""What giving up rates on the way would have saved, and whether it would have chosen alike: searches that trained every rate.

Nothing is trained. Each published search whose trials all have a curve of training losses, and none was pruned, is judged
again by the rule of `lora_repro.sweep.grid`, with all of its rates at once. Hours are those that the trials took.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from lora_repro.config.paths import ROOT
from lora_repro.sweep.grid import PAUSE, kept, loss_on_the_way, ranking_key
from tests.benchmarks._table import told

HEADER = ["profile", "task", "searches", "rates", "hours, every rate to its end", "hours, pruned", "chosen alike", "most lost"]


class Judged(NamedTuple):
    """One search. lost: by how much the rate that pruning chooses is worse, in points of the held-out score or in the loss."""

    rates: int
    hours: float
    pruned: float
    lost: float


def judged(search: dict[str, Any]) -> Judged | None:
    """A search judged again; None if it has no curves, or if rates were given up in it."""
    by, trials = search["by"], search["trials"]
    if any(not one.get("train_losses") or one["status"] not in ("finished", "diverged") for one in trials):
        return None
    rates = sorted({one["lr"] for one in trials})
    of = [[one for one in trials if one["lr"] == rate] for rate in rates]
    going_on = kept({place: loss_on_the_way(those, PAUSE[by]) for place, those in enumerate(of)}, by)
    keys = [fmean(ranking_key(one, by)[0] for one in those) for those in of]
    hours = [sum(one["train_seconds"] for one in those) / 3600 for those in of]
    shares = [1 if place in going_on else PAUSE[by] for place in range(len(of))]
    scale = 100 if by == "score" else 1
    regret = scale * (min(keys[place] for place in going_on) - min(keys))
    return Judged(len(of), sum(hours), sum(share * one for share, one in zip(shares, hours, strict=True)), regret)


def searches(results: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(profile, task, search) of everything published."""
    for path in sorted(results.glob("*/trials/*.json")):
        entry = json.loads(path.read_text(encoding="utf-8"))
        for search in entry["searches"]:
            yield path.parts[-3], entry["task"], search


def measure(overrides: Sequence[str], results: Path = ROOT / "results") -> dict[str, Any]:
    """The table, and no line among the timings. `overrides` change nothing."""
    by_task: defaultdict[tuple[str, str], list[Judged]] = defaultdict(list)
    for profile, task, search in searches(results):
        if verdict := judged(search):
            by_task[profile, task].append(verdict)
    lines = []
    for (profile, task), those in sorted(by_task.items()):
        rates, hours, pruned_hours = (f"{sum(one[i] for one in those):.3g}" for i in range(3))
        alike, most = sum(one.lost == 0 for one in those), max(one.lost for one in those)
        lines.append([profile, task, str(len(those)), rates, hours, pruned_hours, f"{alike} of {len(those)}", f"{most:.2g}"])
    note = "Most lost: by how many points of score, or by what loss, the chosen rate is worse. Left out: searches without curves"
    table = {"title": "Searches that give up rates on the way (`tune.prune=true`)", "header": HEADER, "rows": lines, "note": note}
    return {"rows": told([]), "tables": [table]}
