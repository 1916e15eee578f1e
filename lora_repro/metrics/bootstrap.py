"""Paired bootstrap."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """Difference a - b with a 95% interval."""

    difference: float
    low: float
    high: float
    n_inputs: int
    n_resamples: int


def paired_bootstrap(stats_a: list, stats_b: list, n: int = 1000, seed: int = 0, metric: str = "bleu") -> Interval:
    """Bootstrap."""
    raise NotImplementedError
