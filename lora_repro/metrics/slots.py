"""Slot error rate of E2E outputs: which slots of the MR a text leaves out, gets wrong or invents.

Found by string matching with known wordings (`slot_values.py`), in the manner of the semantic checkers used since the E2E challenge
(Dusek et al. 2020), but written for this project. Paraphrases of a price (cheap, less than £20) or of a rating (low, 1 out of 5)
count as the same value, because the crowd used them so. The matcher leans to silence: what it does not understand it does not blame,
save that a slot it cannot find is missing.

MEASURED
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lora_repro.errors import UserError
from lora_repro.metrics.slot_places import area, eat_type, food, near
from lora_repro.metrics.slot_text import mask, words
from lora_repro.metrics.slot_values import PRICE, RATING, family, price, rating

VALUES = {"type": eat_type, "food": food, "price": price, "customer rating": rating, "area": area, "family friendly": family}
SLOTS = ("name", *VALUES, "near")


@dataclass(frozen=True)
class SlotErrors:
    """Counts of one output against its MR; `details` names each error: "missing area: riverside"."""

    slots: int
    missing: int
    wrong: int
    invented: int
    details: tuple[str, ...] = ()

    @property
    def errors(self) -> int:
        """missing + wrong + invented."""
        return self.missing + self.wrong + self.invented


def parse_mr(mr: str) -> dict[str, str]:
    """Slots of a linearised MR, `name : Blue Spice | Type : coffee shop | price : £ 20 - 25`; keys are those of `SLOTS`.

    Raises UserError for a part without " : ", an unknown or a repeated slot.
    """
    slots: dict[str, str] = {}
    for part in mr.split("|"):
        key, colon, value = part.partition(":")
        key = key.strip().lower()
        if not colon or key not in SLOTS or key in slots or not value.strip():
            raise UserError(f"not a linearised E2E MR: {part.strip()[:60]!r} in {mr[:80]!r}; write `name : X | Type : Y`")
        slots[key] = value.strip()
    return slots


def slot_errors(mr: str, output: str) -> SlotErrors:
    """Errors of one output (raw or tokenised text) against its linearised MR.

    Per slot of the MR: missing (its value is not said), or wrong (another value is said instead). Invented: a value said for a slot
    the MR lacks. Raises UserError if `mr` is no linearised E2E MR.
    """
    slots = parse_mr(mr)
    text, found = words(output), {}
    for key in ("name", "near"):  # first, so that "Burger King" or "Raja Indian Cuisine" says no food
        if key in slots:
            text, found[key] = mask(text, slots[key])
    details = [f"missing {key}: {slots[key]}" for key in found if not found[key]]
    for slot, said in VALUES.items():
        firm, loose = said(text)
        details += _judge(slot, _value(slot, slots[slot]) if slot in slots else None, firm, loose)
    if "near" not in slots and (venue := near(output, [slots.get("name", "")])):
        details.append(f"invented near: {venue}")
    kinds = [detail.split(" ")[0] for detail in details]
    return SlotErrors(len(slots), kinds.count("missing"), kinds.count("wrong"), kinds.count("invented"), tuple(details))


def _value(slot: str, value: str) -> str:
    """The class under which a slot's value is looked for."""
    plain = " ".join(words(value))
    return {"price": PRICE, "customer rating": RATING}.get(slot, {}).get(plain, plain)


def _judge(slot: str, wanted: str | None, firm: set[str], loose: set[str]) -> list[str]:
    """The error of one slot, if any: `wanted` is its value in the MR, None if the MR lacks the slot."""
    if wanted is None:
        return [f"invented {slot}: {', '.join(sorted(firm))}"] if firm else []
    if wanted in firm | loose:
        return []
    return [f"wrong {slot}: {', '.join(sorted(firm))}, not {wanted}"] if firm else [f"missing {slot}: {wanted}"]


def slot_error_rate(errors: Sequence[SlotErrors]) -> float:
    """Corpus rate: Σ (missing + wrong + invented) / Σ slots, a fraction that can exceed 1. Raises UserError if there are no slots."""
    slots = sum(error.slots for error in errors)
    if not slots:
        raise UserError("no slots to score: give at least one output with its MR")
    return sum(error.errors for error in errors) / slots
