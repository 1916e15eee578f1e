"""The grid of a learning-rate search: which trial is best, which rate comes next, when the best is bracketed, which are pruned.

A rate is a place on the grid, the exponent of 3 by which it exceeds the row's first guess. Of its trials only their `ranking_key`
counts, which is lowest for the best. A trial that lies far behind on the way is given up there (successive halving, Jamieson &
Talwalkar 2016, arXiv:1502.07943, with a single step): after a third of its length if the loss chooses and it is not in the better
half of all rates tried; after half if the score does and it is not one of the best two. It is judged by its training loss, which
orders rates at a third of the length less well where a score chooses.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from lora_repro.records.rates import PRUNED
from lora_repro.train.progress import pause_step

FACTOR = 3
FIRST = (0, -1, 1)  # places that every search has
PAUSE = {"loss": 1 / 3, "score": 1 / 2}  # what chooses -> the share of its length after which a trial may be given up
WINDOW = 2  # bins of training losses, a twentieth of the length each, whose mean decides
PRUNED_KEY = 1e300  # of a pruned trial: behind every finished one, before a diverged one


def ranking_key(trial: Mapping[str, Any], by: str) -> tuple[float, float]:
    """The key by which trials are ranked, lowest best: (negated score, loss), or by=loss (loss, loss); infinite if diverged."""
    if trial.get("status") == PRUNED:
        return PRUNED_KEY, PRUNED_KEY
    loss, score = (trial.get(key) for key in ("dev_loss", "dev_score"))
    if loss is None:
        return math.inf, math.inf
    return (loss if by == "loss" else math.inf if score is None else -score), loss


def mean_ranking_key(trials: Sequence[Mapping[str, Any]], by: str) -> tuple[float, float]:
    """The mean `ranking_key` over the trials of one rate, each with a seed of its own."""
    scores, losses = zip(*(ranking_key(trial, by) for trial in trials), strict=True)
    return statistics.fmean(scores), statistics.fmean(losses)


def best_place(keys: Mapping[int, tuple[float, float]]) -> int:
    """The place with the lowest `ranking_key`, of equal ones the smaller rate's. `keys`: place -> mean key of its trials."""
    return min(keys, key=lambda place: (keys[place], place))


def next_place(keys: Mapping[int, tuple[float, float]], most: int, chance: float = math.inf) -> int | None:
    """The place to try next; None when the search has ended. `keys`: place -> mean `ranking_key` of its trials.

    chance: a rate whose key is not below it has learnt nothing, and its neighbours differ from it by noise alone. While no rate
    has learnt, smaller and larger ones are tried in turn, but none above one that diverged or has no score.
    """
    for place in FIRST:
        if place not in keys:
            return place
    if len(keys) >= most:
        return None
    low, high = min(keys), max(keys)
    side = edge(keys)
    if keys[best_place(keys)][0] >= chance:
        side = "low" if -low <= high or keys[high][0] == math.inf else "high"
    return {"low": low - 1, "high": high + 1, None: None}[side]


def edge(keys: Mapping[int, tuple[float, float]]) -> str | None:
    """`low` or `high`: the side on which the best rate has no worse neighbour; None if it is bracketed.

    A diverged trial is worse than any other. If all diverged, the rates are too large, and the edge is `low`.
    """
    best = best_place(keys)
    return "low" if best == min(keys) else "high" if best == max(keys) else None


def loss_on_the_way(trials: Sequence[Mapping[str, Any]], share: float) -> float:
    """The training loss of one rate's trials after `share` of their length: the mean of the last `WINDOW` bins up to there.

    Infinite if one of them diverged.
    """
    if any(trial["status"] == "diverged" for trial in trials):
        return math.inf
    until = [[loss for step, loss in trial["train_losses"] if step <= _paused_at(trial, share)] for trial in trials]
    return statistics.fmean(statistics.fmean(losses[-WINDOW:]) for losses in until)


def _paused_at(trial: Mapping[str, Any], share: float) -> int:
    steps = int(trial["steps"])
    return pause_step(steps, share) if trial["status"] == "finished" else steps


def kept(losses: Mapping[int, float], by: str) -> set[int]:
    """The places whose trials are trained to their end. losses: of every place tried, `loss_on_the_way`; by: what chooses."""
    number = math.ceil(len(losses) / 2) if by == "loss" else 2
    return set(sorted(losses, key=lambda place: (losses[place], place))[:number])
