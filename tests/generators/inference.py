"""The generated inference task with MNLI's three answers.

Two sentences say who saw what: one names a thing, the other the same thing, its hypernym, a hyponym or a sister term; each may
be negated. Pairs of content words of dev and test never occur together in a first sentence of train, unless that names a
hypernym.
"""

from __future__ import annotations

from tests.generators import entailment_words as words
from tests.generators.draw import Draw
from tests.generators.parts import held_out, sentence, with_article

LABELS = ("entailment", "neutral", "contradiction")
SEED = 20210617
SIZES = {"train": 900, "dev": 60, "test": 90}
MOVES = ("same", "up", "down", "sister")  # what the second sentence names: the same, a hypernym, a hyponym, a sister term


def relation(move: str, denied: bool, denied_too: bool) -> str:
    """The label of "saw a N", "saw a M", each denied or not; M is N, N's hypernym (up), a hyponym (down) or its sister.

    Who saw a poodle saw a dog, and who saw no dog saw no poodle. Statements about other things are neutral.
    """
    if denied == denied_too:
        return "entailment" if move in ("same", "down" if denied else "up") else "neutral"
    return "contradiction" if move in ("same", "down" if denied else "up") else "neutral"


def _said(name: str, verb: tuple[str, str], thing: str, spot: str, denied: bool) -> str:
    base, past = verb
    return sentence(f"{name} {f'did not {base}' if denied else past} {with_article(thing)} {spot}")


def _pair(draw: Draw) -> tuple[str, str, str, tuple[int, int]]:
    """(first, second, label, cell of content words); the move `down` has the hypernym in the first sentence."""
    group, verb = draw.uniform(list(words.KINDS)), draw.index(len(words.SIGHTINGS))
    sort, sister = draw.sample(words.KINDS[group], 2)
    move, denied, denied_too = draw.uniform(MOVES), draw.chance(0.5), draw.chance(0.5)
    one, two = {"same": (sort, sort), "up": (sort, group), "down": (group, sort), "sister": (sort, sister)}[move]
    name, spot = draw.uniform(words.NAMES), draw.uniform(words.SPOTS)
    pair = [_said(name, words.SIGHTINGS[verb], thing, spot, no) for thing, no in ((one, denied), (two, denied_too))]
    cell = (4 * list(words.KINDS).index(group) + words.KINDS[group].index(sort), verb)
    return pair[0], pair[1], relation(move, denied, denied_too), cell


def generate() -> dict[str, list[tuple[str, str, str]]]:
    """(first, second, label) rows of train (900), dev (60) and test (90), with balanced labels: the same on every Python."""
    draw, pairs = Draw(SEED), set[tuple[str, str]]()
    splits: dict[str, list[tuple[str, str, str]]] = {}
    for split, size in SIZES.items():
        part: list[tuple[str, str, str]] = []
        while len(part) < size:
            first, second, label, cell = _pair(draw)
            fresh = first != second and (first, second) not in pairs and held_out(cell) == (split != "train")
            if fresh and label == LABELS[len(part) % 3]:
                pairs.add((first, second))
                part.append((first, second, label))
        splits[split] = draw.sample(part, size)
    return splits
