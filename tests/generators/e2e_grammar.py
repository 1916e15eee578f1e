"""A small grammar that words an MR as people might: sentence plans, pronouns, aggregation, typing errors."""

from __future__ import annotations

from tests.generators.draw import Draw
from tests.generators.e2e_phrases import (
    ADJECTIVES,
    AREA_PLACES,
    CLAUSES,
    FOODS,
    NEAR_PLACES,
    NOUNS,
    SENTENCES,
    Clause,
)

OMIT = 0.06  # share of texts that leave one attribute out
SLIP = 0.05  # share of texts with a typing error


def with_article(phrase: str) -> str:
    """ "a pub", "an average rated pub"."""
    return ("an " if phrase[0] in "aeiouAEIOU" and not phrase.startswith("one") else "a ") + phrase


def plural(finite: str) -> str:
    """The clause for a plural subject: "serves food" -> "serve food"."""
    verb, _, rest = finite.partition(" ")
    verb = {"is": "are", "has": "have", "does": "do"}.get(verb) or verb.removesuffix("s")
    return f"{verb} {rest}"


def _place(mr: dict[str, str], draw: Draw) -> str:
    """The location, from area and near; "" if the MR has neither. Removes both from `mr`."""
    parts = []
    if "area" in mr:
        parts.append(draw.pick(AREA_PLACES[mr.pop("area")]))
    if "near" in mr:
        parts.append(draw.pick(NEAR_PLACES).format(v=mr.pop("near")))
    if len(parts) == 2:
        if draw.chance(0.45):
            parts.reverse()
        parts[1] = parts[1].removeprefix("located ")
    return " ".join(parts)


def _noun_phrase(mr: dict[str, str], draw: Draw) -> tuple[str, str]:
    """("cheap Greek pub", "pub"): up to two slots and the food before the noun; all of them are removed from `mr`."""
    noun = mr.pop("Type", None) or draw.pick(NOUNS)
    before: list[str] = []
    for slot, p in (("family friendly", 0.35), ("price", 0.4), ("customer rating", 0.25), ("area", 0.08)):
        wordings = ADJECTIVES[slot].get(mr.get(slot, ""))
        if wordings and len(before) < 2 and draw.chance(p):
            before.append(draw.pick(wordings))
            del mr[slot]
    if len(before) == 2 and draw.chance(0.3):
        before.reverse()
    if "food" in mr and draw.chance(0.35):
        before.append(mr.pop("food"))
    if len(before) > 1 and before[1] not in FOODS and draw.chance(0.3):
        before[0] += ","
    return " ".join([*before, noun]), noun


def _opening(name: str, phrase: str, place: str, clause: Clause | None, draw: Draw) -> tuple[str, bool]:
    """(the first sentence, whether it used `clause`)."""
    a = with_article(phrase)
    at = f" {place}" if place else ""
    bare = place.removeprefix("located ")
    plans: list[tuple[float, str, bool]] = [
        (2, f"{name} is {a}{at}.", False),
        (0.8, f"There is {a}{at} called {name}.", False),
        (0.5, f"{name} is {a}{at} worth a visit.", False),
        (0.5, f"If you are looking for {a}{at}, try {name}.", False),
    ]
    if bare:
        plans += [
            (0.8, f"Located {bare}, {name} is {a}.", False),
            (0.6, f"{bare[0].upper()}{bare[1:]}, there is {a} called {name}.", False),
            (0.5, f"{name} is {a}. It is located {bare}.", False),
        ]
    if clause:
        finite, modifier = clause
        plans += [
            (4, f"{name} is {a}{at} {modifier}.", True),
            (1.5, f"{name} is {a} {modifier}{at.replace(' located', ', located')}.", True),
            (1.2, f"{name} is {a}{at} that {finite}.", True),
            (1, f"There is {a}{at} called {name} that {finite}.", True),
            (1, f"{name}, {a}{at}, {finite}.", True),
            (0.7, f"{name} {finite}. It is {a}{at}.", True),
        ]
        if bare:
            plans.append((1, f"Located {bare}, {name} is {a} {modifier}.", True))
    _, sentence, used = draw.weighted(plans, [weight for weight, _, _ in plans])
    return sentence, used


def _joined(finites: list[str], draw: Draw) -> str:
    """ "has low prices and welcomes families", "has low prices and a high rating", with commas from three on."""
    *head, last = finites
    if not head:
        return last
    verb = head[-1].partition(" ")[0]
    if verb in ("has", "have") and draw.chance(0.6):
        last = last.removeprefix(f"{verb} ")
    return ", ".join(head) + draw.weighted((" and ", " and also "), (9, 1)) + last


def _follow_ups(slots: list[tuple[str, str]], noun: str, draw: Draw) -> list[str]:
    """Sentences for the slots that the first sentence did not use."""
    sentences: list[str] = []
    while slots:
        slot, value = slots[0]
        if slot in SENTENCES and draw.chance(0.22):
            sentences.append(draw.pick(SENTENCES[slot][value]))
            slots = slots[1:]
            continue
        size = draw.weighted((1, 2, 3), (1, 2.2, 0.8))
        finites = [draw.pick(CLAUSES[name](value))[0] for name, value in slots[:size]]
        slots = slots[size:]
        subject = draw.weighted(("It", f"The {noun}", "They", "This " + noun), (4, 1, 1, 0.4))
        if subject == "They":
            finites = [plural(finite) for finite in finites]
        sentences.append(f"{subject} {_joined(finites, draw)}.")
    return sentences


def _slip(text: str, draw: Draw) -> str:
    """The text with a slip: no final stop, American spelling, a lower-case sentence, or two letters swapped."""
    kind = draw.uniform(("stop", "spelling", "case", "swap"))
    if kind == "stop":
        return text.removesuffix(".")
    if kind == "spelling":
        return text.replace("centre", "center").replace("-", " ")
    if kind == "case":
        return text.replace(". It", ". it").replace(". The", ". the")
    words = text.split(" ")
    at = draw.uniform([i for i, word in enumerate(words) if len(word) > 1 and word.islower()])
    word, middle = words[at], len(words[at]) // 2
    words[at] = word[: middle - 1] + word[middle] + word[middle - 1] + word[middle + 1 :]
    return " ".join(words)


def word_one(mr: dict[str, str], draw: Draw) -> str:
    """One text for `mr` (slot -> value, "name" required)."""
    left = dict(mr)
    name = left.pop("name")
    if draw.chance(OMIT) and (optional := [slot for slot in left if slot != "Type"]):
        del left[draw.uniform(optional)]
    place = _place(left, draw)
    phrase, noun = _noun_phrase(left, draw)
    slots = list(left.items()) if draw.chance(0.5) else draw.shuffled(list(left.items()))
    # The food comes first most often.
    slots.sort(key=lambda item: item[0] != "food" or draw.chance(0.3))
    clause = draw.pick(CLAUSES[slots[0][0]](slots[0][1])) if slots else None
    first, used = _opening(name, phrase, place, clause, draw)
    text = " ".join([first, *_follow_ups(slots[1:] if used else slots, noun, draw)])
    return _slip(text, draw) if draw.chance(SLIP) else text
