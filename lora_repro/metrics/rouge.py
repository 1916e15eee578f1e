"""ROUGE-1, -2 and -L of summaries, by the two tools with which SAMSum's published numbers are made.

- `..._rouge_score`: google-research's `rouge_score` 0.1.2 with its stemmer; ROUGE-L over the whole text.
- `..._py_rouge`: the defaults of `py-rouge` 1.1, which the corpus' authors name: at most 665 characters, NLTK's words, WordNet's
  irregular forms before the original Porter stemmer, ROUGE-L by lines.

All are F1 (alpha 0.5) as fractions, and means over summaries. The LoRA paper names no tool.

py-rouge itself cannot run here (it imports `pkg_resources`, and NLTK data from a download). Only the word lists of its package
are read, and `rouge_score` counts its tokens; tests/test_rouge.py checks that the scores are equal.
"""

from __future__ import annotations

import importlib.metadata
import re
import types
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from lora_repro.errors import NotAvailable, UserError

# metric -> (the tool, the tool's own name of the metric)
METRICS = {
    "rouge1_rouge_score": ("rouge_score", "rouge1"),
    "rouge2_rouge_score": ("rouge_score", "rouge2"),
    "rougeL_rouge_score": ("rouge_score", "rougeL"),
    "rouge1_py_rouge": ("py_rouge", "rouge1"),
    "rouge2_py_rouge": ("py_rouge", "rouge2"),
    "rougeL_py_rouge": ("py_rouge", "rougeLsum"),
}
LIMIT = 665  # characters (the tool calls them bytes), without line breaks and blanks at the ends of lines
WORD_LISTS = ("wordnet_key_value.txt", "wordnet_key_value_special_cases.txt")


def per_summary(outputs: Sequence[str], references: Sequence[str]) -> list[dict[str, object]]:
    """The F1 by each metric of `METRICS` of each output against its one reference, in order.

    Raises UserError (nothing to score, lengths differ) or NotAvailable (a package is missing).
    """
    if len(outputs) != len(references) or not outputs:
        raise UserError(f"{len(outputs)} outputs for {len(references)} references: give one of each, and at least one")
    tools = {"rouge_score": _scorer(), "py_rouge": _py_rouge_scorer()}
    rows: list[dict[str, object]] = []
    for output, reference in zip(outputs, references, strict=True):
        scores = {tool: f1(output, reference) for tool, f1 in tools.items()}
        rows.append({metric: scores[tool][key] for metric, (tool, key) in METRICS.items()})
    return rows


def best(metric: str, outputs: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """The F1 by rouge_score's `metric`, of `words`, of each output against the reference with which it is highest.

    Raises NotAvailable.
    """
    key, score = METRICS[metric][1], _scorer(words)
    return [max(score(output, reference)[key] for reference in group) for output, group in zip(outputs, references, strict=True)]


def mean(rows: Sequence[dict[str, object]]) -> dict[str, float]:
    """The corpus score of each metric: its mean over summaries."""
    return {metric: sum(float(str(row[metric])) for row in rows) / len(rows) for metric in METRICS}


def shortened(text: str) -> list[str]:
    """The stripped lines of a summary, cut to `LIMIT` characters in total, as py-rouge reads them."""
    lines, budget = [], LIMIT
    for line in (line.strip() for line in text.split("\n")):
        lines.append(line[:budget])
        if len(line) >= budget:
            break
        budget -= len(line)
    return lines


def py_rouge_tokens(text: str) -> list[str]:
    """The stems of a text by py-rouge's rules. "cannot" stays one word, as in the Perl script that py-rouge follows."""
    words, stem, irregular = _nltk()
    plain = re.sub("[^A-Za-z0-9]", " ", text.lower()).strip().replace("cannot", "_cannot_")
    tokens = [word if len(word) <= 3 else irregular.get(word) or stem(word) for word in words(plain)]
    return " ".join(tokens).replace("_cannot_", "cannot").split()


UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # Thai, Lao, Burmese, Khmer, kana, Han
)
WORD = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")


def words(text: str) -> list[str]:
    """The tokens of a text in any script: runs of letters and digits in lower case; a character each where no spaces part words.

    For a text in ASCII they are rouge_score's own, whose tokenizer drops every other letter.
    """
    from nltk.stem.porter import PorterStemmer

    stem = PorterStemmer().stem
    tokens = WORD.findall(text.lower())
    return [stem(word) if len(word) > 3 and word.isascii() else word for word in tokens]


Scorer = Callable[[str, str], dict[str, float]]


def _scorer(tokens: Callable[[str], list[str]] | None = None) -> Scorer:
    """By rouge_score's own tokens, or by these."""
    try:
        from rouge_score.rouge_scorer import RougeScorer  # lazy: slow to import
    except ImportError as error:
        raise NotAvailable(f"ROUGE needs the package rouge_score ({error}): pip install rouge_score") from None
    tokenizer = tokens and types.SimpleNamespace(tokenize=tokens)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True, tokenizer=tokenizer)
    return lambda output, reference: _f1(scorer.score(reference, output))


def _py_rouge_scorer() -> Scorer:
    from rouge_score.rouge_scorer import RougeScorer

    tokenizer = types.SimpleNamespace(tokenize=py_rouge_tokens)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeLsum"], tokenizer=tokenizer)
    return lambda output, reference: _f1(scorer.score(*("\n".join(shortened(text)) for text in (reference, output))))


def _f1(scores: dict[str, object]) -> dict[str, float]:
    return {key: float(getattr(score, "fmeasure")) for key, score in scores.items()}  # noqa: B009


@cache
def _nltk() -> tuple[Callable[[str], list[str]], Callable[[str], str], dict[str, str]]:
    """(NLTK's word tokenizer, its original Porter stemmer, py-rouge's irregular forms); none needs a download."""
    try:
        from nltk.stem.porter import PorterStemmer
        from nltk.tokenize.destructive import NLTKWordTokenizer

        package = importlib.metadata.distribution("py-rouge")
    except ImportError as error:  # PackageNotFoundError is one
        raise NotAvailable(f"ROUGE needs the packages nltk and py-rouge ({error}): pip install nltk py-rouge") from None
    irregular = {}
    for name in WORD_LISTS:
        for line in Path(str(package.locate_file(f"rouge/{name}"))).read_text(encoding="utf-8").splitlines():
            word, _, stem = line.strip().partition("|")
            irregular[word] = stem
    return NLTKWordTokenizer().tokenize, PorterStemmer("ORIGINAL_ALGORITHM").stem, irregular
