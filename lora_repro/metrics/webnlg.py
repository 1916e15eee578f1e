"""BLEU, METEOR and TER of texts about triples (WebNLG 2017, DART), by the scripts of the LoRA paper or by the data sets' own.

Protocols:
- `paper`: microsoft/LoRA c4593f0 `gpt2_decode.py --tokenize --lower --ref_num 6`, then WebNLG/GenerationEval 8067849 `eval.py`:
  multi-bleu-detok.perl, METEOR 1.5 on NLTK words, pyter;
- `webnlg`: WebNLG 2017's `evaluation.py`: ASCII, 3 references, multi-bleu.perl, METEOR 1.5, tercom 7.25;
- `dart`: DART v1.1.1's `run_eval_on_dart.sh`: as `webnlg`, but not in ASCII.
All split texts at every character that is not part of a word. Values are fractions (the scripts print BLEU in per cent).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lora_repro.metrics import bleu, meteor, nlg, ter

METRICS = ("bleu", "meteor", "ter")
# NLTK's word rules that still apply to a split text: double quotes become ``, and these words are split.
_CONTRACTIONS = re.compile(r"\b(can)(not)\b|\b(gim|lem)(me)\b|\b(gon|wan)(na)\b|\b(got)(ta)\b", re.IGNORECASE)


def split(text: str) -> str:
    """Words and all other characters, separated by spaces: "U.S." -> "U . S ."."""
    return " ".join(" ".join(re.split(r"(\W)", text)).split())


def cut(text: str) -> str:
    """The part of an output that the scripts keep: up to the end-of-text token or an empty line."""
    return text.split("<|endoftext|>")[0].split("\n\n")[0].strip()


def to_ascii(text: str) -> str:
    """Each character transliterated to ASCII, or left out if that is not possible."""
    from text_unidecode import unidecode  # lazy: only one of the protocols needs it

    # The script uses Unidecode, which is under the GPL; text_unidecode has the older table, and marks what it lacks.
    return "".join("" if (plain := unidecode(letter)).strip() == "[?]" else plain for letter in text)


def nltk_words(text: str) -> str:
    """NLTK 3.5's `word_tokenize` of a text that `split` has split, joined by spaces."""
    return _CONTRACTIONS.sub(lambda match: " ".join(part for part in match.groups() if part), text.replace('"', "``"))


class Protocol(NamedTuple):
    """How one set of scripts treats texts.

    most: how many references are used. blanks: whether BLEU gets empty texts for missing ones. words: applied before METEOR
    and TER.
    """

    output: Callable[[str], str]
    reference: Callable[[str], str]
    most: int
    blanks: bool
    bleu_tokens: Callable[[str], list[str]]
    words: Callable[[str], str]
    edits: Callable[[str, Sequence[str]], tuple[float, float]]


def _mteval(text: str) -> list[str]:
    return [token for token in bleu.tokenize(text) if token]


def _lower_then_split(text: str) -> str:
    return split(cut(text).lower())


def _split_then_lower(text: str) -> str:
    return split(text).lower()


PROTOCOLS: Mapping[str, Protocol] = {
    "paper": Protocol(_lower_then_split, _lower_then_split, 6, False, _mteval, nltk_words, ter.pyter),
    "webnlg": Protocol(
        lambda text: split(to_ascii(to_ascii(text.strip()).lower())), lambda text: to_ascii(_split_then_lower(text)),
        3, True, str.split, str, ter.tercom,
    ),
    "dart": Protocol(_split_then_lower, _split_then_lower, 3, True, str.split, str, ter.tercom),
}  # fmt: skip


def per_input_statistics(
    outputs: Sequence[str], references: Sequence[Sequence[str]], protocol: str
) -> list[dict[str, object]]:
    """What a bootstrap needs, one JSON-able dict per input, in order; their sums give the corpus scores (`corpus_scores`).

    matches[4], totals[4], hyp_len, ref_len: of BLEU. meteor[6]: of METEOR (`meteor.sufficient`). ter_edits, ter_words: TER is
    the sum of the first over that of the second. An output counts as one line. Raises UserError (lengths differ, nothing to
    score, an output without reference, Java failed) or NotAvailable (no Java).
    """
    nlg.check(outputs, references)
    rules = PROTOCOLS[protocol]
    outs = [rules.output(output) for output in outputs]
    groups = [[rules.reference(text) for text in group[: rules.most]] for group in references]
    bleu_counts = [
        bleu.without_negatives(
            bleu.token_counts(rules.bleu_tokens(out), [rules.bleu_tokens(text) for text in _padded(group, rules)])
        )
        for out, group in zip(outs, groups, strict=True)
    ]
    # For METEOR and TER the official scripts treat an empty reference as a missing one.
    ref_words = [[rules.words(text) for text in group if text or not rules.blanks] or [""] for group in groups]
    out_words = [rules.words(out) for out in outs]
    meteor_lines = meteor.aligned(out_words, ref_words)
    edits = [rules.edits(out, group) for out, group in zip(out_words, ref_words, strict=True)]
    return [
        {
            "matches": list(counts.matches), "totals": list(counts.totals),
            "hyp_len": counts.hyp_len, "ref_len": counts.ref_len,
            "meteor": meteor.sufficient(line), "ter_edits": edit, "ter_words": words,
        }
        for counts, line, (edit, words) in zip(bleu_counts, meteor_lines, edits, strict=True)
    ]  # fmt: skip


def _padded(group: list[str], rules: Protocol) -> list[str]:
    return group + [""] * (rules.most - len(group)) if rules.blanks else group


def corpus_scores(rows: Sequence[Mapping[str, object]]) -> dict[str, float]:
    """BLEU, METEOR and TER, keys `METRICS`, from the statistics of `per_input_statistics`; NaN without rows.

    BLEU is 0 if an order of n-grams has no match, as in multi-bleu.
    """
    if not rows:
        return dict.fromkeys(METRICS, float("nan"))
    counts = [
        bleu.BleuCounts(tuple(row["matches"]), tuple(row["totals"]), row["hyp_len"], row["ref_len"])  # type: ignore[arg-type]
        for row in rows
    ]
    matched = all(sum(count.matches[n] for count in counts) for n in range(bleu.ORDERS))
    meteor_rows = np.array([row["meteor"] for row in rows], dtype=np.float64)
    edits, words = (np.array([row[key] for row in rows], dtype=np.float64).sum() for key in ("ter_edits", "ter_words"))
    return {
        "bleu": bleu.bleu(counts) if matched else 0.0,
        "meteor": float(meteor.corpus(meteor_rows.sum(axis=0))),
        "ter": float(edits / words),
    }


def with_the_blank_line(scores: Mapping[str, float], inputs: int) -> dict[str, float]:
    """What the paper's scripts print in place of the correct scores over `inputs`: their output file ends in an empty line.

    `eval.py` takes that line for one more input with an empty text. pyter gives it the rate 1; METEOR, whose files then differ in
    length, fails and is printed as -1; BLEU, which reads lines, is not affected.
    """
    return {**scores, "meteor": -1.0, "ter": (scores["ter"] * inputs + 1) / (inputs + 1)}
