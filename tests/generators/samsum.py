"""The generated SAMSum-shaped set: chats with summaries.

Two people discuss one matter (an invitation, a loan, a delay, an errand), with greetings and small talk around it; the summary
says who, what and how it ended. Dev and test have people and things of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.generators.draw import Draw

SEED = 20210617
SIZES = {"train": 400, "dev": 40, "test": 40}


class Words(NamedTuple):
    """The people and things of a split."""

    people: tuple[tuple[str, str, str], ...]  # name, he or she, him or her
    things: tuple[str, ...]
    events: tuple[str, ...]
    errands: tuple[str, ...]


TRAIN = Words(
    (("Ada", "she", "her"), ("Ben", "he", "him"), ("Cara", "she", "her"), ("Dev", "he", "him"), ("Elif", "she", "her"),
     ("Femi", "he", "him"), ("Greta", "she", "her"), ("Hugo", "he", "him"), ("Ines", "she", "her"), ("Jonas", "he", "him")),
    ("drill", "tent", "camera", "suitcase", "ladder", "blender", "bike", "guitar"),
    ("the concert", "the picnic", "dinner", "the football match", "the exhibition", "yoga class"),
    ("buy some bread", "collect the parcel", "water the plants", "feed the cat", "book the tickets", "call the plumber"),
)  # fmt: skip
UNSEEN = Words(
    (("Kofi", "he", "him"), ("Lena", "she", "her"), ("Marek", "he", "him"), ("Nina", "she", "her"), ("Omar", "he", "him"),
     ("Petra", "she", "her")),
    ("sewing machine", "kayak", "projector", "sleeping bag"),
    ("the quiz night", "the film festival", "brunch", "the flea market"),
    ("pick up the cake", "return the library books", "walk the dog", "print the posters"),
)  # fmt: skip
TIMES = ("tonight", "tomorrow", "on Friday", "on Saturday", "on Sunday morning", "next week", "at 6 pm", "after work")
REASONS = ("has to work", "is ill", "is out of town", "has an exam", "has guests")
DELAYS = ("the bus broke down", "the train is late", "there is a traffic jam", "the meeting ran over")
MINUTES = ("10", "15", "20", "30", "45")
HELLO = ("Hi {0}!", "Hey {0} :)", "Hello {0}, how are you?", "Hey, are you there?")
ANSWER = ("Hi!", "Hey {0}!", "Fine, thanks. And you?", "Yes, what's up?")
TALK = ("The weather is awful today.", "Long day?", "Did you see the news?", "I finally slept well.")
REPLY = ("Tell me about it.", "Haha, yes.", "Same here.", "Not yet.")
BYE = ("See you!", "Bye!", "Great, thanks!", "Talk to you later.")

Told = tuple[list[tuple[int, str]], str]  # (speaker 0 or 1, utterance) ..., summary


def _first(reason: str) -> str:
    """ "has to work" in the first person."""
    return "I " + reason.replace("has ", "have ").replace("is ", "am ")


def _invitation(draw: Draw, words: Words, a: tuple[str, str, str], b: tuple[str, str, str]) -> Told:
    event, time, reason = draw.uniform(words.events), draw.uniform(TIMES), draw.uniform(REASONS)
    lines = [(0, draw.uniform((f"Do you want to come to {event} {time}?", f"I'm going to {event} {time}. Want to join me?")))]
    if draw.chance(0.5):
        lines.append((1, draw.uniform(("Sure, I'd love to.", "Good idea, count me in!"))))
        return lines, f"{a[0]} and {b[0]} are going to {event} {time}."
    lines.append((1, draw.uniform((f"Sorry, I can't. {_first(reason)}.", f"I'd like to, but {_first(reason)}."))))
    return lines, f"{a[0]} invites {b[0]} to {event} {time}, but {b[1]} {reason}."


def _loan(draw: Draw, words: Words, a: tuple[str, str, str], b: tuple[str, str, str]) -> Told:
    thing, time = draw.uniform(words.things), draw.uniform(TIMES)
    other = draw.uniform([person for person in words.people if person not in (a, b)])
    lines = [(0, draw.uniform((f"Could you lend me your {thing}?", f"I need a {thing}. Can I borrow yours?")))]
    if draw.chance(0.5):
        lines += [(1, "Of course. When do you need it?"), (0, f"I could come and get it {time}."), (1, "Works for me.")]
        return lines, f"{b[0]} will lend {a[0]} a {thing}. {a[0]} will get it {time}."
    lines += [(1, f"Sorry, I gave it to {other[0]}."), (0, f"OK, I'll ask {other[2]}.")]
    return lines, f"{a[0]} wants to borrow a {thing}, but {b[0]} gave it to {other[0]}. {a[0]} will ask {other[2]}."


def _delay(draw: Draw, words: Words, a: tuple[str, str, str], b: tuple[str, str, str]) -> Told:
    event, minutes, why = draw.uniform(words.events), draw.uniform(MINUTES), draw.uniform(DELAYS)
    lines = [(0, f"I'm running late, {why}."), (1, "Oh no. How long will it take?"), (0, f"About {minutes} minutes.")]
    if draw.chance(0.5):
        lines.append((1, draw.uniform(("No problem, I'll wait outside.", "I'll wait for you at the door."))))
        return lines, f"{a[0]} will be {minutes} minutes late for {event} because {why}. {b[0]} will wait outside."
    lines.append((1, draw.uniform(("I'll go in then and keep you a seat.", "I'll go in and save you a place."))))
    return lines, f"{a[0]} will be {minutes} minutes late for {event} because {why}. {b[0]} will keep {a[2]} a seat."


def _errand(draw: Draw, words: Words, a: tuple[str, str, str], b: tuple[str, str, str]) -> Told:
    errand, time, reason = draw.uniform(words.errands), draw.uniform(TIMES), draw.uniform(REASONS)
    lines = [(0, draw.uniform((f"Can you {errand} {time}?", f"Would you {errand} {time}, please?")))]
    if draw.chance(0.5):
        lines += [(1, draw.uniform(("No problem.", "Sure, will do.")))]
        return lines, f"{b[0]} will {errand} {time}."
    lines += [(1, f"I can't, {_first(reason)}."), (0, "OK, then I'll do it myself.")]
    return lines, f"{a[0]} will {errand} {time} because {b[0]} {reason}."


MATTERS: tuple[Callable[[Draw, Words, tuple[str, str, str], tuple[str, str, str]], Told], ...] = (
    _invitation, _loan, _delay, _errand,
)  # fmt: skip


def _chat(draw: Draw, words: Words) -> tuple[str, str]:
    a, b = draw.sample(words.people, 2)
    matter = draw.uniform(MATTERS)
    lines, summary = matter(draw, words, a, b)
    opening = [(0, draw.uniform(HELLO).format(b[0])), (1, draw.uniform(ANSWER).format(a[0]))]
    if draw.chance(0.4):
        opening += [(1, draw.uniform(TALK)), (0, draw.uniform(REPLY))]
    if matter is _delay:  # the event that they are late for is mentioned first
        event = summary.partition(" late for ")[2].partition(" because ")[0]
        opening.append((1, f"Are you coming to {event}?"))
    turns = [*opening, *lines, (0, draw.uniform(BYE))]
    return "\n".join(f"{(a, b)[who][0]}: {text}" for who, text in turns), summary


def generate() -> dict[str, list[tuple[str, str]]]:
    """(dialogue, summary) rows of train (400), dev (40) and test (40): the same on every Python version."""
    draw, dialogues = Draw(SEED), set[str]()
    splits: dict[str, list[tuple[str, str]]] = {}
    for split, size in SIZES.items():
        splits[split] = []
        while len(splits[split]) < size:
            dialogue, summary = _chat(draw, TRAIN if split == "train" else UNSEEN)
            if dialogue not in dialogues:
                dialogues.add(dialogue)
                splits[split].append((dialogue, summary))
    return splits
