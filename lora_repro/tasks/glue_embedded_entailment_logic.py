"""Entailment rules of logic: quantifiers, numbers, connectives, orders. Each rule's label is computed, never written."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lora_repro.tasks import glue_embedded_entailment_words as words
from lora_repro.tasks.glue_embedded_draw import Draw, sentence


class Case(NamedTuple):
    """A premise, a hypothesis, whether it follows, and the cell of content words."""

    premise: str
    hypothesis: str
    follows: bool
    cell: tuple[int, int]


# (premise's quantifier, hypothesis's) -> moves of the noun under which it follows. "All the" says there are some.
QUANTIFIED = {
    ("all", "all"): ("same", "down"),
    ("all", "some"): ("same", "up"),
    ("some", "some"): ("same", "up"),
    ("no", "no"): ("same", "down"),
}
# What is asked: each quantifier and each move with both labels.
QUANTIFIERS = (
    ("all", "all", "up"), ("all", "all", "down"), ("some", "some", "up"), ("some", "some", "down"),
    ("no", "no", "up"), ("no", "no", "down"), ("all", "some", "up"), ("all", "some", "down"),
    ("all", "some", "same"), ("some", "all", "same"), ("no", "all", "down"), ("no", "some", "up"),
)  # fmt: skip
WORDED = {
    "all": ("all the {n}s {place} were {state}", "every {n} {place} was {state}"),
    "some": ("some of the {n}s {place} were {state}", "at least one {n} {place} was {state}"),
    "no": ("none of the {n}s {place} were {state}", "no {n} {place} was {state}"),
}


def quantifier_follows(first: str, second: str, move: str) -> bool:
    """Whether "`second` M were" follows from "`first` N were"; M is N, its hypernym (up) or its hyponym (down)."""
    return move in QUANTIFIED.get((first, second), ())


def quantifier(draw: Draw) -> Case:
    """ "All the dogs were asleep", "Every poodle was asleep"."""
    first, second, move = draw.uniform(QUANTIFIERS)
    group, place = draw.uniform(list(words.KINDS)), draw.index(len(words.GROUP_PLACES))
    kind = draw.index(len(words.KINDS[group]))
    nouns = {"up": (words.KINDS[group][kind], group), "down": (group, words.KINDS[group][kind])}
    one, two = nouns.get(move, (draw.uniform(nouns["up"]),) * 2)
    state = draw.uniform(words.LIVING_STATES if group in words.LIVING else words.THING_STATES)
    fields = {"place": words.GROUP_PLACES[place], "state": state}
    return Case(
        sentence(draw.uniform(WORDED[first]).format(n=one, **fields)),
        sentence(draw.uniform(WORDED[second]).format(n=two, **fields)),
        quantifier_follows(first, second, move),
        (4 * list(words.KINDS).index(group) + kind, place),
    )


MANY = len(words.NUMBERS)
COUNTS: dict[str, Callable[[int], tuple[int, int]]] = {
    "exactly": lambda n: (n, n),
    "at least": lambda n: (n, MANY),
    "more than": lambda n: (n + 1, MANY),
    "at most": lambda n: (0, n),
    "fewer than": lambda n: (0, n - 1),
}
LOWER, UPPER = ("at least", "more than"), ("at most", "fewer than")


def number_follows(first: str, n: int, second: str, m: int) -> bool:
    """Whether "`second` m" follows from "`first` n": whether the counts it allows contain the premise's."""
    (low, high), (lowest, highest) = COUNTS[first](n), COUNTS[second](m)
    return lowest <= low and high <= highest


def number(draw: Draw) -> Case:
    """ "At least seven nurses waited", "More than five nurses waited"."""
    bounds = draw.uniform((LOWER, UPPER))
    first, second = draw.uniform(("exactly", *bounds)), draw.uniform(bounds)
    n = 5 + draw.index(MANY - 9)
    m = n + draw.uniform((-3, -2, -1, 1, 2, 3))
    crowd, deed = draw.index(len(words.CROWDS)), draw.index(len(words.DEEDS))
    rest = f"{words.CROWDS[crowd]} {words.DEEDS[deed]}"
    return Case(
        sentence(f"{first} {words.NUMBERS[n]} {rest}"),
        sentence(f"{second} {words.NUMBERS[m]} {rest}"),
        number_follows(first, n, second, m),
        (crowd, deed),
    )


Formula = Callable[[bool, bool], bool]
FORMS: dict[str, tuple[str, Formula]] = {
    "x": ("{name} {past} {x}", lambda x, y: x),
    "y": ("{name} {past} {y}", lambda x, y: y),
    "not x": ("{name} did not {base} {x}", lambda x, y: not x),
    "not y": ("{name} did not {base} {y}", lambda x, y: not y),
    "x and y": ("{name} {past} {x} and {y}", lambda x, y: x and y),
    "y and x": ("{name} {past} both {y} and {x}", lambda x, y: x and y),
    "x or y": ("{name} {past} {x} or {y}", lambda x, y: x or y),
    "y or x": ("{name} {past} either {y} or {x}", lambda x, y: x or y),
    "x but not y": ("{name} {past} {x} but not {y}", lambda x, y: x and not y),
    "neither": ("{name} {past} neither {x} nor {y}", lambda x, y: not x and not y),
    "or but not x": ("{name} {past} {x} or {y}, but certainly not {x}", lambda x, y: y and not x),
}
CONNECTED = {
    "x and y": ("x", "y", "y and x", "not x", "not y"),
    "x or y": ("x", "y", "y or x", "not y", "x and y"),
    "x": ("x or y", "x and y"),
    "x but not y": ("x", "y", "not x", "not y", "x or y"),
    "neither": ("x", "y", "not x", "not y", "y or x"),
    "or but not x": ("x", "y", "not x", "not y"),
}


def connective_follows(first: str, second: str) -> bool:
    """Whether the form `second` is true wherever the form `first` is, by truth table."""
    table = [(x, y) for x in (False, True) for y in (False, True)]
    return all(FORMS[second][1](x, y) for x, y in table if FORMS[first][1](x, y))


def connective(draw: Draw) -> Case:
    """ "Ada visited the zoo or the castle", "Ada visited the zoo"."""
    first = draw.uniform(list(CONNECTED))
    second = draw.uniform(CONNECTED[first])
    verb, x = draw.index(len(words.TOURING)), draw.index(len(words.TOUR))
    y = draw.uniform([place for place in words.TOUR if place != words.TOUR[x]])
    base, past = words.TOURING[verb]
    fields = {
        "name": draw.uniform(words.NAMES), "base": base, "past": past,
        "x": f"the {words.TOUR[x]}", "y": f"the {y}",
    }  # fmt: skip
    return Case(
        sentence(FORMS[first][0].format(**fields)),
        sentence(FORMS[second][0].format(**fields)),
        connective_follows(first, second),
        (verb, x),
    )


def order_follows(facts: list[tuple[str, str]], claim: tuple[str, str]) -> bool:
    """Whether claim (a, b), "a comes before b", follows from such facts, by chaining them."""
    reached = {claim[0]}
    while grown := {b for a, b in facts if a in reached} - reached:
        reached |= grown
    return claim[1] in reached - {claim[0]}


def comparative(draw: Draw) -> Case:
    """ "Ada is older than Ben, and Ben is older than Cara", "Cara is younger than Ada"."""
    adjective, name = draw.index(len(words.COMPARED)), draw.index(len(words.NAMES))
    more, less, plain = words.COMPARED[adjective]

    def say(high: str, low: str) -> str:
        wordings = (f"{high} is {more} than {low}", f"{low} is {less} than {high}")
        return draw.uniform((*wordings, f"{low} is not as {plain} as {high}"))

    a = words.NAMES[name]
    b, c = draw.sample([other for other in words.NAMES if other != a], 2)
    facts = draw.uniform(([(a, b)], [(a, b), (b, c)], [(a, c), (b, c)], [(a, b), (a, c)]))
    claims = [(x, y) for x in (a, b, c) for y in (a, b, c) if x != y]
    claim = draw.uniform([pair for pair in claims if pair in facts or pair[::-1] in facts or len(facts) > 1])
    premise = ", and ".join(say(*fact) for fact in draw.sample(facts, len(facts)))
    return Case(sentence(premise), sentence(say(*claim)), order_follows(facts, claim), (adjective, name))
