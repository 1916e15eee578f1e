"""Entailment rules of what words mean: kinds, details, states, verbs that say whether a thing was done or is so."""

from __future__ import annotations

from collections.abc import Sequence

from lora_repro.tasks import glue_embedded_entailment_words as words
from lora_repro.tasks import glue_embedded_similarity_words as concepts
from lora_repro.tasks.glue_embedded_draw import Draw, sentence, with_article
from lora_repro.tasks.glue_embedded_entailment_logic import Case


def _did(name: str, base: str, past: str, negated: bool) -> str:
    return f"{name} did not {base}" if negated else f"{name} {past}"


# Agents, actions in the past, things that have two wordings or more.
SAYINGS = tuple(
    tuple(tuple(wording.split(" ")[0] if pool is concepts.ACTIONS else wording for wording in concept)
          for family in pool for concept in family if len(concept) > 1)
    for pool in (concepts.AGENTS, concepts.ACTIONS, concepts.OBJECTS)
)  # fmt: skip


def substitution_follows(first: Sequence[int], second: Sequence[int]) -> bool:
    """Whether two clauses are made of the same concepts, in whatever wording."""
    return list(first) == list(second)


def substitution(draw: Draw) -> Case:
    """ "The doctor fixed the car", "The physician repaired the car"; two words change, both or one of them for good."""
    meant = [draw.index(len(pool)) for pool in SAYINGS]
    meant_2, said, said_2 = list(meant), list[str](), list[str]()
    reworded = draw.sample(range(3), 2)
    if draw.chance(0.5):
        at = reworded[0]
        meant_2[at] = draw.uniform([n for n in range(len(SAYINGS[at])) if n != meant[at]])
    for at, pool in enumerate(SAYINGS):
        said.append(draw.uniform(pool[meant[at]]))
        left = [wording for wording in pool[meant_2[at]] if wording != said[at]]
        said_2.append(draw.uniform(left) if at in reworded else said[at])
    spot = draw.uniform(words.SPOTS)
    return Case(
        *(sentence("the {} {} the {} {}".format(*clause, spot)) for clause in (said, said_2)),
        substitution_follows(meant, meant_2),
        (meant[0], meant[2]),
    )


def hypernym_follows(move: str, negated: bool) -> bool:
    """Whether "saw a M" follows from "saw a N": M is N's hypernym (up), hyponym (down) or sibling; both negated or not."""
    return move == ("down" if negated else "up")


def hypernym(draw: Draw) -> Case:
    """ "Ada saw a poodle", "Ada saw a dog"."""
    group, verb = draw.uniform(list(words.KINDS)), draw.index(len(words.SIGHTINGS))
    kind = draw.index(len(words.KINDS[group]))
    noun, name = words.KINDS[group][kind], draw.uniform(words.NAMES)
    sibling = draw.uniform([other for other in words.KINDS[group] if other != noun])
    move, one, two = draw.uniform((("up", noun, group), ("down", group, noun), ("sibling", noun, sibling)))
    negated = draw.chance(0.5)
    said, spot = _did(name, *words.SIGHTINGS[verb], negated), draw.uniform(words.SPOTS)
    return Case(
        sentence(f"{said} {with_article(one)} {spot}"),
        sentence(f"{said} {with_article(two)} {spot}"),
        hypernym_follows(move, negated),
        (4 * list(words.KINDS).index(group) + kind, verb),
    )


def detail_follows(premise: frozenset[str], hypothesis: frozenset[str], negated: bool) -> bool:
    """Whether the hypothesis, with its details, follows: fewer are safe in what was done, more in what was not."""
    return premise <= hypothesis if negated else hypothesis <= premise


def detail(draw: Draw) -> Case:
    """ "Ada bought an old red boat", "Ada bought a boat"."""
    verb, goods = draw.index(len(words.DEALS)), draw.index(len(words.GOODS))
    age, colour, spot = draw.uniform(words.AGES), draw.uniform(words.COLOURS), draw.uniform(words.SPOTS)
    name, negated = draw.uniform(words.NAMES), draw.chance(0.5)
    details = draw.sample((age, colour, spot), 2 + draw.index(2))
    sides = [frozenset(details), frozenset(details[1:])]
    premise, hypothesis = draw.sample(sides, 2)

    def say(kept: frozenset[str]) -> str:
        thing = " ".join([*(word for word in (age, colour) if word in kept), words.GOODS[goods]])
        did = _did(name, *words.DEALS[verb], negated)
        return " ".join([did, with_article(thing), *({spot} & kept)])

    return Case(
        sentence(say(premise)),
        sentence(say(hypothesis)),
        detail_follows(premise, hypothesis, negated),
        (verb, goods),
    )


def state_follows(side: int, negated: bool, side_2: int, negated_2: bool) -> bool:
    """Whether one wording of a state follows from another: they are on one side once negations are worked out."""
    return (side != negated) == (side_2 != negated_2)


def state(draw: Draw) -> Case:
    """ "The shop was not shut when Ada arrived", "The shop was open when Ada arrived"."""
    number, moment = draw.index(len(words.STATES)), draw.index(len(words.MOMENTS))
    subject = draw.uniform(words.STATES[number][2])
    rest = f"when {draw.uniform(words.NAMES)} {words.MOMENTS[moment]}"
    (side, negated), (side_2, negated_2) = [(draw.index(2), draw.chance(0.4)) for _ in range(2)]

    def say(at: int, denied: bool) -> str:
        return f"the {subject} was {'not ' if denied else ''}{draw.uniform(words.STATES[number][at])} {rest}"

    return Case(
        sentence(say(side, negated)),
        sentence(say(side_2, negated_2)),
        state_follows(side, negated, side_2, negated_2),
        (number, moment),
    )


# Verb phrase, its negation; whether the act was done: after the one, after the other (None: not said).
IMPLICATIVES: tuple[tuple[str, str, bool | None, bool | None], ...] = (
    ("managed to", "did not manage to", True, False),
    ("remembered to", "did not remember to", True, False),
    ("bothered to", "did not bother to", True, False),
    ("failed to", "did not fail to", False, True),
    ("forgot to", "did not forget to", False, True),
    ("neglected to", "did not neglect to", False, True),
    ("wanted to", "did not want to", None, None),
    ("promised to", "did not promise to", None, None),
)


def implicative_follows(verb: int, negated: bool, denied: bool) -> bool:
    """Whether "did it" (`denied`: "did not do it") follows from IMPLICATIVES[verb], negated or not."""
    done = IMPLICATIVES[verb][3 if negated else 2]
    return done is not None and done != denied


def implicative(draw: Draw) -> Case:
    """ "Ada did not forget to lock the gate", "Ada locked the gate"."""
    verb, action = draw.index(len(IMPLICATIVES)), draw.index(len(words.ACTIONS))
    negated, denied = draw.chance(0.5), draw.chance(0.5)
    name, (base, past) = draw.uniform(words.NAMES), words.ACTIONS[action]
    return Case(
        sentence(f"{name} {IMPLICATIVES[verb][negated]} {base}"),
        sentence(_did(name, base, past, denied)),
        implicative_follows(verb, negated, denied),
        (verb, action),
    )


# Verb phrase; whether "that p" after it says that p is so, and that the subject thinks so.
ATTITUDES = (
    ("knows", True, True),
    ("has noticed", True, True),
    ("does not know", True, False),
    ("has not noticed", True, False),
    ("is convinced", False, True),
    ("believes", False, True),
    ("claims", False, False),
    ("hopes", False, False),
)


def attitude_follows(verb: int, thought: bool, negated: bool, negated_2: bool) -> bool:
    """Whether p, or (`thought`) that the subject thinks p, follows; p is denied on neither or on both sides."""
    return ATTITUDES[verb][2 if thought else 1] and negated == negated_2


def attitude(draw: Draw) -> Case:
    """ "Ada does not know that the bridge is closed", "The bridge is closed"."""
    verb, fact = draw.index(len(ATTITUDES)), draw.index(len(words.FACTS))
    thought, negated = draw.chance(0.5), draw.chance(0.5)
    negated_2 = negated if draw.chance(0.7) else not negated
    name = draw.uniform(words.NAMES)

    def that(denied: bool) -> str:
        return (
            "the " + words.FACTS[fact].replace(" is ", " is not ") if denied else f"the {words.FACTS[fact]}"
        )

    hypothesis = f"{name} thinks that {that(negated_2)}" if thought else that(negated_2)
    return Case(
        sentence(f"{name} {ATTITUDES[verb][0]} that {that(negated)}"),
        sentence(hypothesis),
        attitude_follows(verb, thought, negated, negated_2),
        (verb, fact),
    )
