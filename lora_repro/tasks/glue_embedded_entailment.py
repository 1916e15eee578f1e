"""The generated entailment task: does the second sentence follow from the first?"""

from __future__ import annotations

from collections.abc import Callable

from lora_repro.tasks import glue_embedded_entailment_logic as logic
from lora_repro.tasks import glue_embedded_entailment_meaning as meaning
from lora_repro.tasks import glue_embedded_entailment_roles as roles
from lora_repro.tasks.glue_embedded_draw import Draw, Example
from lora_repro.tasks.glue_embedded_entailment_logic import Case

LABELS = ("entailment", "not_entailment")

RULES: tuple[Callable[[Draw], Case], ...] = (
    logic.quantifier,
    logic.number,
    logic.connective,
    logic.comparative,
    roles.passive,
    roles.transfer,
    roles.relative,
    roles.temporal,
    meaning.substitution,
    meaning.hypernym,
    meaning.detail,
    meaning.state,
    meaning.implicative,
    meaning.attitude,
)
# Rules of single words, which a small encoder picks up first, are drawn more often.
OFTEN = (meaning.substitution, meaning.substitution, meaning.hypernym, meaning.state)


def example(draw: Draw, label: str) -> Example:
    """One row with that label, by a rule chosen first, so that every rule has both labels equally often."""
    rule = draw.uniform(RULES + OFTEN)
    while True:
        case = rule(draw)
        if LABELS[not case.follows] == label and case.premise != case.hypothesis:
            return Example((case.premise, case.hypothesis, label), rule.__name__, case.cell)
