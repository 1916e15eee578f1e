"""In how many simulated cases an interval holds the true difference: prints the table of docs/protocol.md.

    python tests/interval_coverage.py
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from lora_repro.metrics.corpus import Floats
from lora_repro.stats.bootstrap import Draws, Resampled, difference, resampled_scores
from lora_repro.stats.spread import SEEDS, Pooled, pooled

INPUTS, RESAMPLES = 40, 1000
OTHERS = 7  # rows beside the two, trained alike with `SEEDS` seeds each
FALL = 40.0  # by how much a lost seed is worse


class Case(NamedTuple):
    """What a comparison of two rows of k seeds is made of, in units of the error that its inputs leave with one seed.

    spread: the standard deviation of the seeds. common: of one seed's error, as a variance, what all seeds share. lost: the share
    of seeds on which the first row fails, far below the others. alike: of the seeds' variance and of the error's other part, the
    share that both rows' runs of one seed have in common. wide: by how much the seeds of a third of the other rows spread more.
    """

    seeds: int
    spread: float
    common: float
    lost: float = 0.0
    alike: float = 0.0
    wide: float = 1.0


class Drawn(NamedTuple):
    """The runs of two rows, and the spread that they share with other rows, if any."""

    sides: list[list[Resampled | None]]
    common: Pooled | None


# As the published comparisons have them (means over them): E2E, QLoRA beside LoRA, SST-2, and STS-B where seeds are lost.
LIKE_OURS = {
    "E2E, 3 seeds": Case(3, 3.3, 0.08),
    "E2E, 5 seeds": Case(5, 3.3, 0.08),
    "QLoRA beside LoRA on E2E, 3 seeds": Case(3, 2.1, 0.1, alike=0.9),
    "SST-2, 3 seeds": Case(3, 1.0, 0.05),
    "SST-2, 3 seeds, a third of the other rows spreads twice as far": Case(3, 1.0, 0.05, wide=2.0),
    "SST-2, 3 seeds, a third of the other rows spreads half as far": Case(3, 1.0, 0.05, wide=0.5),
    "STS-B, one row loses a fifth of its seeds, 3 seeds": Case(3, 1.0, 0.05, 0.2),
    "STS-B, one row loses two fifths of its seeds, 5 seeds": Case(5, 1.0, 0.05, 0.4),
}


def paired(drawn: Drawn) -> Floats:
    return _found(drawn, True, None).resamples


def welch(drawn: Drawn) -> Floats:
    return _found(drawn, False, None).resamples


def by_task(drawn: Drawn) -> Floats:
    """As rows are compared that do not share start and rate."""
    return _found(drawn, False, drawn.common).resamples


def without_widening(drawn: Drawn) -> Floats:
    draws = _found(drawn, True, None)
    return draws.by_shared_inputs + draws.by_seeds / (stdtrit(draws.error.freedom, 0.975) / 1.96)


def counted_twice(drawn: Drawn) -> Floats:
    """How each seed does on each input, once by the seeds and once more by the inputs."""
    draws = _found(drawn, True, None)
    return draws.by_inputs + draws.by_seeds


Rule = Callable[[Drawn], Floats]
BESIDE: Mapping[str, Rule] = {"paired": paired, "Welch": welch, "by the task's spread": by_task}


def _found(drawn: Drawn, together: bool, common: Pooled | None) -> Draws:
    return difference(drawn.sides, "cider", n=RESAMPLES, paired=together, common=common)


def _drawn(case: Case, generator: np.random.Generator) -> Drawn:
    half = np.sqrt(1 / 2)  # of a difference's deviation each row has this
    shared_noise = generator.normal(size=INPUTS) * np.sqrt(INPUTS * case.common)
    own = np.sqrt(INPUTS * (1 - case.common))

    def row(seeds: int, wide: float = 1.0) -> Floats:
        of_seeds, of_inputs = generator.normal(size=(seeds, 1)) * case.spread, generator.normal(size=(seeds, INPUTS)) * own
        return np.asarray(wide * half * (of_seeds + of_inputs))

    both = row(case.seeds)
    first, second = (np.sqrt(case.alike) * both + np.sqrt(1 - case.alike) * row(case.seeds) for _ in range(2))
    if case.lost:
        first = first - FALL * (generator.random((case.seeds, 1)) < case.lost)
    others = [row(SEEDS, case.wide if place % 3 == 0 else 1.0).mean(axis=1) for place in range(OTHERS)]
    sides = [[resampled_scores([{"cider": float(one)} for one in run], "cider", RESAMPLES) for run in side]
             for side in (first + shared_noise, second)]  # fmt: skip
    return Drawn(sides, pooled([*(side.mean(axis=1).tolist() for side in (first, second)), *map(list, others)]))


def held(case: Case, cases: int, rules: Mapping[str, Rule] = BESIDE) -> dict[str, tuple[float, float]]:
    """Of each rule, the share of cases whose middle 95 % hold the true difference, and the mean width of these intervals."""
    generator, totals = np.random.default_rng(0), np.zeros((len(rules), 2))
    truth = -FALL * case.lost
    for _ in range(cases):
        sample = _drawn(case, generator)
        for place, rule in enumerate(rules.values()):
            low, high = np.percentile(rule(sample), [2.5, 97.5])
            totals[place] += (low <= truth <= high), high - low
    return {name: (float(share), float(width)) for name, (share, width) in zip(rules, totals / cases, strict=True)}


def main() -> None:
    spreads = (0.5, 1, 2, 4)
    print("| |", *(f"{spread:g} |" for spread in spreads))
    print("|---|" + "---:|" * len(spreads))
    for common, label, other, name in (
        (1.0, "all in common", without_widening, "without widening"),
        (0.125, "an eighth in common", counted_twice, "the seeds' own error counted twice"),
    ):
        for seeds in (3, 5):
            shares = [held(Case(seeds, spread, common), 2000, {"ours": paired, "other": other}) for spread in spreads]
            for rule, row in (("ours", f"{seeds} seeds, {label}"), ("other", name)):
                print(f"| {row} |", *(f"{100 * share[rule][0]:.1f} % |" for share in shares), flush=True)
    print("\n| |", *(f"{name} | mean width |" for name in BESIDE))
    print("|---|" + "---:|" * 2 * len(BESIDE))
    for name, case in LIKE_OURS.items():
        print(f"| {name} |", *(f"{100 * share:.1f} % | {width:.1f} |" for share, width in held(case, 2000).values()), flush=True)


if __name__ == "__main__":
    main()
