"""In how many simulated cases an interval holds the true difference: prints the table of docs/protocol.md.

    python tests/interval_coverage.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from lora_repro.metrics.corpus import Floats
from lora_repro.stats.bootstrap import Draws, paired_draws

Rule = Callable[[Draws], Floats]
INPUTS, RESAMPLES = 40, 1000


class Case(NamedTuple):
    """What a comparison of k seeds is made of, in units of the error that its inputs leave with one seed.

    spread: the standard deviation of the seeds. common: of one seed's error, as a variance, what all seeds share. lost: the share
    of seeds on which a row fails, far below the others.
    """

    seeds: int
    spread: float
    common: float
    lost: float = 0.0


# As the published comparisons have them (means over them): E2E, QLoRA beside LoRA, SST-2, and STS-B where seeds are lost.
LIKE_OURS = {
    "E2E, 3 seeds": Case(3, 3.3, 0.08),
    "E2E, 5 seeds": Case(5, 3.3, 0.08),
    "QLoRA beside LoRA on E2E, 3 seeds": Case(3, 0.3, 0.1),
    "SST-2, 3 seeds": Case(3, 1.0, 0.05),
    "STS-B, one row loses a fifth of its seeds, 3 seeds": Case(3, 1.0, 0.05, 0.2),
    "STS-B, one row loses two fifths of its seeds, 5 seeds": Case(5, 1.0, 0.05, 0.4),
}
FALL = 40.0  # by how much a lost seed is worse


def _widening(k: int) -> float:
    return float(np.sqrt(k / (k - 1)) * stdtrit(k - 1, 0.975) / 1.96)


def ours(found: Draws) -> Floats:
    return found.resamples


def without_widening(found: Draws) -> Floats:
    return found.by_shared_inputs + found.by_seeds / _widening(found.each.shape[1])


def counted_twice(found: Draws) -> Floats:
    """How each seed does on each input, once by the seeds and once more by the inputs."""
    return found.by_inputs + found.by_seeds


def held(case: Case, cases: int, rules: Sequence[Rule] = (ours,)) -> list[tuple[float, float]]:
    """Of each rule, the share of cases whose middle 95 % hold the true difference, and the mean width of these intervals."""
    generator, found = np.random.default_rng(0), np.zeros((len(rules), 2))
    truth = -FALL * case.lost
    for _ in range(cases):
        shared = generator.normal(size=INPUTS) * np.sqrt(INPUTS * case.common)
        own = generator.normal(size=(case.seeds, INPUTS)) * np.sqrt(INPUTS * (1 - case.common))
        seeds = generator.normal(size=(case.seeds, 1)) * case.spread
        seeds -= FALL * (generator.random((case.seeds, 1)) < case.lost) if case.lost else 0.0
        values = seeds + shared + own
        a = [[{"cider": one} for one in run] for run in values.tolist()]
        drawn = paired_draws(a, [[{"cider": 0.0}] * INPUTS] * case.seeds, n=RESAMPLES, metric="cider")
        for place, rule in enumerate(rules):
            low, high = np.percentile(rule(drawn), [2.5, 97.5])
            found[place] += (low <= truth <= high), high - low
    return [(float(share), float(width)) for share, width in found / cases]


def main() -> None:
    spreads = (0.5, 1, 2, 4)
    print("| |", *(f"{spread:g} |" for spread in spreads))
    print("|---|" + "---:|" * len(spreads))
    for common, said, other, name in (
        (1.0, "all in common", without_widening, "without widening"),
        (0.125, "an eighth in common", counted_twice, "the seeds' own error counted twice"),
    ):
        for seeds in (3, 5):
            shares = [held(Case(seeds, spread, common), 2000, (ours, other)) for spread in spreads]
            for place, row in enumerate((f"{seeds} seeds, {said}", name)):
                print(f"| {row} |", *(f"{100 * share[place][0]:.1f} % |" for share in shares), flush=True)
    print("\n| | holds the truth | mean width | counted twice | mean width |\n|---|---:|---:|---:|---:|")
    for name, case in LIKE_OURS.items():
        shown = [f"{100 * share:.1f} % | {width:.1f}" for share, width in held(case, 2000, (ours, counted_twice))]
        print(f"| {name} |", " | ".join(shown), "|", flush=True)


if __name__ == "__main__":
    main()
