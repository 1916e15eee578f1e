"""chrF2 (Popović 2015): F-score of character n-grams, n = 1 to 6, white space left out, recall counting four times precision.

As `sacrebleu` 2 computes it: counts are summed over the corpus, precision and recall averaged over the orders of which both sides
have n-grams; of several references the one counts with which the output alone scores best.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ORDERS, BETA = 6, 2.0
Floats = NDArray[np.float64]


def counts(output: str, references: Sequence[str]) -> list[int]:
    """[18]: of each order the n-grams of the output, of its best reference, and of both. At least one reference."""
    statistics = [_against(output, reference) for reference in references]
    return max(statistics, key=lambda counts: float(scores(np.array(counts, dtype=np.float64))))


def corpus(ngram_counts: Sequence[Sequence[int]]) -> float:
    """chrF, 0 to 1, of the inputs with these counts."""
    return float(scores(np.asarray(ngram_counts, dtype=np.float64).sum(axis=0)))


def scores(sums: Floats) -> Floats:
    """chrF of summed counts [..., 18]; [...]. 0 where no order has n-grams on both sides."""
    hypothesis, right, both = np.moveaxis(sums.reshape(*sums.shape[:-1], ORDERS, 3), -1, 0)
    mask = (hypothesis > 0) & (right > 0)
    orders = np.maximum(mask.sum(axis=-1), 1)
    precision, recall = ((both / np.where(mask, side, 1) * mask).sum(axis=-1) / orders for side in (hypothesis, right))
    bottom = BETA**2 * precision + recall
    return np.asarray((1 + BETA**2) * precision * recall / np.where(bottom > 0, bottom, 1))


def _against(output: str, reference: str) -> list[int]:
    totals: list[int] = []
    hypothesis, right = "".join(output.split()), "".join(reference.split())
    for n in range(1, ORDERS + 1):
        ours, theirs = _ngrams(hypothesis, n), _ngrams(right, n)
        totals += [ours.total() if theirs else 0, theirs.total(), (ours & theirs).total()]
    return totals


def _ngrams(text: str, n: int) -> Counter[Any]:
    return Counter(text[start : start + n] for start in range(len(text) - n + 1))
