"""Paired bootstrap over test inputs: how sure is a difference between two methods' scores? (Koehn 2004.)"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lora_repro.errors import UserError

Floats = NDArray[np.float64]
Statistics = Sequence[
    Mapping[str, object]
]  # one method's run: a dict per test input (`nlg.per_input_statistics`)
METRICS = ("bleu", "rouge_l", "cider", "slot_error_rate")
CHUNK = 100  # resamples drawn at a time: 100 × 630 counts stay small


class Interval(NamedTuple):
    """Score of a minus score of b with its 95% interval. Zero outside the interval: unlikely by chance."""

    difference: float
    low: float
    high: float
    n_inputs: int
    n_resamples: int


def corpus_bleu(sums: Floats) -> Floats:
    """BLEU of summed statistics [..., 10] (matches[4], totals[4], hyp_len, ref_len), by the rule of `bleu.bleu`; [...]."""
    matches, totals, hyp_len, ref_len = sums[..., :4], sums[..., 4:8], sums[..., 8], sums[..., 9]
    log_precision = np.log(np.maximum(matches, 1e-15) / np.maximum(totals, 1e-9)).mean(axis=-1)
    log_brevity = np.where(hyp_len <= ref_len, 1 - ref_len / np.where(hyp_len, hyp_len, 1e-5), 0.0)
    return np.asarray(np.exp(log_brevity + log_precision))


def _ratio(sums: Floats) -> Floats:
    """sum / sum: a mean over inputs, or errors over slots."""
    return np.asarray(sums[..., 0] / sums[..., 1])


def _columns(statistics: Statistics, metric: str) -> Floats:
    """[inputs, k] numbers whose sums over inputs give the corpus score."""
    try:
        if metric == "bleu":
            rows = [
                [*_list(r["matches"]), *_list(r["totals"]), r["hyp_len"], r["ref_len"]] for r in statistics
            ]
        elif metric == "slot_error_rate":
            rows = [[r["slot_errors"], r["slots"]] for r in statistics]
        else:
            rows = [[r[metric], 1.0] for r in statistics]
    except KeyError as error:
        raise UserError(
            f"no {error} in the per-input statistics: {metric} needs it; score the predictions again"
        ) from None
    return np.asarray(rows, dtype=np.float64)


def _list(value: object) -> list[object]:
    assert isinstance(value, list | tuple)
    return list(value)


def _runs(statistics: Statistics | Sequence[Statistics], metric: str) -> Floats:
    """[seeds, inputs, k] of one method; a single run counts as one seed."""
    seeds = [statistics] if statistics and isinstance(statistics[0], Mapping) else list(statistics)
    tables = [_columns(run, metric) for run in seeds]  # type: ignore[arg-type]
    if not tables or not len(tables[0]) or len({len(table) for table in tables}) > 1:
        raise UserError(
            f"seeds of {[len(table) for table in tables]} inputs: a bootstrap needs the same, non-empty test set in each"
        )
    return np.stack(tables)


def paired_bootstrap(
    stats_a: Statistics | Sequence[Statistics],
    stats_b: Statistics | Sequence[Statistics],
    n: int = 1000,
    seed: int = 0,
    metric: str = "bleu",
) -> Interval:
    """Difference a - b of a corpus metric with its 95% percentile interval over `n` resamples of the test inputs.

    stats_a, stats_b: one run's per-input statistics, or a list of runs (seeds); both methods on the same
    inputs in the same order. A resample draws inputs with replacement and scores every run of both methods on
    it; with several seeds, the mean corpus score of a's runs minus the mean of b's. The interval covers the
    choice of test inputs, not the spread over seeds. metric: bleu, rouge_l, cider (per-input scores as
    stored: document frequencies stay those of the whole test set) or slot_error_rate. Raises UserError on
    another metric, n < 1, no inputs, or inputs that differ in number.
    """
    if metric not in METRICS:
        raise UserError(f"metric={metric}: the bootstrap knows {', '.join(METRICS)}")
    if n < 1:
        raise UserError(f"n={n}: give at least 1 resample")
    a, b = _runs(stats_a, metric), _runs(stats_b, metric)
    inputs = a.shape[1]
    if b.shape[1] != inputs:
        raise UserError(
            f"{inputs} inputs against {b.shape[1]}: a paired bootstrap needs the same test inputs"
        )
    corpus = corpus_bleu if metric == "bleu" else _ratio

    def differences(weights: Floats) -> Floats:  # [resamples, inputs] -> [resamples]
        means = [corpus(np.einsum("ri,sik->rsk", weights, runs)).mean(axis=1) for runs in (a, b)]
        return np.asarray(means[0] - means[1])

    generator = np.random.default_rng(seed)
    chances = np.full(inputs, 1 / inputs)
    sizes = [min(CHUNK, n - start) for start in range(0, n, CHUNK)]
    drawn = np.concatenate(
        [differences(generator.multinomial(inputs, chances, size).astype(float)) for size in sizes]
    )
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(differences(np.ones((1, inputs)))[0]), float(low), float(high), inputs, n)
