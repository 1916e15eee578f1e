"""A difference of scores with its 95 % interval, as a table has it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lora_repro.stats.bootstrap import interval, paired_draws


class Interval(NamedTuple):
    """n_resamples: those in which both scores are defined."""

    difference: float
    low: float
    high: float
    n_inputs: int
    n_resamples: int


def paired_bootstrap(*given: Any, **more: Any) -> Interval:
    draws = paired_draws(*given, **more)
    count = int(np.count_nonzero(~np.isnan(draws.resamples)))
    return Interval(draws.difference, *interval(draws.resamples), draws.inputs, count)
