"""The embedded GLUE-shaped tasks: synthetic, generated from our own words, so that a first run needs no download.

One task for each form in GLUE: a sentence classified, a pair classified, a pair scored. Train and dev share no row, and pairs of
content words (or of frame and content word) in dev never occur together in a first sentence of train, except where a first
sentence of Entailment names a thing's hypernym. Any table made from them must say that they are synthetic: their numbers are not
comparable with the paper's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from lora_repro.errors import UserError
from lora_repro.tasks._draw import Draw
from lora_repro.tasks.glue.embedded import entailment, sentiment, similarity
from lora_repro.tasks.glue.embedded.parts import Example, held_out
from lora_repro.tasks.glue.files import Row

SEED = 20210617
SIZES = {"train": 1800, "dev": 400}

# Name -> (its labels, none if a score is predicted; the function that draws one row with a label).
_TASKS: dict[str, tuple[tuple[str, ...], Callable[[Draw, str], Example]]] = {
    "sentiment": (sentiment.LABELS, sentiment.example),
    "entailment": (entailment.LABELS, entailment.example),
    "similarity": ((), lambda draw, _: similarity.example(draw)),
}
NAMES = tuple(_TASKS)


def _task(name: str) -> tuple[tuple[str, ...], Callable[[Draw, str], Example]]:
    if name not in _TASKS:
        raise UserError(f"no embedded task {name!r}; there are {', '.join(NAMES)}")
    return _TASKS[name]


def labels(name: str) -> tuple[str, ...]:
    """The label texts of a task, () where the label is a score from 0.0 to 5.0."""
    return _task(name)[0]


def examples(name: str, seed: int = SEED) -> dict[str, list[Example]]:
    """The rows of train and dev with what they were made from, the same for one seed on every Python version."""
    classes, example = _task(name)
    draw, seen = Draw(seed), set[tuple[str, str | None]]()
    splits: dict[str, list[Example]] = {}
    for split, size in SIZES.items():
        part: list[Example] = []
        while len(part) < size:
            label = classes[len(part) % len(classes)] if classes else ""
            one = example(draw, label)
            if one.row[:2] not in seen and held_out(one.cell) == (split == "dev"):
                seen.add(one.row[:2])
                part.append(one)
        splits[split] = draw.sample(part, size)
    return splits


@cache
def is_pair(name: str) -> bool:
    """Whether an input of the task is two sentences."""
    return generate(name)["dev"][0][1] is not None


def generate(name: str) -> dict[str, list[Row]]:
    """(sentence1, sentence2 or None, label) rows of train (1,800) and dev (400), classes equally often."""
    return {split: [one.row for one in part] for split, part in examples(name).items()}
