"""Which price, rating and family friendliness a text states, by known wordings (`slot_places.py`: area, food, type and venue).

Each function returns (firm, loose): values the text states for that slot, and values it may mean. Either fulfils a
slot; only a firm value can make it wrong or invented. Prices and ratings are "low", "mid" or "high", in whatever
words they are given.
"""

import re
from collections.abc import Mapping, Sequence

from lora_repro.metrics.slot_text import CLAUSE_END, clause

Said = tuple[set[str], set[str]]

PRICE = {
    "cheap": "low",
    "less than 20": "low",
    "moderate": "mid",
    "20 25": "mid",
    "high": "high",
    "more than 30": "high",
}
RATING = {
    "low": "low",
    "1 out of 5": "low",
    "average": "mid",
    "3 out of 5": "mid",
    "high": "high",
    "5 out of 5": "high",
}
LEVELS = ("low", "mid", "high")

# Word -> levels it may mean. Words of EITHER_LEXICON belong to the nearest price or rating noun.
PRICE_LEXICON = {
    **dict.fromkeys("cheap cheaply cheaper cheapest inexpensive inexpensively bargain".split(), ("low",)),
    **dict.fromkeys("affordable affordably budget reasonable reasonably value".split(), ("low", "mid")),
    **dict.fromkeys("midrange midpriced".split(), ("mid",)),
    **dict.fromkeys(
        "expensive expensively pricey pricy pricier upscale costly upmarket overpriced".split(), ("high",)
    ),
    **dict.fromkeys("fancy classy elegant premium luxury exclusive".split(), LEVELS[1:]),
}
RATING_LEXICON = {
    **dict.fromkeys("poor poorly bad badly terrible worst".split(), ("low",)),
    **dict.fromkeys("mediocre decent satisfactory okay ok averagely".split(), ("mid",)),
    **dict.fromkeys(
        "excellent great best top well outstanding good superb popular exceptional".split(), ("high",)
    ),
}
EITHER_LEXICON = {
    **dict.fromkeys("low lower lowest lowly".split(), ("low",)),
    **dict.fromkeys("average averaged mid medium middle moderate moderately fair fairly".split(), ("mid",)),
    **dict.fromkeys("high higher highest highly upper".split(), ("high",)),
}
PRICE_NOUNS = frozenset("price prices priced pricing pricey cost costs costing range ranges ranged".split())
RATING_NOUNS = frozenset(
    "rating ratings rated rate rates review reviews reviewed customer customers star stars score scores scored ranked ranking "
    "satisfaction feedback recommended regarded reputation".split()
)
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, **{str(n): n for n in range(1, 6)}}
AMOUNTS = {"twenty": 20, "thirty": 30}
# An amount with a direction: "over 20" may be either level above it, "no more than 20" neither.
DIRECTION = re.compile(
    r"\b(no |not )?(?:(less than|lower than|cheaper than|under|below)|more than|higher than|over|above) (twenty|thirty|20|30)\b"
)
STARS = {1: "low", 3: "mid", 5: "high", 2: "2 of 5", 4: "4 of 5"}
_N = "(one|two|three|four|five|[1-5])"
STAR_PATTERNS = (
    re.compile(rf"\b{_N} (?:stars? )?(?:(?:out|our|put) )?of (?:a possible )?(?:five|5)\b"),
    re.compile(rf"\b{_N} (?:out )?(?:five|5)\b"),
    re.compile(rf"\b{_N} stars?\b"),
    re.compile(
        rf"\b(?:rating|ratings|rated|rates|rate|score|scores)(?: (?:of|is|as|a|an|at|with|only|just|by|customers))* {_N}\b"
    ),
)
NEGATION = frozenset(
    "not no non nor never neither without unfriendly avoid unsuitable inappropriate prohibited forbidden banned excluded "
    "discouraged isnt dont doesnt cant".split()
)
FAMILY = frozenset(
    "family families kid kids child children childrens childs familyfriendly kidfriendly childfriendly".split()
)
ADULTS = frozenset("adult adults grown grownups".split())


def nearest_noun(text: Sequence[str], position: int) -> str:
    """ "price" or "rating" by the noun nearest to an adjective at `position`, or "" if none is less than 7 words away.

    A noun before the adjective counts as half a word farther, and each clause end in between as 3 words.
    """
    best, kind = 7.0, ""
    for i in range(max(0, position - 8), min(len(text), position + 9)):
        noun = "price" if text[i] in PRICE_NOUNS else "rating" if text[i] in RATING_NOUNS else ""
        between = text[min(i, position) + 1 : max(i, position)]
        distance = (
            abs(i - position) + (0.5 if i < position else 0) + 3 * sum(word in CLAUSE_END for word in between)
        )
        if noun and distance < best:
            best, kind = distance, noun
    return kind


def _turned(text: Sequence[str], position: int) -> tuple[str, ...]:
    """Levels of the word of EITHER_LEXICON at `position`; "above average" is high, "below average" low."""
    before = text[position - 1] if position else ""
    turned = {"above": ("high",), "below": ("low",)} if text[position].startswith("average") else {}
    return turned.get(before, EITHER_LEXICON.get(text[position], ()))


def _negated(text: Sequence[str], position: int) -> bool:
    """Whether "not", "no" or "never" is at most 4 words before `position`, in the same clause."""
    before, _ = clause(text, position, position)
    return not {"not", "no", "never"}.isdisjoint(before[:4])


def _levels(text: Sequence[str], slot: str, lexicon: Mapping[str, tuple[str, ...]], reach: bool) -> Said:
    """Levels stated by adjectives. `reach`: the lexicon's words are firm only if the slot's noun is near."""
    firm: set[str] = set()
    loose: set[str] = set()
    for i, word in enumerate(text):
        own, either = lexicon.get(word, ()), _turned(text, i)
        noun = nearest_noun(text, i) if own or either else ""
        if _negated(text, i):
            loose |= (
                set(LEVELS) - set(own or either) if own or either else set()
            )  # "not expensive": anything else
            continue
        if own:
            (firm if len(own) == 1 and (not reach or noun == slot) else loose).update(own)
        if either:
            (firm if noun == slot else loose if not noun else set()).update(either)
    return firm, loose


def price(text: Sequence[str]) -> Said:
    """Price levels: by amount (20, 20 to 25, 30; "more than 20" and "less than 30" may be two levels) or by adjective."""
    firm, loose = _levels(text, "price", PRICE_LEXICON, reach=False)
    amounts = {
        AMOUNTS.get(word) or int(word)
        for word in text
        if word in AMOUNTS or (word.isdigit() and int(word) >= 10)
    }
    if amounts & {20, 25, 30}:
        if len(amounts) == 1 and (found := DIRECTION.search(" ".join(text))):
            less = bool(found[2]) != bool(found[1])
            if less != (20 in amounts):
                return set(), {"mid", "low" if less else "high"}
        return {"mid" if 25 in amounts else "high" if 30 in amounts else "low"}, firm
    if amounts:
        loose.update(LEVELS)
    return firm, loose


def rating(text: Sequence[str]) -> Said:
    """Rating levels: by stars or points of 5, or by adjective."""
    firm, loose = _levels(text, "rating", RATING_LEXICON, reach=True)
    joined = " ".join(text)
    for pattern in STAR_PATTERNS:
        stars = {STARS[NUMBERS[number]] for number in pattern.findall(joined)}
        if stars:
            return stars, firm | loose
    return firm, loose


def family(text: Sequence[str]) -> Said:
    """yes / no by each mention of families or children; a negation in its clause, or "free" after it, makes it no.

    A mention of adults means no.
    """
    firm: set[str] = set()
    for i, word in enumerate(text):
        if word in FAMILY or word in ADULTS:
            before, after = clause(text, i, i + 1)
            negated = any(near in NEGATION for near in (*before[:7], *after[:6])) or after[:1] == ["free"]
            firm.add("no" if negated or word in ADULTS else "yes")
    if not firm and "all ages" in " ".join(text):
        firm.add("yes")
    return firm, set()
