"""The random choices of every generated data set."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """Choices from `random.Random(seed).random()` alone, whose stream is the same in all Python versions."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def chance(self, p: float) -> bool:
        """True with probability p."""
        return self._random() < p

    def index(self, n: int) -> int:
        """Each of 0..n-1 with equal probability."""
        return int(self._random() * n)

    def uniform(self, options: Sequence[T]) -> T:
        """Each option with equal probability."""
        return options[self.index(len(options))]

    def weighted(self, options: Sequence[T], weights: Sequence[float]) -> T:
        """options[i] with probability weights[i] / sum(weights)."""
        left = self._random() * sum(weights)
        for option, weight in zip(options, weights, strict=True):
            left -= weight
            if left < 0:
                return option
        return options[-1]

    def pick(self, options: Sequence[T]) -> T:
        """options[i] with weight 1 / (i + 1): a few frequent ones and a long tail, as in crowd-sourced texts."""
        return self.weighted(options, [1 / (i + 1) for i in range(len(options))])

    def sample(self, options: Sequence[T], n: int) -> list[T]:
        """n different options, in random order."""
        rest = list(options)
        return [rest.pop(self.index(len(rest))) for _ in range(n)]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in random order."""
        return self.sample(items, len(items))
