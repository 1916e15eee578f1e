"""Each corpus score from sums of per-input statistics: a resample of the inputs (`stats.bootstrap`) is scored without texts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lora_repro.errors import UserError
from lora_repro.metrics import chrf, meteor, rouge

Floats = NDArray[np.float64]
# One method's run: a dict per test input (`per_input_statistics` of nlg, webnlg or glue).
Statistics = Sequence[Mapping[str, object]]
Runs = Statistics | Sequence[Statistics | None]  # None: a run that diverged and predicted nothing
Rows = list[list[object]]
GROUPS = ("seen", "unseen")  # parts of one test set, by the `group` of a row
def corpus_bleu(sums: Floats) -> Floats:
    """BLEU of summed statistics [..., 10] (matches[4], totals[4], hyp_len, ref_len), by the rule of `bleu.bleu`; [...]."""
    matches, totals, hyp_len, ref_len = sums[..., :4], sums[..., 4:8], sums[..., 8], sums[..., 9]
    log_precision = np.log(np.maximum(matches, 1e-15) / np.maximum(totals, 1e-9)).mean(axis=-1)
    log_brevity = np.where(hyp_len <= ref_len, 1 - ref_len / np.where(hyp_len, hyp_len, 1e-5), 0.0)
    return np.asarray(np.exp(log_brevity + log_precision))


def _divide(top: Floats, bottom: Floats, default: float = np.nan) -> Floats:
    """top / bottom; `default` where bottom is 0."""
    return np.divide(top, bottom, out=np.full_like(top, default), where=bottom != 0)


def _ratio(sums: Floats) -> Floats:
    """The first sum over the second: a mean over inputs, or errors over slots."""
    return _divide(sums[..., 0], sums[..., 1])


def _corpus_f1(sums: Floats) -> Floats:
    """F1 of summed [..., tp, fp, fn] by the rule of `glue.f1`, or of several such triples by that of `glue.macro_f1`; [...]."""
    if sums.shape[-1] > 3:
        tp, fp, fn = _triples(sums)
        n_classes = np.maximum((tp + fp + fn > 0).sum(axis=-1), 1)
        return np.asarray(_divide(2 * tp, 2 * tp + fp + fn, default=0).sum(axis=-1) / n_classes)
    tp, fp, fn = np.moveaxis(sums, -1, 0)
    return _divide(2 * tp, 2 * tp + fp + fn, default=0)


def _corpus_matthews(sums: Floats) -> Floats:
    """Matthews correlation, by the rule of `glue.matthews`, of summed [..., tp, fp, fn, tn] or a triple for each class; [...]."""
    if sums.shape[-1] != 4:
        tp, fp, fn = _triples(sums)
        predictions, right, n = tp + fp, tp + fn, (tp + fn).sum(axis=-1)
        spread = (n * n - (predictions * predictions).sum(axis=-1)) * (n * n - (right * right).sum(axis=-1))
        return _divide(tp.sum(axis=-1) * n - (predictions * right).sum(axis=-1), np.sqrt(spread), default=0)
    tp, fp, fn, tn = np.moveaxis(sums, -1, 0)
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return _divide(tp * tn - fp * fn, np.sqrt(product), default=0)


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
        right, predictions = (side[:, None] == np.unique(np.concatenate(sides)) for side in sides)
        outcomes = np.stack([right & predictions, ~right & predictions, right & ~predictions], axis=-1)
        return outcomes.reshape(len(statistics), -1).astype(np.float64)

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
