"""METEOR 1.5, ROUGE-L and CIDEr on PTB tokens, as the COCO caption scorers inside the official E2E scorer compute them.

Sources: Denkowski & Lavie 2014 (METEOR 1.5), Lin 2004 (ROUGE-L, beta 1.2), Vedantam et al. 2015 (CIDEr: 1- to
4-grams, sigma 6, document frequencies from the references scored). ROUGE-L and CIDEr are pycocoevalcap's
classes, equal to those of tuetschek/e2e-metrics.
"""

from functools import lru_cache

from lora_repro.metrics import jvm
from lora_repro.metrics.meteor import aligned, evaluated

Group = tuple[str, ...]
# Tokens that are dropped after tokenisation, before METEOR, ROUGE-L and CIDEr.
PUNCTUATION = frozenset("'' ' `` ` -LRB- -RRB- -LCB- -RCB- . ? ! , : - -- ... ;".split())


def _one_line(text: str) -> str:
    """`text` with all Unicode line breaks as spaces, and what UTF-8 cannot encode (lone surrogates) as question marks."""
    return " ".join(text.encode("utf-8", "replace").decode().splitlines())


def _without_punctuation(line: str) -> str:
    return " ".join(token for token in line.rstrip().split(" ") if token not in PUNCTUATION)


def tokenize(texts: list[str]) -> list[str]:
    """Space-separated lower-case PTB tokens of each text, punctuation dropped.

    All texts are tokenised as the lines of one document, as in the official scorer: how it splits the end of a
    line (an abbreviation's point) can depend on the next line.
    """
    lines = jvm.ask("tokenize", "\n".join(map(_one_line, texts))).split("\n")
    if len(lines) < len(
        texts
    ):  # a token swallowed a line break; the official scorer would fail or mix up lines here
        lines = [jvm.ask("tokenize", _one_line(text)) for text in texts]
    return [_without_punctuation(line) for line in lines[: len(texts)]]


@lru_cache(maxsize=4)  # score() and per_input_statistics() are called on the same texts
def tokenize_corpus(outputs: Group, references: tuple[Group, ...]) -> tuple[list[str], list[list[str]]]:
    """PTB tokens of outputs and of references, in the given groups."""
    flat = iter(tokenize([reference for group in references for reference in group]))
    groups = [[next(flat) for _ in group] for group in references]
    return tokenize(list(outputs)), groups


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
