"""Which price, rating, family friendliness, area, food, type and nearby venue a text states, by known wordings.

Each function returns (firm, loose): values the text states for that slot, and values it may mean. Either fulfils a
slot; only a firm value can make it wrong or invented. Prices and ratings are "low", "mid" or "high", in whatever
words they are given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from lora_repro.metrics.slot_text import CLAUSE_END, clause, words

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
CUISINES = frozenset(
    "english french italian japanese indian chinese british american greek lebanese peruvian ethiopian vietnamese polish mexican "
    "turkish korean portuguese spanish thai german russian moroccan caribbean mediterranean brazilian".split()
)
DISHES = {  # words that make a cuisine likely without naming it
    "english": "british fish chips breakfast roast traditional", "italian": "pasta pizza pizzas spaghetti italy",
    "japanese": "sushi japan", "indian": "curry curries india", "chinese": "noodles noodle china",
    "french": "france wine wines", "fast food": "burger burgers fries fastfood fast quick",
}  # fmt: skip
TYPES = {
    "pub": (r"\b(?:pub|pubs)\b", r"\b(?:bar|tavern|inn|alehouse)\b"),
    "coffee shop": (r"\b(?:coffee ?(?:shops?|house|place|bar)|coffeeshops?|cafe|cafes)\b", r"\bcoffees?\b"),
    "restaurant": (
        r"(?!)",
        r"\b(?:restaurants?|resturants?|restaraunts?|restraunts?|eatery|diner|bistro|dining|dine)\b",
    ),
}
AREAS = {
    "riverside": (r"\b(?:river|rivers|riverside|riverbank|riverfront|waterside|waterfront|thames)\b", r"\b(?:water|bank)\b"),
    "city centre": (
        r"\b(?:city (?:cent(?:re|er|ral))|(?:centre|center|heart|middle) of (?:the )?(?:city|town)|town cent(?:re|er))\b",
        r"\b(?:city|centre|center|central|centrally|downtown|town)\b",
    ),
}  # fmt: skip
OUTSIDE = re.compile(r"\b(?:outside|north|south|east|west|away from|not in|edge)\b")
NEAR = re.compile(
    r"\b(?:[Nn]ear(?:by)?(?: to)?|[Cc]lose (?:to|by)|[Nn]ext (?:door )?to|[Bb]eside|[Aa]djacent to|[Nn]ot far from|[Bb]y"
    r"|(?:[Aa]cross|[Aa]long|street|corner) from|[Oo]pposite)"
    r"\s+(?:the\s+|a\s+)?((?:[A-Z][\w'’-]*\s*)+)"
)
NO_VENUE = frozenset(
    "river riverside thames customers city centre center town cambridge the area north south east west england a an it".split()
)


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
    levels = {"above": ("high",), "below": ("low",)} if text[position].startswith("average") else {}
    return levels.get(before, EITHER_LEXICON.get(text[position], ()))


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
        if len(amounts) == 1 and (match := DIRECTION.search(" ".join(text))):
            less = bool(match[2]) != bool(match[1])
            if less != (20 in amounts):
                return set(), {"mid", "low" if less else "high"}
        return {"mid" if 25 in amounts else "high" if 30 in amounts else "low"}, firm
    if amounts:
        loose.update(LEVELS)
    return firm, loose


def rating(text: Sequence[str]) -> Said:
    """Rating levels: by stars or points of 5, or by adjective."""
    firm, loose = _levels(text, "rating", RATING_LEXICON, reach=True)
    line = " ".join(text)
    for pattern in STAR_PATTERNS:
        stars = {STARS[NUMBERS[number]] for number in pattern.findall(line)}
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


def _patterns(text: Sequence[str], table: dict[str, tuple[str, str]]) -> Said:
    line = " ".join(text)
    firm = {value for value, (sure, _) in table.items() if re.search(sure, line)}
    return firm, {value for value, (_, maybe) in table.items() if re.search(maybe, line)}


def area(text: Sequence[str]) -> Said:
    """ "riverside" and "city centre"; "outside the city centre" asserts neither."""
    firm, loose = _patterns(text, AREAS)
    return (firm - {"city centre"} if OUTSIDE.search(" ".join(text)) else firm), loose


def eat_type(text: Sequence[str]) -> Said:
    """ "pub", "coffee shop" and "restaurant"; the last is never firm, since people call any venue a restaurant."""
    return _patterns(text, TYPES)


def food(text: Sequence[str]) -> Said:
    """Cuisines by name (firm) or by their dishes (loose)."""
    firm = {word for word in text if word in CUISINES}
    if "fast food" in " ".join(text):
        firm.add("fast food")
    return firm, {cuisine for cuisine, dishes in DISHES.items() if set(dishes.split()) & set(text)}


def near(output: str, venues: Sequence[str]) -> str | None:
    """A venue that the cased `output` calls near and that is not in `venues`; None if there is none."""
    venue_words = {word for venue in venues for word in words(venue)} | NO_VENUE
    for mention in NEAR.findall(output):
        other = [word for word in words(mention) if word.isalpha() and word not in venue_words]
        if other and not venue_words & set(words(mention)) - NO_VENUE:
            return " ".join(other)
    return None
