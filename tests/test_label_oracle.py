"""Choosing a label by the sum of its tokens' log-probabilities is what beam search restricted to labels finds."""

from __future__ import annotations

import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st
from label_oracle import NextLogP, Tokens, restricted, scored, sums

END, VOCABULARY = 0, 5
LABEL = st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=4).map(tuple)
LABELS = st.lists(LABEL, min_size=2, max_size=5, unique=True)


def model(seed: int) -> NextLogP:
    """A random next-token distribution after every text."""

    def next_log_p(written: Tokens) -> list[float]:
        weights = [random.Random(f"{seed} {written} {token}").random() + 1e-3 for token in range(VOCABULARY)]
        return [math.log(weight / sum(weights)) for weight in weights]

    return next_log_p


@settings(max_examples=200, deadline=None)
@given(labels=LABELS, seed=st.integers(0, 10_000))
def test_scoring_equals_restricted_decoding(labels: list[Tokens], seed: int) -> None:
    """Labels of any length, one the start of another too."""
    assert scored(model(seed), labels, END) == restricted(model(seed), labels, END)


@settings(max_examples=50, deadline=None)
@given(labels=LABELS, seed=st.integers(0, 10_000))
def test_a_label_s_sum_is_its_probability(labels: list[Tokens], seed: int) -> None:
    assert sum(map(math.exp, sums(model(seed), labels, END))) <= 1 + 1e-9


def test_greedy_restricted_decoding_may_choose_another() -> None:
    """A likely first token with an unlikely second one misleads it, and the first token's log p alone does the same."""
    table = {(): [0.0, 0.6, 0.4, 0.0, 0.0], (1,): [0.0, 0.0, 0.0, 0.1, 0.9], (2,): [1.0, 0, 0, 0, 0], (1, 3): [1.0, 0, 0, 0, 0]}

    def next_log_p(written: Tokens) -> list[float]:
        return [math.log(p) if p else -math.inf for p in table[written]]

    labels = [(1, 3), (2,)]
    assert scored(next_log_p, labels, END) == restricted(next_log_p, labels, END) == 1
    assert restricted(next_log_p, labels, END, beams=1) == 0
