"""Interleaved timing, and the slow-down of one call against another with its uncertainty. Knows nothing of models."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Call = Callable[[], object]


def interleaved(
    calls: Mapping[str, Call],
    rounds: int,
    warmup: int,
    wait: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
    warm: bool = True,
) -> dict[str, list[float]]:
    """Milliseconds of each call in each round, in the order of rounds.

    Every round runs all calls in a new random order, so a drift of the machine affects all of them, and cancels in the ratio of
    two times of one round. warm: run each call untimed just before it is timed, so that its weights are in the caches, as on a
    server that runs nothing else. wait: returns when the device has finished (CUDA launches are asynchronous); it runs before
    each reading of the clock.
    """
    for call in calls.values():
        for _ in range(warmup):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    draw = random.Random(0)
    for _ in range(rounds):
        for name in draw.sample(list(calls), len(calls)):
            if warm:
                calls[name]()
            wait()
            started = clock()
            calls[name]()
            wait()
            times[name].append(1e3 * (clock() - started))
    return times


@dataclass(frozen=True)
class SlowdownEstimate:
    """Median slow-down in per cent, its 95 % interval, and the number of rounds behind them."""

    median: float
    low: float
    high: float
    n: int


def slowdown(times: Sequence[float], plain: Sequence[float], resamples: int) -> SlowdownEstimate:
    """100 (median_i(t_i / p_i) - 1) over rounds i, with a percentile-bootstrap interval of that median.

    The rounds are resampled, so the interval covers only the noise of this machine during this measurement. Raises ValueError
    unless both have one positive time per round.
    """
    ratios = np.asarray(times, float) / np.asarray(plain, float)
    if len(times) != len(plain) or not len(ratios) or not (np.isfinite(ratios) & (ratios > 0)).all():
        raise ValueError("times and plain must hold one positive number for each round")
    chosen = np.random.default_rng(0).integers(len(ratios), size=(resamples, len(ratios)))
    low, high = np.percentile(np.median(ratios[chosen], axis=1), [2.5, 97.5])
    median, low, high = (float(100 * (value - 1)) for value in (np.median(ratios), low, high))
    return SlowdownEstimate(median, low, high, len(ratios))
