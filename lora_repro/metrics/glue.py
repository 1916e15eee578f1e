"""GLUE's metrics (Wang et al. 2018): accuracy, F1, Matthews correlation, Pearson and Spearman, by scikit-learn and scipy.

All values are fractions (-1 to 1 for the correlations); the paper's tables multiply by 100. A class is a name such as
"entailment" or "1"; a correlation takes numbers, or decimal numbers as text.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from lora_repro.errors import UserError

METRICS = ("accuracy", "f1", "matthews", "pearson", "spearman")
Labels = Sequence[str | float]


def accuracy(predictions: Labels, gold: Labels) -> float:
    """Share of equal labels, 0 to 1. Raises UserError if lengths differ or nothing is given."""
    from sklearn.metrics import accuracy_score  # type: ignore[import-untyped]  # slow to import, here and below

    return _of_classes(accuracy_score, *_codes(predictions, gold))


def f1(predictions: Labels, gold: Labels, positive: str | float) -> float:
    """2 TP / (2 TP + FP + FN) of class `positive`, 0 to 1; 0 where no label is positive.

    Raises UserError if lengths differ, nothing is given, or there are classes beside `positive` and one other.
    """
    from sklearn.metrics import f1_score

    _check_not_empty(predictions, gold)
    _check_two_classes(predictions, gold, positive)
    hits = [[int(label == positive) for label in side] for side in (gold, predictions)]
    return float(f1_score(*hits, zero_division=0.0))


def macro_f1(predictions: Labels, gold: Labels) -> float:
    """The mean of F1 over the classes on either side, 0 to 1. Raises UserError if lengths differ or nothing is given."""
    from sklearn.metrics import f1_score

    answers, right = _codes(predictions, gold)
    return float(f1_score(right, answers, average="macro", zero_division=0.0))


def matthews(predictions: Labels, gold: Labels) -> float:
    """(TP TN - FP FN) / sqrt((TP+FP)(TP+FN)(TN+FP)(TN+FN)), or its generalisation to more classes; -1 to 1.

    0 where all predictions, or all gold labels, are one class. Raises UserError if lengths differ or nothing is given.
    """
    from sklearn.metrics import matthews_corrcoef

    return _of_classes(matthews_corrcoef, *_codes(predictions, gold))


def pearson(predictions: Labels, gold: Labels) -> float:
    """Covariance over the product of the standard deviations, -1 to 1.

    NaN where either side is constant or has fewer than 2 numbers. Raises UserError if lengths differ or a
    label is no finite number.
    """
    from scipy.stats import pearsonr

    return _correlation(pearsonr, predictions, gold)


def spearman(predictions: Labels, gold: Labels) -> float:
    """Pearson correlation of the ranks, equal numbers sharing their mean rank. NaN and UserError as for `pearson`."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, predictions, gold)


# Metrics of (predicted, gold). F1 is not among them, since it needs the positive class.
_OF_LABELS: dict[str, Callable[[Labels, Labels], float]] = {
    "accuracy": accuracy,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}


def score(
    metrics: Sequence[str], predictions: Sequence[str], gold: Sequence[str], positive: str | None = None
) -> dict[str, float]:
    """The named metrics (of `METRICS`) of N predictions against N gold labels, as fractions, in the order asked for.

    positive: the class F1 counts; other metrics need none. Raises UserError for an unknown metric, f1 without
    `positive`, and what the metrics raise: lengths that differ, nothing to score, a third class under F1, a
    prediction or gold label of a correlation that is no finite number.
    """
    if unknown := [metric for metric in metrics if metric not in METRICS]:
        raise UserError(f"metric={unknown[0]}: GLUE's metrics are {', '.join(METRICS)}")
    _check_not_empty(predictions, gold)
    scores = {}
    for metric in metrics:
        if metric != "f1":
            scores[metric] = _OF_LABELS[metric](predictions, gold)
        elif positive is None:
            raise UserError("f1 needs a positive class: name it, such as positive=1")
        else:
            scores[metric] = f1(predictions, gold, positive)
    return scores


def per_input_statistics(
    predictions: Sequence[str], gold: Sequence[str], positive: str | None = None, regression: bool = False
) -> list[dict[str, object]]:
    """What a bootstrap needs, one JSON-able dict per example, in order.

    For classes: gold (the label) and correct (0 or 1), whose mean is the accuracy; with `positive` also tp, fp, fn
    and tn (one of them 1, the others 0), whose sums give F1 and the Matthews correlation. With `regression`: gold and
    predicted as floats; `positive` is not used. Raises UserError if lengths differ, nothing is given, there are
    classes beside `positive` and one other, or with `regression` a label is no finite number.
    """
    _check_not_empty(predictions, gold)
    if regression:
        pairs = zip(_numbers(predictions, "prediction"), _numbers(gold, "gold label"), strict=True)
        return [{"gold": right, "predicted": prediction} for prediction, right in pairs]
    rows: list[dict[str, object]] = [
        {"gold": right, "correct": int(prediction == right)} for prediction, right in zip(predictions, gold, strict=True)
    ]
    if positive is not None:
        _check_two_classes(predictions, gold, positive)
        for row, prediction, right in zip(rows, predictions, gold, strict=True):
            outcome = ("t" if prediction == right else "f") + ("p" if prediction == positive else "n")
            row.update({key: int(key == outcome) for key in ("tp", "fp", "fn", "tn")})
    return rows


def _of_classes(metric: Callable[..., float], predictions: list[int], gold: list[int]) -> float:
    # scikit-learn warns about a single class, and about many; both are normal in a small sample.
    with warnings.catch_warnings(action="ignore"):
        return float(metric(gold, predictions))


def _correlation(metric: Callable[..., Any], predictions: Labels, gold: Labels) -> float:
    _check_lengths(predictions, gold)
    answers, right = _numbers(predictions, "prediction"), _numbers(gold, "gold label")
    if len(right) < 2:
        return math.nan
    # scipy warns about constant numbers, which the NaN that it returns shows already.
    with warnings.catch_warnings(action="ignore"):
        return float(metric(answers, right).statistic)


def _codes(predictions: Labels, gold: Labels) -> tuple[list[int], list[int]]:
    """Labels as class numbers: scikit-learn does not treat a list of floats, or of texts and numbers, as classes."""
    _check_not_empty(predictions, gold)
    codes: dict[str | float, int] = {}
    answers, right = ([codes.setdefault(label, len(codes)) for label in side] for side in (predictions, gold))
    return answers, right


def _numbers(labels: Labels, side: str) -> list[float]:
    numbers = []
    for place, label in enumerate(labels, 1):
        try:
            number = float(label)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UserError(
                f"{side} {place} of {len(labels)} is {str(label)[:40]!r}: a correlation needs finite decimal numbers"
            )
        numbers.append(number)
    return numbers


def _check_lengths(predictions: Labels, gold: Labels) -> None:
    if len(predictions) != len(gold):
        raise UserError(
            f"{len(predictions)} predictions but {len(gold)} gold labels: give one of each for every example"
        )


def _check_not_empty(predictions: Labels, gold: Labels) -> None:
    _check_lengths(predictions, gold)
    if not len(gold):
        raise UserError("nothing to score: no predictions given")


def _check_two_classes(predictions: Labels, gold: Labels, positive: str | float) -> None:
    """Raise UserError for classes beside `positive` and one other: a misspelt `positive` would otherwise score 0."""
    if len(others := {*predictions, *gold} - {positive}) > 1:
        some = ", ".join(sorted(map(str, others))[:3])
        raise UserError(
            f"positive={positive} beside {len(others)} other classes ({some}): give one of two classes as positive"
        )
