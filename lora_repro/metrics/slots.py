"""Slot error rate of E2E outputs: which slots of the MR a text leaves out, gets wrong or invents.

It matches known wordings (`slot_values.py`), as semantic checkers have done since the E2E
challenge (Dusek et al. 2020); it was written for this project. Different wordings of one price (cheap, less than
£20) or one rating (low, 1 out of 5) count as the same value, since the crowd used them so. The matcher is lenient:
an unclear wording fulfils a slot and never counts as an error.

Its own error rate. Wordings were tuned on E2E's train and dev references; its test references were counted, never
read.
- Human references: rate 0.082 train, 0.067 dev, 0.078 test (missing 0.068, wrong 0.010, invented 0.0005).
  Nearly all of it is real: crowd workers left out 10 % of the foods, areas and ratings they were given. Of
  100 errors drawn from dev and read by hand, 5 were false alarms (four of their wordings have been added
  since), so false alarms make about 0.004 of that rate.
- Error-free test references against an MR altered in one slot: the error is found in 99.0 % (price) to 100 %
  (name, near) of altered values and in 99.0 % or more of deleted ones; in 97 % or more of invented ones, but
  "restaurant" never counts as invented, as people call any venue a restaurant.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lora_repro.errors import UserError
from lora_repro.metrics.slot_text import mask, words
from lora_repro.metrics.slot_values import PRICE, RATING, area, eat_type, family, food, near, price, rating

VALUES = {
    "type": eat_type,
    "food": food,
    "price": price,
    "customer rating": rating,
    "area": area,
    "family friendly": family,
}
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
            raise UserError(
                f"not a linearised E2E MR: {part.strip()[:60]!r} in {mr[:80]!r}; write `name : X | Type : Y`"
            )
        slots[key] = value.strip()
    return slots


def slot_errors(mr: str, output: str) -> SlotErrors:
    """Errors of one output (raw or tokenised text) against its linearised MR.

    A slot of the MR is missing if its value is not stated, or wrong if another value is stated instead. A value
    stated for a slot that the MR lacks is invented. Raises UserError if `mr` is no linearised E2E MR.
    """
    slots = parse_mr(mr)
    text, mentions = words(output), {}
    for key in ("name", "near"):  # first, so that "Burger King" or "Raja Indian Cuisine" does not count as a food
        if key in slots:
            text, mentions[key] = mask(text, slots[key])
    details = [f"missing {key}: {slots[key]}" for key in mentions if not mentions[key]]
    for slot, matcher in VALUES.items():
        firm, loose = matcher(text)
        details += _judge(slot, _value(slot, slots[slot]) if slot in slots else None, firm, loose)
    if "near" not in slots and (venue := near(output, [slots.get("name", "")])):
        details.append(f"invented near: {venue}")
    kinds = [detail.split(" ")[0] for detail in details]
    return SlotErrors(
        len(slots), kinds.count("missing"), kinds.count("wrong"), kinds.count("invented"), tuple(details)
    )


def _value(slot: str, value: str) -> str:
    """A slot's value as the functions of `VALUES` return it."""
    plain = " ".join(words(value))
    return {"price": PRICE, "customer rating": RATING}.get(slot, {}).get(plain, plain)


def _judge(slot: str, value: str | None, firm: set[str], loose: set[str]) -> list[str]:
    """The error of one slot, if any: `value` is its value in the MR, None if the MR lacks the slot."""
    if value is None:
        return [f"invented {slot}: {', '.join(sorted(firm))}"] if firm else []
    if value in firm | loose:
        return []
    return (
        [f"wrong {slot}: {', '.join(sorted(firm))}, not {value}"] if firm else [f"missing {slot}: {value}"]
    )


def slot_error_rate(errors: Sequence[SlotErrors]) -> float:
    """Corpus rate: Σ (missing + wrong + invented) / Σ slots; it can exceed 1. Raises UserError without slots."""
    slots = sum(error.slots for error in errors)
    if not slots:
        raise UserError("no slots to score: give at least one output with its MR")
    return sum(error.errors for error in errors) / slots
