"""Entailment rules of who did what to whom, and when. The words of both labels are the same; their places decide."""

from __future__ import annotations

from lora_repro.tasks import glue_embedded_entailment_words as words
from lora_repro.tasks.glue_embedded_draw import Draw, sentence
from lora_repro.tasks.glue_embedded_entailment_logic import Case, order_follows

Fact = tuple[str, ...]  # verb, subject, object ...


def same_roles(first: Fact, second: Fact) -> bool:
    """Whether two clauses say the same of the same persons, whatever the voice or the side they are told from."""
    return first == second


def passive(draw: Draw) -> Case:
    """ "Ada praised Ben on Monday", "Ben was praised by Ada"."""
    verb, when = draw.index(len(words.ONES)), draw.index(len(words.WHEN))
    a, b = draw.sample(words.NAMES, 2)
    done = words.ONES[verb]

    def say(agent: str, patient: str) -> str:
        return draw.uniform((f"{agent} {done} {patient}", f"{patient} was {done} by {agent}"))

    claim = draw.uniform(((a, b), (b, a)))
    late = f" {words.WHEN[when]}"
    tail = draw.uniform(("", late))
    return Case(
        sentence(say(a, b) + late),
        sentence(say(*claim) + tail),
        same_roles((done, a, b), (done, *claim)),
        (verb, when),
    )


# One deal told from both sides: g gives, t takes.
DEALS = {
    "sale": ("{g} sold the {x} to {t}", "{t} bought the {x} from {g}"),
    "loan": ("{g} lent the {x} to {t}", "{t} borrowed the {x} from {g}"),
    "gift": ("{g} gave the {x} to {t}", "{t} received the {x} from {g}"),
}
OTHER_DEAL = 0.15  # of the hypotheses tell of another deal


def transfer(draw: Draw) -> Case:
    """ "Ada sold the piano to Ben", "Ben bought the piano from Ada"."""
    deal, goods = draw.index(len(DEALS)), draw.index(len(words.GOODS))
    a, b = draw.sample(words.NAMES, 2)
    kinds = list(DEALS)
    told = (
        draw.uniform([kind for kind in kinds if kind != kinds[deal]])
        if draw.chance(OTHER_DEAL)
        else kinds[deal]
    )
    giver, taker = draw.uniform(((a, b), (b, a)))
    late = f" {draw.uniform(words.WHEN)}" if draw.chance(0.5) else ""
    thing = words.GOODS[goods]
    return Case(
        sentence(draw.uniform(DEALS[kinds[deal]]).format(g=a, t=b, x=thing) + late),
        sentence(draw.uniform(DEALS[told]).format(g=giver, t=taker, x=thing)),
        same_roles((kinds[deal], a, b), (told, giver, taker)),
        (deal, goods),
    )


RELATIVES = (  # premise with a: main noun, b: the other; who did v to whom; who did w
    ("the {a} who {v} the {b} {w}", "ab", "a"),
    ("the {a} whom the {b} {v} {w}", "ba", "a"),
    ("the {a} {v} the {b}, who {w}", "ab", "b"),
    ("the {a} was {v} by the {b}, who {w}", "ba", "b"),
)


def relative_facts(form: int, a: str, b: str, v: str, w: str) -> tuple[Fact, Fact]:
    """What RELATIVES[form] says: (v, agent, patient) and (w, subject)."""
    persons = {"a": a, "b": b}
    _, roles, subject = RELATIVES[form]
    return (v, persons[roles[0]], persons[roles[1]]), (w, persons[subject])


def relative(draw: Draw) -> Case:
    """ "The doctor who thanked the pilot waved", "The pilot waved"."""
    form, verb, alone = draw.index(len(RELATIVES)), draw.index(len(words.ONES)), draw.index(len(words.ALONE))
    a, b = draw.sample(words.ROLES, 2)
    v, w = words.ONES[verb], words.ALONE[alone]
    claim = draw.uniform(((v, a, b), (v, b, a), (w, a), (w, b)))
    said = f"the {claim[1]} {claim[0]}" + "".join(f" the {other}" for other in claim[2:])
    return Case(
        sentence(RELATIVES[form][0].format(a=a, b=b, v=v, w=w)),
        sentence(said),
        claim in relative_facts(form, a, b, v, w),
        (verb, alone),
    )


def temporal(draw: Draw) -> Case:
    """ "The band played before the mayor spoke", "The mayor spoke after the band played"."""
    first = draw.index(len(words.EVENTS))
    second = draw.uniform([n for n in range(len(words.EVENTS)) if n != first])
    x, y = words.EVENTS[first], words.EVENTS[second]
    z = draw.uniform([event for event in words.EVENTS if event not in (x, y)])

    def say(early: str, late: str) -> str:
        wordings = (f"{early} before {late}", f"{late} after {early}", f"before {late}, {early}")
        return draw.uniform((*wordings, f"after {early}, {late}"))

    if draw.chance(0.4):
        order, premise = [(x, y), (y, z)], f"first {x}, then {y}, and finally {z}"
        claim = draw.uniform(((x, y), (y, x), (y, z), (z, y), (x, z), (z, x)))
    else:
        order, premise, claim = [(x, y)], say(x, y), draw.uniform(((x, y), (y, x)))
    return Case(sentence(premise), sentence(say(*claim)), order_follows(order, claim), (first, second))
