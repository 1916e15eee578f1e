"""The generated sentiment task: is one review sentence positive or negative?"""

from __future__ import annotations

from tests.generators import sentiment_words as words
from tests.generators.draw import Draw
from tests.generators.parts import Example, sentence, with_article
from tests.generators.sentiment_frames import DIRECT, FLIPPED, FRAMES, MIXED

LABELS = ("negative", "positive")

# In five of nine rows the words agree with the label, in two they contradict it, in two they cancel out.
GROUPS = (DIRECT,) * 5 + (FLIPPED,) * 2 + (MIXED,) * 2
OPENER, WITHIN = 0.2, 0.25  # "All in all, ...", "the plot in this film"

PARTS = tuple((domain, noun, kind) for domain in words.DOMAINS for noun, kind in domain.parts)


def _opinions(draw: Draw, suffix: str, positive: bool, noun: str, kind: str, kind_t: str) -> dict[str, str]:
    """The fields with `suffix` in their names, all of one polarity."""
    side = 0 if positive else 1
    adjective = draw.uniform(words.ADJECTIVES[kind][side])
    adjective_t = draw.uniform([word for word in words.ADJECTIVES[kind_t][side] if word != adjective])
    base, past = draw.uniform(words.VERBS[side])
    like, liking = draw.uniform(words.LIKING[side])
    return {
        suffix: adjective,
        f"{suffix}_t": adjective_t,
        f"x_{suffix}": with_article(adjective),
        f"a_{suffix}": with_article(f"{adjective} {noun}"),
        f"b_{suffix}": base,
        f"v_{suffix}": past,
        f"o_{suffix}": draw.uniform(words.NOUNS[side]),
        f"l_{suffix}": like,
        f"ling_{suffix}": liking,
        f"h_{suffix}": draw.uniform(words.HOPES[side]),
        f"g_{suffix}": draw.uniform(words.GOOD[side]),
    }


def fill(frame: str, part: int, positive: bool, draw: Draw) -> str:
    """The frame filled in as a sentence about PARTS[part] with this polarity."""
    domain, noun, kind = PARTS[part]
    noun_t, kind_t = draw.uniform([other for other in domain.parts if other[0] != noun])
    i, me, my, i_was = draw.uniform(words.SELVES)
    same = _opinions(draw, "same", positive, noun, kind, kind_t)
    fields = {
        **same,
        **_opinions(draw, "other", not positive, noun, kind, kind_t),
        "a_same_t": with_article(f"{same['same_t']} {noun_t}"),
        "s": f"the {noun} {domain.within}" if draw.chance(WITHIN) else f"the {noun}",
        "t": f"the {noun_t}",
        "n": noun,
        "an": with_article(noun),
        "whole": f"the {domain.whole}",
        "a_whole": with_article(domain.whole),
        "wholes": domain.wholes,
        "seen": domain.seen,
        "very": draw.uniform(words.INTENSIFIERS),
        "who": draw.uniform(words.PEOPLE),
        "i": i,
        "me": me,
        "my": my,
        "i_was": i_was,
    }
    opener = f"{draw.uniform(words.OPENERS)}, " if draw.chance(OPENER) else ""
    return sentence(opener + frame.format_map(fields))


def example(draw: Draw, label: str) -> Example:
    """One row with this label."""
    frame, part = draw.uniform(draw.uniform(GROUPS)), draw.index(len(PARTS))
    text = fill(frame, part, label == "positive", draw)
    return Example((text, None, label), (FRAMES.index(frame), part))
