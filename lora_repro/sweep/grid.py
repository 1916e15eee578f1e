"""The grid of a learning-rate search: which trial is best, which rate is tried next, and when the best is bracketed.

A rate is a place on the grid, the exponent of 3 by which it exceeds the row's first guess. Of its trials only their `ranking_key`
counts, which is lowest for the best.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

FACTOR = 3
FIRST = (0, -1, 1)  # places that every search has


def ranking_key(found: Mapping[str, Any], by: str) -> tuple[float, float]:
    """The key by which trials are ranked, lowest best: (negated score, loss), or by=loss (loss, loss); infinite if diverged."""
    loss, score = (found.get(key) for key in ("dev_loss", "dev_score"))
    if loss is None:
        return math.inf, math.inf
    return (loss if by == "loss" else math.inf if score is None else -score), loss


def mean_ranking_key(found: Sequence[Mapping[str, Any]], by: str) -> tuple[float, float]:
    """The mean `ranking_key` over the trials of one rate, each with a seed of its own."""
    scores, losses = zip(*(ranking_key(one, by) for one in found), strict=True)
    return statistics.fmean(scores), statistics.fmean(losses)


def best_place(done: Mapping[int, tuple[float, float]]) -> int:
    """The place with the lowest `ranking_key`, of equal ones the smaller rate's. `done`: place -> mean key of its trials."""
    return min(done, key=lambda place: (done[place], place))


def next_place(done: Mapping[int, tuple[float, float]], most: int, chance: float = math.inf) -> int | None:
    """The place to try next; None when the search has ended. `done`: place -> mean `ranking_key` of its trials.

    chance: a rate whose key is not below it has learnt nothing, and its neighbours differ from it by noise alone. While no rate
    has learnt, smaller and larger ones are tried in turn, but none above one that diverged or has no score.
    """
    for place in FIRST:
        if place not in done:
            return place
    if len(done) >= most:
        return None
    low, high = min(done), max(done)
    side = edge(done)
    if done[best_place(done)][0] >= chance:
        side = "low" if -low <= high or done[high][0] == math.inf else "high"
    return {"low": low - 1, "high": high + 1, None: None}[side]


def edge(done: Mapping[int, tuple[float, float]]) -> str | None:
    """`low` or `high`: the side on which the best rate has no worse neighbour; None if it is bracketed.

    A diverged trial is worse than any other. If all diverged, the rates are too large, and the edge is `low`.
    """
    best = best_place(done)
    return "low" if best == min(done) else "high" if best == max(done) else None
