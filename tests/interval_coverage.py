"""In how many simulated cases an interval holds the true difference: prints the table of docs/protocol.md.

    python tests/interval_coverage.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import stdtrit

from lora_repro.metrics.bootstrap import Draws, Floats, paired_draws

Rule = Callable[[Draws], Floats]
INPUTS, RESAMPLES = 40, 1000


def _widening(k: int) -> float:
    return float(np.sqrt(k / (k - 1)) * stdtrit(k - 1, 0.975) / 1.96)


def ours(found: Draws) -> Floats:
    return found.resamples


def without_widening(found: Draws) -> Floats:
    return found.by_inputs + found.by_seeds / _widening(found.each.shape[1])


def seeds_on_drawn_inputs(found: Draws) -> Floats:
    n, k = found.each.shape
    chosen = np.random.default_rng([0, k]).integers(k, size=(n, k))
    moved = np.take_along_axis(found.each, chosen, axis=1).mean(axis=1) - found.by_inputs
    return np.asarray(found.by_inputs + _widening(k) * moved)


def held(seeds: int, spread: float, common: float, cases: int, rules: Sequence[Rule] = (ours,)) -> list[float]:
    """Of each rule, the share of cases whose middle 95 % hold the true difference, 0.

    Seeds differ by `spread`; one seed's error over the inputs is 1, and of its variance all seeds have `common` in common.
    """
    generator, inside = np.random.default_rng(0), np.zeros(len(rules))
    for _ in range(cases):
        shared = generator.normal(size=INPUTS) * np.sqrt(INPUTS * common)
        own = generator.normal(size=(seeds, INPUTS)) * np.sqrt(INPUTS * (1 - common))
        values = generator.normal(size=(seeds, 1)) * spread + shared + own
        a = [[{"cider": one} for one in run] for run in values.tolist()]
        found = paired_draws(a, [[{"cider": 0.0}] * INPUTS] * seeds, n=RESAMPLES, metric="cider")
        for place, rule in enumerate(rules):
            low, high = np.percentile(rule(found), [2.5, 97.5])
            inside[place] += low <= 0 <= high
    return list(inside / cases)


def main() -> None:
    spreads = (0.5, 1, 2, 4)
    print("| |", *(f"{spread:g} |" for spread in spreads))
    print("|---|" + "---:|" * len(spreads))
    for common, said, other, name in (
        (1.0, "all in common", without_widening, "without widening"),
        (0.125, "an eighth in common", seeds_on_drawn_inputs, "seeds drawn by their scores on the drawn inputs"),
    ):
        for seeds in (3, 5):
            shares = [held(seeds, spread, common, 2000, (ours, other)) for spread in spreads]
            for place, row in enumerate((f"{seeds} seeds, {said}", name)):
                print(f"| {row} |", *(f"{100 * share[place]:.1f} % |" for share in shares), flush=True)


if __name__ == "__main__":
    main()
