"""BLEU and NIST over several references, as the Python path of the official E2E scorer defines them.

Sources: Papineni et al. 2002 (BLEU); Doddington 2002 (NIST). Tokenisation and edge cases follow mteval-v13a and
tuetschek/e2e-metrics 1b9c4d8 (`measure_scores.py -p`), the scorer of the LoRA paper's E2E tables. Both metrics
ignore case.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

ORDERS = 4  # BLEU n-gram orders
NIST_ORDERS = 5
NIST_BETA = -math.log(0.5) / math.log(1.5) ** 2  # an output 2/3 as long as its references keeps half its NIST
ENTITIES = {"&quot;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">"}  # in this order: "&amp;lt;" ends as "<"
PUNCTUATION = re.compile(r'([ !"#$%&()*+/:;<=>?@[\\\]^_`{|}~])')  # ASCII, without ' , - .

Ngram = tuple[str, ...]


class BleuCounts(NamedTuple):
    """Sufficient statistics of BLEU; they add over inputs. totals[n] = hyp_len - n, which is negative for very short outputs."""

    matches: tuple[int, ...]  # [ORDERS] clipped n-gram matches, n = 1..4
    totals: tuple[int, ...]  # [ORDERS]
    hyp_len: int  # tokens
    ref_len: int  # tokens of the reference closest in length, of two equally close ones the shorter


def tokenize(text: str) -> list[str]:
    """Split one text into mteval tokens. An empty text is one empty token, as in the official scorer.

    ASCII punctuation is split off: a point or comma unless it is between digits, a hyphen only after a digit.
    """
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in ENTITIES.items():
        text = text.replace(entity, character)
    text = PUNCTUATION.sub(r" \1 ", f" {text} ")
    text = re.sub(r"([^0-9])([.,])", r"\1 \2 ", text)
    text = re.sub(r"([.,])([^0-9])", r" \1 \2", text)
    text = re.sub(r"([0-9])(-)", r"\1 \2 ", text)
    return re.sub(r"\s+", " ", text).strip().split(" ")


def _tokens(text: str) -> list[str]:
    return [token.lower() for token in tokenize(text)]  # after splitting: lower() may change a text's length


def _ngrams(tokens: list[str], n: int) -> list[Ngram]:
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def _clipped(tokens: list[str], references: list[list[str]], n: int) -> Counter[Ngram]:
    """Output n-grams, each counted at most as often as in the reference that has it most often."""
    most: Counter[Ngram] = Counter()
    for reference in references:
        most |= Counter(_ngrams(reference, n))
    return Counter(_ngrams(tokens, n)) & most


def token_counts(tokens: list[str], references: list[list[str]]) -> BleuCounts:
    """BLEU statistics of one output against its references (at least one), all in tokens."""
    length = len(tokens)
    matches = tuple(sum(_clipped(tokens, references, n + 1).values()) for n in range(ORDERS))
    closest = min((len(ref) for ref in references), key=lambda ref_len: (abs(ref_len - length), ref_len))
    return BleuCounts(matches, tuple(length - n for n in range(ORDERS)), length, closest)


def bleu_counts(output: str, references: Sequence[str]) -> BleuCounts:
    """BLEU statistics of one output against its references (at least one)."""
    return token_counts(_tokens(output), [_tokens(reference) for reference in references])


def bleu(counts: Sequence[BleuCounts]) -> float:
    """Corpus BLEU: min(1, exp(1 - r/c)) · (Π_n matches_n / totals_n)^(1/4), counts summed over inputs.

    Always defined: no matches count as 1e-15, and a total below 1e-9 as 1e-9. In [0, 1], unless most outputs have
    fewer than 4 tokens: their negative totals can push it above 1, as in the official scorer.
    """
    hyp_len, ref_len = sum(c.hyp_len for c in counts), sum(c.ref_len for c in counts)
    log_precision = 0.0
    for n in range(ORDERS):
        matches, totals = sum(c.matches[n] for c in counts), sum(c.totals[n] for c in counts)
        log_precision += math.log(max(matches, 1e-15) / max(totals, 1e-9)) / ORDERS
    log_brevity = 1 - ref_len / (hyp_len or 1e-5) if hyp_len <= ref_len else 0.0
    return math.exp(log_brevity + log_precision)


def without_negatives(counts: BleuCounts) -> BleuCounts:
    """The same with totals of at least 0, as multi-bleu counts them: then BLEU lies in [0, 1] for outputs of any length."""
    return counts._replace(totals=tuple(max(total, 0) for total in counts.totals))


def _nist_matches(outputs: Sequence[list[str]], references: Sequence[list[list[str]]]) -> list[float]:
    """[NIST_ORDERS] sums over matched n-grams of their information, log2(count(w1..wn-1) / count(w1..wn)) in all references."""
    counts: Counter[Ngram] = Counter()
    for refs in references:
        for ref in refs:
            counts[()] += len(ref)
            for n in range(NIST_ORDERS):
                counts.update(_ngrams(ref, n + 1))
    sums = []
    for n in range(NIST_ORDERS):
        matches: Counter[Ngram] = Counter()
        for output, refs in zip(outputs, references, strict=True):
            matches.update(_clipped(output, refs, n + 1))
        sums.append(
            sum(times * math.log2(counts[ngram[:-1]] / counts[ngram]) for ngram, times in matches.items())
        )
    return sums


def nist(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus NIST: Σ_{n=1..5} (information of matched n-grams) / (output n-grams), times a penalty for short outputs.

    Penalty: exp(-β ln²(c/r)) for c < r, with c output tokens and r the summed average reference length. An
    order without any output n-gram adds nothing (the official scorer divides by zero there).
    """
    tokens = [_tokens(output) for output in outputs]
    refs = [[_tokens(reference) for reference in group] for group in references]
    total = 0.0
    for n, information in enumerate(_nist_matches(tokens, refs)):
        possible = sum(len(output) - n for output in tokens)
        total += information / possible if possible else 0.0
    ratio = sum(map(len, tokens)) / sum(sum(map(len, group)) / len(group) for group in refs)
    return total * (1.0 if ratio >= 1 else math.exp(-NIST_BETA * math.log(ratio) ** 2))
