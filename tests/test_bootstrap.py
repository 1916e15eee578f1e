"""The paired bootstrap: exact corpus scores, known intervals, several seeds, mistakes."""

from typing import Any

import numpy as np
import pytest

from lora_repro.errors import UserError
from lora_repro.metrics import bleu
from lora_repro.metrics.bootstrap import corpus_bleu, paired_bootstrap

Row = dict[str, Any]


def runs(seed: int, quality: float, n: int = 60) -> list[Row]:
    """Per-input statistics of outputs that copy each reference token with probability `quality`."""
    draw = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        reference = [f"w{draw.integers(20)}" for _ in range(12)]
        output = [token if draw.random() < quality else "x" for token in reference]
        counts = bleu.bleu_counts(" ".join(output), [" ".join(reference)])
        score = output.count("x") / 12
        row = {
            **counts._asdict(),
            "rouge_l": 1 - score,
            "cider": 10 - score,
            "slots": 3 + i % 5,
            "slot_errors": i % 3,
        }
        rows.append(row)
    return rows


def literal_bleu(rows: list[Row]) -> float:
    return bleu.bleu([bleu.BleuCounts(r["matches"], r["totals"], r["hyp_len"], r["ref_len"]) for r in rows])


def test_difference_is_that_of_the_corpus_scores() -> None:
    a, b = runs(1, 0.8), runs(1, 0.6)
    assert paired_bootstrap(a, b, n=10).difference == pytest.approx(
        literal_bleu(a) - literal_bleu(b), abs=1e-12
    )
    rouge = np.mean([r["rouge_l"] for r in a]) - np.mean([r["rouge_l"] for r in b])
    assert paired_bootstrap(a, b, n=10, metric="rouge_l").difference == pytest.approx(rouge)


def test_slot_error_rate_is_sum_over_sum() -> None:
    a = [{"slots": 8, "slot_errors": 4}, {"slots": 2, "slot_errors": 0}]
    b = [{"slots": 8, "slot_errors": 0}, {"slots": 2, "slot_errors": 1}]
    assert paired_bootstrap(a, b, n=5, metric="slot_error_rate").difference == pytest.approx(4 / 10 - 1 / 10)


@pytest.mark.parametrize("output", ["", "a", "a b", "a b c d e f g h", "x y z x y z"])
def test_vectorised_bleu_equals_the_literal_one(output: str) -> None:
    counts = bleu.bleu_counts(output, ["a b c d e f", "a b"])
    sums = np.array([*counts.matches, *counts.totals, counts.hyp_len, counts.ref_len], dtype=float)
    assert corpus_bleu(sums) == pytest.approx(bleu.bleu([counts]), rel=1e-12)


def test_resamples_equal_a_literal_bootstrap() -> None:
    a, b = runs(1, 0.8, n=9), runs(2, 0.7, n=9)
    draw = np.random.default_rng(5)
    differences = []
    for weights in draw.multinomial(9, np.full(9, 1 / 9), 40):
        chosen = [i for i, times in enumerate(weights) for _ in range(times)]
        differences.append(literal_bleu([a[i] for i in chosen]) - literal_bleu([b[i] for i in chosen]))
    interval = paired_bootstrap(a, b, n=40, seed=5)
    assert (interval.low, interval.high) == pytest.approx(
        tuple(np.percentile(differences, [2.5, 97.5])), abs=1e-12
    )


def test_interval_of_a_mean_matches_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(size=400)
    a, b = [{"cider": 1 + float(v)} for v in values], [{"cider": 0.0}] * 400
    interval = paired_bootstrap(a, b, n=2000, metric="cider")
    half = 1.96 * values.std() / 20
    assert interval.low == pytest.approx(1 + values.mean() - half, abs=0.012)
    assert interval.high == pytest.approx(1 + values.mean() + half, abs=0.012)
    assert (interval.n_inputs, interval.n_resamples) == (400, 2000)


def test_pairing_makes_equal_methods_differ_by_nothing() -> None:
    interval = paired_bootstrap(runs(1, 0.7), runs(1, 0.7))
    assert interval[:3] == (0, 0, 0)


def test_better_excludes_zero_and_order_flips_the_sign() -> None:
    a, b = runs(1, 0.9), runs(2, 0.5)
    ahead, behind = paired_bootstrap(a, b), paired_bootstrap(b, a)
    assert 0 < ahead.low < ahead.difference < ahead.high
    assert behind.difference == pytest.approx(-ahead.difference) and behind.high < 0


def test_seeds_average_corpus_scores_on_the_same_resample() -> None:
    a, b = [runs(s, 0.8) for s in (1, 2, 3)], [runs(s, 0.7) for s in (4, 5)]
    expected = np.mean([literal_bleu(r) for r in a]) - np.mean([literal_bleu(r) for r in b])
    assert paired_bootstrap(a, b, n=20).difference == pytest.approx(expected)
    assert paired_bootstrap([a[0]], b[0], n=20) == paired_bootstrap(a[0], [b[0]], n=20)


def test_same_seed_same_interval() -> None:
    a, b = runs(1, 0.8), runs(2, 0.7)
    assert paired_bootstrap(a, b, seed=3) == paired_bootstrap(a, b, seed=3)
    assert paired_bootstrap(a, b, seed=3) != paired_bootstrap(a, b, seed=4)


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        (runs(1, 0.5), runs(1, 0.5, n=59), {}, "60 inputs against 59"),
        ([runs(1, 0.5), runs(1, 0.5, n=3)], runs(1, 0.5), {}, r"seeds of \[60, 3\] inputs"),
        ([], [], {}, "non-empty"),
        ([[]], [[]], {}, "non-empty"),
        (runs(1, 0.5), runs(1, 0.5), {"metric": "meteor"}, "metric=meteor: the bootstrap knows bleu"),
        (runs(1, 0.5), runs(1, 0.5), {"n": 0}, "n=0"),
        ([{"bleu": 1}], [{"bleu": 1}], {}, "no 'matches' in the per-input statistics"),
    ],
)
def test_mistakes_are_named(a: Any, b: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        paired_bootstrap(a, b, **options)
