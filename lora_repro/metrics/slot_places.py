"""Which area, food, type and nearby venue a text states, by known wordings; (firm, loose) as in `slot_values.py`."""

import re
from collections.abc import Sequence

from lora_repro.metrics.slot_text import words
from lora_repro.metrics.slot_values import Said

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


def _patterns(text: Sequence[str], table: dict[str, tuple[str, str]]) -> Said:
    joined = " ".join(text)
    firm = {value for value, (sure, _) in table.items() if re.search(sure, joined)}
    return firm, {value for value, (_, maybe) in table.items() if re.search(maybe, joined)}


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
    known = {word for venue in venues for word in words(venue)} | NO_VENUE
    for found in NEAR.findall(output):
        other = [word for word in words(found) if word.isalpha() and word not in known]
        if other and not known & set(words(found)) - NO_VENUE:
            return " ".join(other)
    return None
