"""The generated entailment task: does the second sentence follow from the first?

There are two rules about word meanings, substitution and hypernyms. A small encoder learns both from a thousand rows; whole-word
overlap reveals neither. (Rules on quantifiers, roles and time were tried: with 1,600 rows full fine-tuning of MiniLM stayed at
chance.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.generators import entailment_words as words
from tests.generators import similarity_words as concepts
from tests.generators.draw import Draw
from tests.generators.parts import Example, sentence, with_article

LABELS = ("entailment", "not_entailment")


class Case(NamedTuple):
    """A premise, a hypothesis, whether it follows, and the cell of content words."""

    premise: str
    hypothesis: str
    follows: bool
    cell: tuple[int, int]


def _did(name: str, base: str, past: str, negated: bool) -> str:
    return f"{name} did not {base}" if negated else f"{name} {past}"


# Agents, past-tense actions and things with at least two wordings.
SAYINGS = tuple(
    tuple(tuple(wording.split(" ")[0] if pool is concepts.ACTIONS else wording for wording in concept)
          for family in pool for concept in family if len(concept) > 1)
    for pool in (concepts.AGENTS, concepts.ACTIONS, concepts.OBJECTS)
)  # fmt: skip


def substitution_follows(first: Sequence[int], second: Sequence[int]) -> bool:
    """Whether two clauses are made of the same concepts, in whatever wording."""
    return list(first) == list(second)


def substitution(draw: Draw) -> Case:
    """ "The doctor fixed the car", "The physician repaired the car": two words change, and one of them may change its meaning."""
    senses = [draw.index(len(pool)) for pool in SAYINGS]
    senses_2, wordings, wordings_2 = list(senses), list[str](), list[str]()
    positions = draw.sample(range(3), 2)
    if draw.chance(0.5):
        at = positions[0]
        senses_2[at] = draw.uniform([n for n in range(len(SAYINGS[at])) if n != senses[at]])
    for at, pool in enumerate(SAYINGS):
        wordings.append(draw.uniform(pool[senses[at]]))
        left = [wording for wording in pool[senses_2[at]] if wording != wordings[at]]
        wordings_2.append(draw.uniform(left) if at in positions else wordings[at])
    clause = f"the {{}} {{}} the {{}} {draw.uniform(words.SPOTS)}"
    return Case(
        sentence(clause.format(*wordings)),
        sentence(clause.format(*wordings_2)),
        substitution_follows(senses, senses_2),
        (senses[0], senses[2]),
    )


def hypernym_follows(move: str, negated: bool) -> bool:
    """Whether "saw a M" follows from "saw a N": M is N's hypernym (up), hyponym (down) or sibling; both negated or neither."""
    return move == ("down" if negated else "up")


def hypernym(draw: Draw) -> Case:
    """ "Ada saw a poodle", "Ada saw a dog"."""
    group, verb = draw.uniform(list(words.KINDS)), draw.index(len(words.SIGHTINGS))
    kind = draw.index(len(words.KINDS[group]))
    noun, name = words.KINDS[group][kind], draw.uniform(words.NAMES)
    sibling = draw.uniform([other for other in words.KINDS[group] if other != noun])
    move, one, two = draw.uniform((("up", noun, group), ("down", group, noun), ("sibling", noun, sibling)))
    negated = draw.chance(0.5)
    clause, spot = _did(name, *words.SIGHTINGS[verb], negated), draw.uniform(words.SPOTS)
    return Case(
        sentence(f"{clause} {with_article(one)} {spot}"),
        sentence(f"{clause} {with_article(two)} {spot}"),
        hypernym_follows(move, negated),
        (4 * list(words.KINDS).index(group) + kind, verb),
    )


RULES: tuple[Callable[[Draw], Case], ...] = (substitution, hypernym)


def example(draw: Draw, label: str) -> Example:
    """One row with this label. The rule is chosen first, so that every rule has both labels equally often."""
    rule = draw.uniform(RULES)
    while True:
        case = rule(draw)
        if LABELS[not case.follows] == label and case.premise != case.hypothesis:
            return Example((case.premise, case.hypothesis, label), case.cell)
