"""Text as the slot matcher reads it: lower-case words without accents and tokenisation, with venue names masked."""

import re
import unicodedata
from collections.abc import Sequence
from difflib import SequenceMatcher

NAME = "#"  # replaces a venue name of the MR; `words` never yields it, and no word is similar to it
SAME = 0.82  # difflib ratio from which two spellings are one name: "Fitzbilles" for Fitzbillies
# These words alone do not name a venue: they say its kind or its food.
GENERIC = frozenset(
    "cafe house hotel bar inn hall green blue golden palace king express taste pub restaurant coffee shop food cuisine burger "
    "wine noodle rice pizza indian chinese french italian japanese english".split()
)
CLAUSE_END = frozenset(". ; ! ? , and but with while or although though yet".split())


def words(text: str) -> list[str]:
    """Lower-case ASCII words, whole numbers and punctuation of raw or tokenised text: "£20-25." and "£ 20 - 25 ." -> 20 25 .

    Negated verbs are split in the same way: "isn't", "is n't" -> is not.
    """
    text = unicodedata.normalize("NFKD", text.replace("’", "'").replace("‘", "'")).lower()
    text = "".join(character for character in text if not unicodedata.combining(character))
    text = re.sub(r"\b(can|is|are|was|do|does|did|has|have|would|should|could|wo) ?n'?t\b", r"\1 not", text)
    text = re.sub(r"\bcan'?t\b|\bcannot\b", "can not", text)
    text = re.sub(r"(?<=\d),(?=\d\d\d)|(?<=\d)\.\d\d?\b", "", text)  # £10.50 -> 10
    text = re.sub(r" ?'s\b|'", "", text)
    return re.findall(r"[a-z]+|\d+|[.,;!?]", text)


def _exact(name: Sequence[str], text: Sequence[str]) -> tuple[int, int] | None:
    size = len(name)
    starts = (i for i in range(len(text) - size + 1) if list(text[i : i + size]) == list(name))
    start = next(starts, None)
    return None if start is None else (start, start + size)


def _similar(name: Sequence[str], text: Sequence[str]) -> tuple[int, int] | None:
    """The span most similar to `name`, if at least `SAME` and not only of `GENERIC` words. It may be split or joined once."""
    best, span = SAME, None
    matcher: SequenceMatcher[str] = SequenceMatcher(None, "", "", autojunk=False)
    matcher.set_seq2(" ".join(name))
    for width in {max(1, len(name) - 1), len(name), len(name) + 1}:
        for start in range(len(text) - width + 1):
            if GENERIC.issuperset(text[start : start + width]):
                continue
            matcher.set_seq1(" ".join(text[start : start + width]))
            if (
                matcher.real_quick_ratio() >= best
                and matcher.quick_ratio() >= best
                and matcher.ratio() >= best
            ):
                best, span = matcher.ratio(), (start, start + width)
    return span


def mask(text: list[str], name: str) -> tuple[list[str], bool]:
    """(`text` with every mention of a venue name replaced by NAME, whether there was one).

    A mention is the name with or without "the"; if there is none, a similar spelling, or the name without its last
    or first word. A name without Latin letters or digits counts as mentioned.
    """
    full = [word for word in words(name) if word != "the"] or words(name)
    if not full:
        return text, True
    parts = [
        part for part in (full[:-1], full[1:]) if not GENERIC.issuperset(part) and len("".join(part)) >= 4
    ]
    for find, part in ((_exact, full), (_similar, full), *((_exact, part) for part in parts)):
        match = False
        while span := find(part, text):
            text = [*text[: span[0]], NAME, *text[span[1] :]]
            match = True
        if match:
            return text, True
    return text, False


def clause(text: Sequence[str], start: int, end: int) -> tuple[list[str], list[str]]:
    """(the words of the clause before position `start`, nearest first; those from `end` on)."""
    sides: tuple[list[str], list[str]] = ([], [])
    for side, part in zip(sides, (reversed(text[:start]), text[end:]), strict=True):
        for word in part:
            if word in CLAUSE_END:
                break
            side.append(word)
    return sides
