"""Claims that need no run: the value of a formula beside the printed value."""

from __future__ import annotations

from lora_repro.report.claims.base import ClaimTest
from lora_repro.report.claims.evidence import Evidence
from lora_repro.report.claims.reading import Reading
from lora_repro.stats.verdict import ARITHMETIC


def saving(rank: int, width: int) -> float:
    """1 − 2 r d / d^2 = 1 − 2 r / d: the share of a d x d matrix's parameters that B (d, r) and A (r, d) save."""
    return 1 - 2 * rank / width


def decoder_parameters(layers: int, width: int, vocabulary: int, positions: int) -> int:
    """L (12 d^2 + 13 d) + (V + P) d + 2 d: all parameters of a GPT-2-shaped decoder whose head is tied to its embedding."""
    return layers * (12 * width**2 + 13 * width) + (vocabulary + positions) * width + 2 * width


def lora_parameters(layers: int, width: int, rank: int, matrices: int) -> int:
    """L m r (d + d): the parameters of A and B on m square matrices of every layer."""
    return layers * matrices * rank * 2 * width


class MatrixSaving(ClaimTest):
    """1 − 2 r / d in per cent, to `digits`. The paper prints no such number: `expected` is what the claim states."""

    anywhere = True

    def __init__(self, rank: int, width: int, expected: float, digits: int) -> None:
        self.rank, self.width, self.expected, self.digits = rank, width, expected, digits

    @property
    def rule(self) -> str:
        formula = f"1 − 2r/d at r = {self.rank}, d = {self.width:,}, in per cent"
        return f"{formula}; agrees if it rounds to {self.expected:.{self.digits}f}"

    def read(self, evidence: Evidence) -> list[Reading]:
        value = 100 * saving(self.rank, self.width)
        agrees = f"{value:.{self.digits}f}" == f"{self.expected:.{self.digits}f}"
        said = f"{value:.4f} %: {'rounds' if agrees else 'does not round'} to the expected {self.expected:.{self.digits}f} %"
        return [Reading(f"1 − 2·{self.rank}/{self.width}", "%", ARITHMETIC, value, digits=self.digits, notes=(said,))]


class CheckpointRatio(ClaimTest):
    """All parameters of a model over LoRA's: how many times a checkpoint shrinks, at any number of bytes per parameter."""

    anywhere = True

    def __init__(
        self, layers: int, width: int, vocabulary: int, positions: int, rank: int, matrices: int, printed: float, within: float
    ) -> None:
        self.total = decoder_parameters(layers, width, vocabulary, positions)
        self.trained = lora_parameters(layers, width, rank, matrices)
        self.shape = f"{layers} layers, d = {width:,}, r = {rank} on {matrices} matrices a layer"
        self.printed, self.within = printed, within

    @property
    def rule(self) -> str:
        return (f"all values / LoRA's values, by formula, at {self.shape}; agrees if within {100 * self.within:g} % of the "
                f"printed {self.printed:,.0f}, a round number")  # fmt: skip

    def read(self, evidence: Evidence) -> list[Reading]:
        ratio = self.total / self.trained
        agrees = abs(ratio / self.printed - 1) <= self.within
        said = f"{self.total:,} / {self.trained:,} values: {'agrees' if agrees else 'does not agree'} with {self.printed:,.0f}"
        return [Reading("full checkpoint / LoRA's", "times", ARITHMETIC, ratio, digits=0, notes=(said,))]
