"""Two ways to make a decoder choose between label words, on any table of log-probabilities: the rule for an objective.

`scored`: no decoding. One forward pass over every prompt + label + end token gives log p of each label's tokens; the label
with the largest sum is chosen. `restricted`: beam search that may only write labels, with as many beams as labels. Both find
the label of the largest sum, the first of equals. First tokens alone do not decide this, even where they all differ: the
later tokens count too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Tokens = tuple[int, ...]
NextLogP = Callable[[Tokens], Sequence[float]]  # what has been written -> log p of each next token


def sums(next_log_p: NextLogP, labels: Sequence[Tokens], end: int) -> list[float]:
    """log p of each label and its end token: the sum of log p(token | tokens before)."""
    return [sum(next_log_p(label[:n])[token] for n, token in enumerate((*label, end))) for label in labels]


def scored(next_log_p: NextLogP, labels: Sequence[Tokens], end: int) -> int:
    """The label of the largest sum, the first of equals."""
    found = sums(next_log_p, labels, end)
    return found.index(max(found))


def restricted(next_log_p: NextLogP, labels: Sequence[Tokens], end: int, beams: int | None = None) -> int:
    """Beam search in the tree of labels; all of them fit into the beams unless told otherwise (1: greedy)."""
    whole = [(*label, end) for label in labels]
    alive: list[tuple[float, Tokens]] = [(0.0, ())]
    done: list[tuple[float, int]] = []
    while alive:
        grown = {}
        for total, written in alive:
            for label in whole:
                if label[: len(written)] == written:
                    token = label[len(written)]
                    grown[(*written, token)] = total + next_log_p(written)[token]
        kept = sorted(((total, written) for written, total in grown.items()), key=lambda item: -item[0])[: beams or len(labels)]
        done += [(total, whole.index(written)) for total, written in kept if written in whole]
        alive = [(total, written) for total, written in kept if written not in whole]
    return min((-total, index) for total, index in done)[1]
