"""The generated GLUE-shaped tasks: one for each form in GLUE, a sentence classified, a pair classified, a pair scored.

Train and dev share no row, and pairs of content words (or of frame and content word) in dev never occur together in a first
sentence of train, except where a first sentence of Entailment names a thing's hypernym.
"""

from __future__ import annotations

from collections.abc import Callable

from lora_repro.tasks.glue.files import Row
from tests.generators import entailment, sentiment, similarity
from tests.generators.draw import Draw
from tests.generators.parts import Example, held_out

SEED = 20210617
SIZES = {"train": 1800, "dev": 400}

# Name -> (its labels, none if a score is predicted; the function that draws one row with a label).
TASKS: dict[str, tuple[tuple[str, ...], Callable[[Draw, str], Example]]] = {
    "sentiment": (sentiment.LABELS, sentiment.example),
    "entailment": (entailment.LABELS, entailment.example),
    "similarity": ((), lambda draw, _: similarity.example(draw)),
}


def generate(name: str) -> dict[str, list[Row]]:
    """(sentence1, sentence2 or None, label) rows of train (1,800) and dev (400), classes equally often."""
    classes, example = TASKS[name]
    draw, inputs = Draw(SEED), set[tuple[str, str | None]]()
    splits: dict[str, list[Row]] = {}
    for split, size in SIZES.items():
        part: list[Row] = []
        while len(part) < size:
            label = classes[len(part) % len(classes)] if classes else ""
            one = example(draw, label)
            if one.row[:2] not in inputs and held_out(one.cell) == (split == "dev"):
                inputs.add(one.row[:2])
                part.append(one.row)
        splits[split] = draw.sample(part, size)
    return splits
