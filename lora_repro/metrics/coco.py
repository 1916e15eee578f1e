"""METEOR 1.5, ROUGE-L and CIDEr on PTB tokens, as the COCO caption scorers inside the official E2E scorer compute them.

Sources: Denkowski & Lavie 2014 (METEOR 1.5, English, `-l en -norm`), Lin 2004 (ROUGE-L, beta 1.2), Vedantam et al. 2015 (CIDEr:
1- to 4-grams, sigma 6, document frequencies from the references scored). ROUGE-L and CIDEr are pycocoevalcap's classes, equal to
those of tuetschek/e2e-metrics.

METEOR's Java jar makes the alignment (`jvm.py`). Its statistics of one output, against the reference that gives the best score,
are weighted here into six numbers that add up over outputs, so that a bootstrap can score any sample of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lora_repro.errors import UserError
from lora_repro.metrics import jvm

Group = tuple[str, ...]
# Tokens that are dropped after tokenisation, before METEOR, ROUGE-L and CIDEr.
PUNCTUATION = frozenset("'' ' `` ` -LRB- -RRB- -LCB- -RCB- . ? ! , : - -- ... ;".split())
# The jar's English parameters (its "rank" task), and the weights of exact, stem, synonym and paraphrase matches.
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
WEIGHTS = (1.0, 0.6, 0.8, 0.6)


def aligned(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> list[str]:
    """The jar's line of statistics for each output. Raises UserError (Java failed) or NotAvailable (no Java)."""
    asked = []
    for output, group in zip(outputs, references, strict=True):
        hypothesis = output.replace("|||", "").replace("  ", " ")
        line = " ||| ".join(["SCORE", *group, hypothesis])
        asked.append(line.encode("utf-8", "replace").decode())  # UTF-8 cannot encode a lone surrogate
    found = jvm.ask("meteor", "\n".join(asked) + "\n").splitlines()
    if len(found) != len(outputs):
        raise UserError(
            f"METEOR scored {len(found)} of {len(outputs)} outputs; its jar may be damaged: reinstall pycocoevalcap"
        )
    return found


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
    whole = matches[:, ::2].sum() == test and matches[:, 1::2].sum() == reference and chunks == 1
    return [
        DELTA * (test - test_function) + (1 - DELTA) * test_function,
        DELTA * (reference - reference_function) + (1 - DELTA) * reference_function,
        float(test_matches), float(reference_matches), 0.0 if whole else chunks, (test_words + reference_words) / 2,
    ]  # fmt: skip


def corpus_meteor(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """METEOR of summed `sufficient` [..., 6]: (1 - GAMMA frag^BETA) / ((1 - ALPHA) / P + ALPHA / R); [...]. 0 without a match.

    P, R: weighted matches over weighted length of test and reference; frag: chunks over matched words.
    """
    test, reference, test_matches, reference_matches, chunks, words = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
    some = (test_matches > 0) & (reference_matches > 0) & (words > 0)
    inverse = (1 - ALPHA) * test / np.where(some, test_matches, 1) + ALPHA * reference / np.where(some, reference_matches, 1)
    penalty = GAMMA * (chunks / np.where(some, words, 1)) ** BETA
    return np.asarray(np.where(some, (1 - penalty) / np.where(some, inverse, 1), 0.0))


def _one_line(text: str) -> str:
    """`text` with all Unicode line breaks as spaces, and what UTF-8 cannot encode (lone surrogates) as question marks."""
    return " ".join(text.encode("utf-8", "replace").decode().splitlines())


def tokenize(texts: list[str]) -> list[str]:
    """Space-separated lower-case PTB tokens of each text, punctuation dropped.

    All texts are tokenised as the lines of one document, as in the official scorer: how it splits the end of a
    line (an abbreviation's point) can depend on the next line.
    """
    lines = jvm.ask("tokenize", "\n".join(map(_one_line, texts))).split("\n")
    if len(lines) < len(texts):  # a token swallowed a line break; the official scorer would fail or mix up lines here
        lines = [jvm.ask("tokenize", _one_line(text)) for text in texts]
    split = [line.rstrip().split(" ") for line in lines[: len(texts)]]
    return [" ".join(token for token in tokens if token not in PUNCTUATION) for tokens in split]


@lru_cache(maxsize=4)  # score() and per_input_statistics() are called on the same texts
def tokenize_corpus(outputs: Group, references: tuple[Group, ...]) -> tuple[list[str], list[list[str]]]:
    """PTB tokens of outputs and of references, in the given groups."""
    flat = iter(tokenize([reference for group in references for reference in group]))
    grouped = [[next(flat) for _ in group] for group in references]
    return tokenize(list(outputs)), grouped


def meteor(outputs: Group, references: tuple[Group, ...]) -> float:
    """Corpus METEOR in [0, 1], from the summed statistics of all outputs."""
    tokens, refs = tokenize_corpus(outputs, references)
    return evaluated(aligned(tokens, refs))


@lru_cache(maxsize=4)
def rouge_l(outputs: Group, references: tuple[Group, ...]) -> list[float]:
    """ROUGE-L of each output: F of the longest common subsequence, with the best precision and recall over its references."""
    from pycocoevalcap.rouge.rouge import Rouge  # type: ignore[import-untyped]

    tokens, refs = tokenize_corpus(outputs, references)
    return [float(Rouge().calc_score([output], group)) for output, group in zip(tokens, refs, strict=True)]


@lru_cache(maxsize=4)
def cider(outputs: Group, references: tuple[Group, ...]) -> list[float]:
    """CIDEr of each output (0 to 10), with document frequencies from all `references`. A single input scores 0, by log(1).

    If no reference has a token left it is 0, too; the official scorer fails there.
    """
    from pycocoevalcap.cider.cider import Cider  # type: ignore[import-untyped]

    tokens, refs = tokenize_corpus(outputs, references)
    if not any(reference for group in refs for reference in group):
        return [0.0] * len(tokens)
    _, scores = Cider().compute_score(dict(enumerate(refs)), {i: [output] for i, output in enumerate(tokens)})
    return [float(score) for score in scores]
