"""Paired bootstrap over test inputs and seeds: how certain is a difference between two methods' scores? (Koehn 2004.)"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from lora_repro.errors import UserError
from lora_repro.metrics import chrf, meteor, rouge

Floats = NDArray[np.float64]
# One method's run: a dict per test input (`per_input_statistics` of nlg, webnlg or glue).
Statistics = Sequence[Mapping[str, object]]
Runs = Statistics | Sequence[Statistics | None]  # None: a run that diverged and predicted nothing
Rows = list[list[object]]
GROUPS = ("seen", "unseen")  # parts of one test set, by the `group` of a row
CHUNK = 100  # resamples drawn at a time: for QQP, GLUE's largest dev set, 100 × 40,430 counts take 32 MB


class InputVariance(NamedTuple):
    """The variance that the draw of test inputs causes: what all seeds share of it, and what one seed has of its own.

    A mean over k seeds has shared + own / k.
    """

    shared: float
    own: float

    @classmethod
    def of(cls, each: Floats) -> "InputVariance":
        """each: [n, k], the value of k seeds in n resamples of the inputs; NaN if none of them is defined for all seeds.

        With V_1 the mean variance of one seed and V_k that of the mean over k, shared = (k V_k - V_1) / (k - 1), at least 0 and
        at most V_1: the mean covariance of two seeds. With one seed all of it counts as shared.
        """
        defined = each[~np.isnan(each).any(axis=1)]
        if not len(defined):
            return cls(np.nan, np.nan)
        k, one, mean = defined.shape[1], float(defined.var(axis=0).mean()), float(defined.mean(axis=1).var())
        shared = one if k == 1 else min(max(0.0, (k * mean - one) / (k - 1)), one)
        return cls(shared, one - shared)


class Draws(NamedTuple):
    """A difference of scores, the same in n resamples, and the number of inputs.

    each: [n, k], the difference of each pair of seeds in n resamples of the inputs, NaN where undefined; of two methods that are
    not paired [n, 1], that of their means. by_seeds: [n], how far drawing seeds moves the mean, widened for an interval at 5 %.
    freedom: the degrees of freedom of the spread over seeds, k - 1 for k seeds; of two methods that are not paired the fewer,
    infinite for one seed each.
    """

    difference: float
    each: Floats
    inputs: int
    by_seeds: Floats
    freedom: float

    @property
    def by_inputs(self) -> Floats:
        """[n], the mean over seeds in each resample of the inputs."""
        return np.asarray(self.each.mean(axis=1))

    @property
    def by_shared_inputs(self) -> Floats:
        """`by_inputs` with its deviations from its mean shrunk to what all seeds share of them (`InputVariance`).

        The rest, how each seed does on each input, already moves the seeds apart, so it counts in `by_seeds`. Where `by_seeds` is
        less than it, as when seeds are alike by luck, so much of it is kept that both together are no surer than `by_inputs`.
        """
        mean, found = self.by_inputs, InputVariance.of(self.each)
        whole = found.shared + found.own / self.each.shape[1]
        if not whole > 0:  # inputs that say nothing, or no resample that is defined
            return mean
        kept = min(max(found.shared, whole - float(self.by_seeds.var())), whole)
        centre = np.nanmean(mean)
        return np.asarray(centre + (mean - centre) * np.sqrt(kept / whole))

    @property
    def resamples(self) -> Floats:
        """[n], of inputs and seeds: their middle 95 % are the difference's interval."""
        return self.by_shared_inputs + self.by_seeds

    def at(self, level: float) -> Floats:
        """The resamples widened for an interval at `level` instead, by t(1 - level / 2) / z(1 - level / 2)."""
        return self.resamples + (_widening(level, self.freedom) / _widening(LEVEL, self.freedom) - 1) * self.by_seeds

    def less(self, other: "Draws") -> "Draws":
        """This difference minus another one that drew the same inputs and seeds."""
        whole = self.difference - other.difference, self.each - other.each
        return Draws(*whole, self.inputs, self.by_seeds - other.by_seeds, min(self.freedom, other.freedom))


LEVEL = 0.05


def _widening(level: float, freedom: float) -> float:
    return float(stdtrit(freedom, 1 - level / 2) / ndtri(1 - level / 2))


def corpus_bleu(sums: Floats) -> Floats:
    """BLEU of summed statistics [..., 10] (matches[4], totals[4], hyp_len, ref_len), by the rule of `bleu.bleu`; [...]."""
    matches, totals, hyp_len, ref_len = sums[..., :4], sums[..., 4:8], sums[..., 8], sums[..., 9]
    log_precision = np.log(np.maximum(matches, 1e-15) / np.maximum(totals, 1e-9)).mean(axis=-1)
    log_brevity = np.where(hyp_len <= ref_len, 1 - ref_len / np.where(hyp_len, hyp_len, 1e-5), 0.0)
    return np.asarray(np.exp(log_brevity + log_precision))


def _divide(top: Floats, bottom: Floats, undefined: float = np.nan) -> Floats:
    """top / bottom; `undefined` where bottom is 0."""
    return np.divide(top, bottom, out=np.full_like(top, undefined), where=bottom != 0)


def _ratio(sums: Floats) -> Floats:
    """The first sum over the second: a mean over inputs, or errors over slots."""
    return _divide(sums[..., 0], sums[..., 1])


def _corpus_f1(sums: Floats) -> Floats:
    """F1 of summed [..., tp, fp, fn] by the rule of `glue.f1`, or of several such triples by that of `glue.macro_f1`; [...]."""
    if sums.shape[-1] > 3:
        tp, fp, fn = _triples(sums)
        known = np.maximum((tp + fp + fn > 0).sum(axis=-1), 1)
        return np.asarray(_divide(2 * tp, 2 * tp + fp + fn, undefined=0).sum(axis=-1) / known)
    tp, fp, fn = np.moveaxis(sums, -1, 0)
    return _divide(2 * tp, 2 * tp + fp + fn, undefined=0)


def _corpus_matthews(sums: Floats) -> Floats:
    """Matthews correlation, by the rule of `glue.matthews`, of summed [..., tp, fp, fn, tn] or a triple for each class; [...]."""
    if sums.shape[-1] != 4:
        tp, fp, fn = _triples(sums)
        said, right, n = tp + fp, tp + fn, (tp + fn).sum(axis=-1)
        spread = (n * n - (said * said).sum(axis=-1)) * (n * n - (right * right).sum(axis=-1))
        return _divide(tp.sum(axis=-1) * n - (said * right).sum(axis=-1), np.sqrt(spread), undefined=0)
    tp, fp, fn, tn = np.moveaxis(sums, -1, 0)
    squared = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return _divide(tp * tn - fp * fn, np.sqrt(squared), undefined=0)


def _corpus_pearson(sums: Floats) -> Floats:
    """Pearson correlation of summed [..., 1, x, y, x², y², xy], NaN where x or y does not vary; [...]."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread_x, spread_y = xx - x * x / n, yy - y * y / n
    # Equal numbers leave rounding error as spread, not 0, since they may differ from the mean that was subtracted.
    vary = (spread_x > 1e-12 * xx) & (spread_y > 1e-12 * yy)
    spread = np.sqrt(np.where(vary, spread_x, 0)) * np.sqrt(np.where(vary, spread_y, 0))
    return np.clip(_divide(xy - x * y / n, spread), -1, 1)


def _triples(sums: Floats) -> Floats:
    """[3, ..., classes]: tp, fp and fn of each class, from [..., 3 classes]."""
    return np.moveaxis(sums.reshape(*sums.shape[:-1], -1, 3), -1, 0)


def _by_class(*keys: str) -> Callable[[Statistics], Rows | Floats]:
    """The stored counts of two classes or, of more, tp, fp and fn of each class from `gold` and `predicted`."""

    def columns(statistics: Statistics) -> Rows | Floats:
        if not statistics or "predicted" not in statistics[0]:
            return [[row[key] for key in keys] for row in statistics]
        sides = [np.array([str(row[key]) for row in statistics]) for key in ("gold", "predicted")]
        right, said = (side[:, None] == np.unique(np.concatenate(sides)) for side in sides)
        found = np.stack([right & said, ~right & said, right & ~said], axis=-1)
        return found.reshape(len(statistics), -1).astype(np.float64)

    return columns


def _bleu_columns(statistics: Statistics) -> Rows:
    return [[*_list(r["matches"]), *_list(r["totals"]), r["hyp_len"], r["ref_len"]] for r in statistics]


def _meteor_columns(statistics: Statistics) -> Rows:
    return [_list(row["meteor"]) for row in statistics]


def _pearson_columns(statistics: Statistics) -> Floats:
    """1, x, y, x², y², xy, of x and y minus their means over the test set.

    Subtracting a constant does not change a correlation, and squares of numbers near 0 lose fewer digits.
    """
    sides = [np.array([r[key] for r in statistics], dtype=np.float64) for key in ("predicted", "gold")]
    x, y = (side - side.sum() / max(len(side), 1) for side in sides)
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)


def _list(value: object) -> list[object]:
    assert isinstance(value, list | tuple)
    return list(value)


def _keys(*keys: str) -> Callable[[Statistics], Rows]:
    """Columns that are stored numbers."""
    return lambda statistics: [[row[key] for key in keys] for row in statistics]


def _mean_of(key: str) -> Callable[[Statistics], Rows]:
    """A stored number, and 1 as the divisor."""
    return lambda statistics: [[row[key], 1.0] for row in statistics]


class CorpusMetric(NamedTuple):
    """How to score a resample.

    columns: k numbers per input, [inputs, k]. corpus: the score from their sums, [..., k] -> [...], NaN if undefined. worst: the
    score of a run without predictions, or whose predictions have no score (a correlation of equal numbers).
    """

    columns: Callable[[Statistics], Rows | Floats]
    corpus: Callable[[Floats], Floats]
    worst: float = 0.0


def _within(metric: CorpusMetric, group: str) -> CorpusMetric:
    """The same metric on the test inputs of one group; NaN if a resample has none of them."""

    def columns(statistics: Statistics) -> Floats:
        inside = np.array([row["group"] == group for row in statistics], dtype=np.float64)
        table = np.asarray(metric.columns(statistics), dtype=np.float64)
        return np.concatenate([table * inside[:, None], inside[:, None]], axis=-1)

    def corpus(sums: Floats) -> Floats:
        return np.where(sums[..., -1] > 0, metric.corpus(sums[..., :-1]), np.nan)

    return CorpusMetric(columns, corpus, metric.worst)


_ABOUT_TRIPLES = {
    "bleu": CorpusMetric(_bleu_columns, corpus_bleu),
    "meteor": CorpusMetric(_meteor_columns, meteor.corpus),
    "ter": CorpusMetric(_keys("ter_edits", "ter_words"), _ratio, worst=1.0),
}
METRICS: Mapping[str, CorpusMetric] = {
    **_ABOUT_TRIPLES,
    **{f"{name}_{group}": _within(_ABOUT_TRIPLES[name], group) for name in _ABOUT_TRIPLES for group in GROUPS},
    "rouge_l": CorpusMetric(_mean_of("rouge_l"), _ratio),
    "cider": CorpusMetric(_mean_of("cider"), _ratio),
    "slot_error_rate": CorpusMetric(_keys("slot_errors", "slots"), _ratio, worst=1.0),
    "accuracy": CorpusMetric(_mean_of("correct"), _ratio),
    "f1": CorpusMetric(_by_class("tp", "fp", "fn"), _corpus_f1),
    "matthews": CorpusMetric(_by_class("tp", "fp", "fn", "tn"), _corpus_matthews),
    "exact_match": CorpusMetric(_mean_of("exact_match"), _ratio),
    "chrf": CorpusMetric(lambda statistics: [_list(row["chrf"]) for row in statistics], chrf.scores),
    "own_score": CorpusMetric(_mean_of("own_score"), _ratio),
    "pearson": CorpusMetric(_pearson_columns, _corpus_pearson),
    "logical_form_accuracy": CorpusMetric(_mean_of("logical_form"), _ratio),
    "execution_accuracy": CorpusMetric(_mean_of("execution"), _ratio),
    **{metric: CorpusMetric(_mean_of(metric), _ratio) for metric in rouge.METRICS},
}


UNDRAWN = ("nist", "spearman", "accuracy_matched", "accuracy_mismatched")  # scores without a bootstrap; 0 is their worst


def counted_score(record: Mapping[str, Any], metric: str) -> float | None:
    """The score with which a run counts in means and comparisons; None if a finished run has no such score.

    A collapsed run has its own score, or the metric's `worst` if that is undefined (0 for a correlation).
    A diverged run, which predicts nothing, has the metric's `worst`.
    """
    value: float | None = (record["measured"].get("scores") or {}).get(metric)
    if value is not None or record["status"] == "finished":
        return value
    return METRICS[metric].worst if metric in METRICS else 0.0 if metric in UNDRAWN else None


def columns(statistics: Statistics, metric: str) -> Floats:
    """[inputs, k] numbers whose sums over inputs give the corpus score. Raises UserError if a statistic is missing."""
    try:
        return np.asarray(METRICS[metric].columns(statistics), dtype=np.float64)
    except KeyError as error:
        raise UserError(
            f"the per-input statistics have no {error}, which {metric} needs: score the predictions again"
        ) from None


def _runs(statistics: Runs, metric: str) -> list[Floats | None]:
    """[inputs, k] for each seed of one method, None for a diverged one; a single run counts as one seed."""
    seeds = [statistics] if statistics and isinstance(statistics[0], Mapping) else list(statistics)
    tables = [None if run is None else columns(run, metric) for run in seeds]  # type: ignore[arg-type]
    sizes = [len(table) for table in tables if table is not None]
    if not seeds or 0 in sizes or len(set(sizes)) > 1:
        raise UserError(f"seeds with {sizes} inputs: a bootstrap needs the same, non-empty test set for each seed")
    return tables


@lru_cache(maxsize=4)  # a table compares many pairs of methods on the same few test sets
def resamples(inputs: int, n: int, seed: int) -> list[NDArray[np.uint16]]:
    """How often each input is drawn, [up to CHUNK resamples, inputs] at a time."""
    generator, chances = np.random.default_rng(seed), np.full(inputs, 1 / inputs)
    sizes = [min(CHUNK, n - start) for start in range(0, n, CHUNK)]
    return [generator.multinomial(inputs, chances, size).astype(np.uint16) for size in sizes]


def detectable(error: float, level: float = LEVEL) -> float:
    """The least true difference that a comparison with this error shows with a chance of 80 %: at 5 % (1.96 + 0.84) errors."""
    return float(ndtri(1 - level / 2) + ndtri(0.8)) * error


def paired_draws(stats_a: Runs, stats_b: Runs, n: int = 1000, seed: int = 0, metric: str = "bleu") -> Draws:
    """The difference a - b of a corpus metric and its `n` resamples of inputs and seeds, whose middle 95 % are its interval.

    stats_a, stats_b: one run's per-input statistics, or a list of runs (seeds; None for one that diverged); both methods on
    the same inputs in the same order. metric: a key of `METRICS`; cider takes per-input scores as stored, so that document
    frequencies stay those of the whole test set.

    - A resample draws inputs with replacement and scores every run of both methods on them. It also draws seeds with replacement,
      by their scores on the whole test set: pairs of runs if both methods have equally many, else each method's runs separately.
      Their spread holds how each seed does on each input, so of what the inputs move only the part that seeds share is added.
    - The spread of few seeds is poorly known. So the part of a resample that comes from drawing k seeds is widened by
      sqrt(k / (k - 1)) t / 1.96, with t the 97.5 % quantile of Student's t with k - 1 degrees of freedom. The interval then
      holds the true difference in 95 to 99 % of simulated cases (docs/protocol.md), and without the widening in 81 % at worst.
    - A resample in which a run's score is undefined (a correlation of equal numbers) is left out. A run whose score is undefined
      on the whole test set has the metric's `worst`.

    Raises UserError on another metric, n < 1, no inputs, inputs that differ in number, statistics that lack a number, or if every
    run of both methods diverged.
    """
    if metric not in METRICS:
        raise UserError(f"metric={metric}: the bootstrap needs one of {', '.join(METRICS)}")
    if n < 1:
        raise UserError(f"n={n}: give at least 1 resample")
    a, b = _runs(stats_a, metric), _runs(stats_b, metric)
    sizes = list(dict.fromkeys(len(table) for table in (*a, *b) if table is not None))
    if len(sizes) != 1:
        said = f"{sizes[0]} inputs against {sizes[1]}" if sizes else "no inputs"
        raise UserError(f"{said}: a paired bootstrap needs the same test inputs")
    (inputs,) = sizes
    whole = np.ones((1, inputs))
    points = [_scores(side, METRICS[metric], whole) for side in (a, b)]  # [1, seeds] each
    worst = METRICS[metric].worst
    drawn = [np.full((n, len(side)), worst) for side in (a, b)]
    start = 0
    for counts in resamples(inputs, n, seed):
        for place, (side, point) in enumerate(zip((a, b), points, strict=True)):
            told = [None if np.isnan(value) else table for table, value in zip(side, point[0], strict=True)]
            drawn[place][start : start + len(counts)] = _scores(told, METRICS[metric], counts.astype(float))
        start += len(counts)
    first, second = (np.nan_to_num(point[0], nan=worst) for point in points)
    if len(a) == len(b):
        each, by_seeds = drawn[0] - drawn[1], _by_seeds(first - second, n, seed)
    else:
        each = drawn[0].mean(axis=1, keepdims=True) - drawn[1].mean(axis=1, keepdims=True)
        by_seeds = _by_seeds(first, n, seed) - _by_seeds(second, n, seed + 1)
    fewest = min((len(side) for side in (a, b) if len(side) > 1), default=None)
    return Draws(float(first.mean() - second.mean()), each, inputs, by_seeds, np.inf if fewest is None else fewest - 1)


def _scores(side: Sequence[Floats | None], metric: CorpusMetric, weights: Floats) -> Floats:
    """[resamples, seeds] scores, from weights [resamples, inputs].

    They are rounded to 13 decimals: BLAS sums in an order that depends on threads and machine, which would change figures.
    """
    columns = [np.full(len(weights), metric.worst) if table is None else metric.corpus(weights @ table) for table in side]
    return np.round(np.stack(columns, axis=1), 13)


def _by_seeds(values: Floats, n: int, seed: int) -> Floats:
    """[n]: how far drawing k seeds with replacement from their `values`, [k], moves the mean, widened as in `paired_draws`."""
    k = len(values)
    if k == 1:
        return np.zeros(n)
    chosen = np.random.default_rng([seed, k]).integers(k, size=(n, k))
    return np.asarray(np.sqrt(k / (k - 1)) * _widening(LEVEL, k - 1) * (values[chosen].mean(axis=1) - values.mean()))
