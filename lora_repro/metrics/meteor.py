"""METEOR 1.5 (Denkowski & Lavie 2014), English, `-l en -norm`: statistics of each output, and the corpus score of their sums.

The Java jar makes the alignment (`jvm.py`). Its statistics of one output, against the reference that gives the best score, are
weighted here into six numbers that add up over outputs, so that a bootstrap can score any sample of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lora_repro.errors import UserError
from lora_repro.metrics import jvm

# The jar's English parameters (its "rank" task), and the weights of exact, stem, synonym and paraphrase matches.
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
WEIGHTS = (1.0, 0.6, 0.8, 0.6)


def aligned(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> list[str]:
    """The jar's line of statistics for each output. Raises UserError (Java failed) or NotAvailable (no Java)."""
    lines = []
    for output, group in zip(outputs, references, strict=True):
        hypothesis = output.replace("|||", "").replace("  ", " ")
        line = " ||| ".join(["SCORE", *group, hypothesis])
        lines.append(line.encode("utf-8", "replace").decode())  # UTF-8 cannot encode a lone surrogate
    statistics = jvm.ask("meteor", "\n".join(lines) + "\n").splitlines()
    if len(statistics) != len(outputs):
        raise UserError(
            f"METEOR scored {len(statistics)} of {len(outputs)} outputs; its jar may be damaged: reinstall pycocoevalcap"
        )
    return statistics


def evaluated(statistics: Sequence[str]) -> float:
    """The jar's corpus score of such lines of statistics, in [0, 1]."""
    replies = jvm.ask("meteor", " ||| ".join(["EVAL", *statistics]) + "\n").splitlines()
    return float(replies[-1])  # one line an output, then the corpus


def sufficient(line: str) -> list[float]:
    """Six numbers a line: weighted length of test, of reference, weighted matches of test, of reference, chunks, matched words.

    The line holds: test and reference length; function words of each; for each kind of match the content words matched in test
    and reference, then the function words; chunks; matched words of test and reference. A content word weighs DELTA, a function
    word 1 - DELTA. An output equal to its reference counts 0 chunks.
    """
    test, reference, test_function, reference_function, *rest = map(float, line.split())
    chunks, test_words, reference_words = rest[-3:]
    matches = np.array(rest[: 4 * len(WEIGHTS)]).reshape(len(WEIGHTS), 4)  # columns: test, reference content; the same, function
    content, function = np.asarray(WEIGHTS) @ matches[:, :2], np.asarray(WEIGHTS) @ matches[:, 2:]
    test_matches, reference_matches = DELTA * content + (1 - DELTA) * function
    identical = matches[:, ::2].sum() == test and matches[:, 1::2].sum() == reference and chunks == 1
    return [
        DELTA * (test - test_function) + (1 - DELTA) * test_function,
        DELTA * (reference - reference_function) + (1 - DELTA) * reference_function,
        float(test_matches), float(reference_matches), 0.0 if identical else chunks, (test_words + reference_words) / 2,
    ]  # fmt: skip


def corpus(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """METEOR of summed `sufficient` [..., 6]: (1 - GAMMA frag^BETA) / ((1 - ALPHA) / P + ALPHA / R); [...]. 0 without a match.

    P, R: weighted matches over weighted length of test and reference; frag: chunks over matched words.
    """
    test, reference, test_matches, reference_matches, chunks, words = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
    some = (test_matches > 0) & (reference_matches > 0) & (words > 0)
    inverse = (1 - ALPHA) * test / np.where(some, test_matches, 1) + ALPHA * reference / np.where(some, reference_matches, 1)
    penalty = GAMMA * (chunks / np.where(some, words, 1)) ** BETA
    return np.asarray(np.where(some, (1 - penalty) / np.where(some, inverse, 1), 0.0))
