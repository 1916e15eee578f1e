"""The generated similarity task: how close in meaning are two sentences, from 0.0 (unrelated) to 5.0 (the same)?

One sentence describes an event, the other the same event after some edits, or another event. The score is computed from the two
events alone, by `COSTS`. Wording, passive voice and the position of the time cost nothing, so two sentences with few words in
common may mean the same; a swap or "not" costs much but changes hardly a word.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tests.generators import similarity_words as words
from tests.generators.draw import Draw
from tests.generators.parts import Example, sentence
from tests.generators.similarity_words import Family

At = tuple[int, int]  # (family, concept in it)


@dataclass(frozen=True)
class Event:
    """Who did what, to whom (None: an action without a receiver), how many did it, where and when (None: not stated)."""

    agent: At
    action: At
    thing: At
    receiver: At | None
    number: int
    place: At | None
    time: At | None
    negated: bool = False


POOLS: dict[str, tuple[Family, ...]] = {
    "agent": words.AGENTS,
    "thing": words.OBJECTS,
    "place": words.PLACES,
    "time": words.TIMES,
    "receiver": words.AGENTS,
}
# Slot -> the cost of dropping it, of replacing it by a near concept, of replacing it by a far one.
COSTS: dict[str, tuple[float, float, float]] = {
    "agent": (0.0, 1.0, 1.6),
    "action": (0.0, 1.2, 2.0),
    "thing": (0.0, 1.0, 1.6),
    "receiver": (1.0, 0.8, 1.2),
    "place": (0.5, 0.7, 1.0),
    "time": (0.4, 0.6, 0.8),
}
NUMBER, NEGATION, SWAP = 0.7, 2.5, 2.2
BEST, UNRELATED_DETAIL = 5.0, 0.3


def _cost(slot: str, first: At | None, second: At | None) -> float:
    omission, near, far = COSTS[slot]
    if first == second:
        return 0.0
    if first is None or second is None:
        return omission
    return near if first[0] == second[0] else far


def score(first: Event, second: Event) -> float:
    """The similarity: 5.0 minus the costs of what differs. Unrelated events score only for a shared place and time."""
    if all(getattr(first, slot)[0] != getattr(second, slot)[0] for slot in ("agent", "action", "thing")):
        details = [
            slot for slot in ("place", "time") if getattr(first, slot) == getattr(second, slot) is not None
        ]
        return UNRELATED_DETAIL * len(details)
    swapped = first.receiver is not None and (first.receiver, first.agent) == (second.agent, second.receiver)
    slots = set(COSTS) - ({"agent", "receiver"} if swapped else set())
    cost = sum(_cost(slot, getattr(first, slot), getattr(second, slot)) for slot in sorted(slots))
    cost += SWAP * swapped + NUMBER * (first.number != second.number)
    cost += NEGATION * (first.negated != second.negated)
    return max(0.0, round(BEST - cost, 1))


def _concept(draw: Draw, pool: tuple[Family, ...]) -> At:
    family = draw.index(len(pool))
    return family, draw.index(len(pool[family]))


def draw_event(draw: Draw) -> Event:
    """A random event."""
    transfer = draw.chance(0.4)
    agent = _concept(draw, words.AGENTS)
    receiver = None
    while transfer and receiver in (None, agent):
        receiver = _concept(draw, words.AGENTS)
    return Event(
        agent=agent,
        action=_concept(draw, words.TRANSFERS if transfer else words.ACTIONS),
        thing=_concept(draw, words.OBJECTS),
        receiver=receiver,
        number=draw.index(len(words.NUMBERS)) if draw.chance(0.6) else 0,
        place=_concept(draw, words.PLACES) if draw.chance(0.8) else None,
        time=_concept(draw, words.TIMES) if draw.chance(0.8) else None,
        negated=draw.chance(0.1),
    )


def _other(draw: Draw, pool: tuple[Family, ...], at: At) -> At:
    """Another concept, half of the time of the same family."""
    if draw.chance(0.5):
        return at[0], draw.uniform([n for n in range(len(pool[at[0]])) if n != at[1]])
    family = draw.uniform([n for n in range(len(pool)) if n != at[0]])
    return family, draw.index(len(pool[family]))


def edit(draw: Draw, event: Event, slot: str) -> Event:
    """The event with this slot changed, or unchanged if there is nothing to change."""
    if slot == "negation":
        return replace(event, negated=not event.negated)
    if slot == "swap":
        if event.receiver is None:
            return event
        return replace(event, agent=event.receiver, receiver=event.agent)
    if slot == "number":
        return replace(
            event, number=draw.uniform([n for n in range(len(words.NUMBERS)) if n != event.number])
        )
    changes: dict[str, Any] = {}
    at: At | None = getattr(event, slot)
    if at is None:
        return event
    if slot in ("place", "time") and draw.chance(0.5):
        changes[slot] = None
        return replace(event, **changes)
    pool = POOLS.get(slot) or (words.ACTIONS if event.receiver is None else words.TRANSFERS)
    persons = (event.agent, event.receiver) if slot in ("agent", "receiver") else ()
    changes[slot] = _other(draw, pool, at)
    while changes[slot] in persons:  # agent and receiver must differ
        changes[slot] = _other(draw, pool, at)
    return replace(event, **changes)


EDITS = ("negation", "swap", "number", *COSTS)
# Numbers of edits, each entry equally likely; None: an entirely different event.
AMOUNTS = (0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 4, None, None)
KEEP_DETAIL = 0.5  # the chance that such an event keeps the place, or the time, of the first


def draw_pair(draw: Draw) -> tuple[Event, Event]:
    """Two events, the second often the first with some edits."""
    first = draw_event(draw)
    amount = draw.uniform(AMOUNTS)
    if amount is None:
        second = draw_event(draw)
        details = {slot: getattr(first, slot) for slot in ("place", "time") if draw.chance(KEEP_DETAIL)}
        return first, replace(second, **details)
    second = first
    for slot in draw.sample(EDITS, amount):
        second = edit(draw, second, slot)
    return first, second


def _say(draw: Draw, family: Family, concept: int) -> str:
    return draw.uniform(family[concept])


def tell(draw: Draw, event: Event) -> str:
    """The event in one sentence, with random wordings, voice and position of the time."""
    agent = _say(draw, words.AGENTS[event.agent[0]], event.agent[1])
    who = f"the {words.NUMBERS[event.number]}{agent}{'s' if event.number else ''}"
    thing = f"the {_say(draw, words.OBJECTS[event.thing[0]], event.thing[1])}"
    actions = words.ACTIONS if event.receiver is None else words.TRANSFERS
    verbs = _say(draw, actions[event.action[0]], event.action[1]).split(" ")
    past, base = " ".join(verbs[: len(verbs) // 2]), " ".join(verbs[len(verbs) // 2 :])
    to = ""
    if event.receiver is not None:
        to = f" to the {_say(draw, words.AGENTS[event.receiver[0]], event.receiver[1])}"
    if draw.chance(0.35):
        was = "was not" if event.negated else "was"
        text = f"{thing} {was} {words.PARTICIPLES.get(past, past)}{to} by {who}"
    else:
        did = f"did not {base}" if event.negated else past
        text = f"{who} {did} {thing}{to}"
    if event.place is not None:
        text += f" {_say(draw, words.PLACES[event.place[0]], event.place[1])}"
    if event.time is None:
        return sentence(text)
    when = _say(draw, words.TIMES[event.time[0]], event.time[1])
    return sentence(f"{when}, {text}" if draw.chance(0.35) else f"{text} {when}")


def example(draw: Draw) -> Example:
    """One scored pair."""
    first, second = draw_pair(draw)
    one = two = tell(draw, first)
    while one == two:
        one, two = tell(draw, first), tell(draw, second)
    row = (one, two, f"{score(first, second):.1f}")
    cell = (4 * first.action[0] + first.action[1], 4 * first.thing[0] + first.thing[1])
    return Example(row, cell)
