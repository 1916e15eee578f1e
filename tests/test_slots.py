"""Slot errors on sentences written for this test: right ones pass, deletions, alterations and inventions are caught."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_repro.errors import UserError
from lora_repro.metrics.slots import SlotErrors, parse_mr, slot_error_rate, slot_errors

MR = (
    "name : The Copper Pan | Type : coffee shop | food : Italian | price : less than £20 | customer rating : 3 out of 5 | "
    "area : riverside | family friendly : yes | near : Café Lark"
)
FULL = (
    "The Copper Pan is a family-friendly coffee shop by the river near Café Lark. It serves Italian food for less than £20 "
    "and is rated 3 out of 5."
)
# slot -> (how FULL says it, left out, another value)
EDITS = {
    "name": ("The Copper Pan", "This", "The Blue Door"),
    "type": ("coffee shop", "place", "pub"),
    "food": ("serves Italian food", "serves food", "serves Indian food"),
    "price": ("for less than £20", "", "for more than £30"),
    "customer rating": ("is rated 3 out of 5", "is open", "is rated 5 out of 5"),
    "area": ("by the river", "", "in the city centre"),
    "family friendly": ("a family-friendly", "a", "not a family-friendly"),
    "near": ("near Café Lark", "", "near Hotel Miravel"),
}


def mr(**slots: str) -> str:
    """A linearised MR from keywords."""
    keys = {"type": "Type", "rating": "customer rating", "family": "family friendly"}
    return " | ".join(f"{keys.get(key, key)} : {value}" for key, value in {"name": "Oriel", **slots}.items())


def test_a_full_text_has_no_error() -> None:
    assert slot_errors(MR, FULL) == SlotErrors(8, 0, 0, 0)


@pytest.mark.parametrize("slot", EDITS)
def test_deletion_is_missing(slot: str) -> None:
    phrase, without, _ = EDITS[slot]
    counts = slot_errors(MR, FULL.replace(phrase, without))
    assert (counts.slots, counts.missing, counts.wrong, counts.invented) == (8, 1, 0, 0)
    assert counts.details[0].startswith(f"missing {slot}: ")


@pytest.mark.parametrize("slot", EDITS)
def test_alteration_is_one_error(slot: str) -> None:
    phrase, _, other = EDITS[slot]
    counts = slot_errors(MR, FULL.replace(phrase, other))
    assert counts.errors == 1 and slot in counts.details[0]
    assert counts.wrong == (slot not in ("name", "near"))  # an unknown venue is only known to be missing


@pytest.mark.parametrize("slot", [slot for slot in EDITS if slot != "name"])
def test_a_slot_that_the_mr_lacks_is_invented(slot: str) -> None:
    rest = " | ".join(part for part in MR.split(" | ") if not part.lower().startswith(f"{slot} :"))
    counts = slot_errors(rest, FULL)
    assert (counts.slots, counts.missing, counts.wrong, counts.invented) == (7, 0, 0, 1)


def test_tokenised_and_raw_text_give_the_same() -> None:
    pair = MR.replace("£20", "£ 20"), FULL.replace("-", " - ").replace(".", " . ").replace("£", "£ ")
    assert slot_errors(*pair) == slot_errors(MR, FULL)
    assert slot_errors(mr(price="£ 20 - 25"), "Oriel costs £ 20 - 25 .") == slot_errors(
        mr(price="£20-25"), "Oriel costs £20-25."
    )


@pytest.mark.parametrize(
    ("slots", "text"),
    [
        ({"price": "cheap"}, "Oriel is inexpensive."),
        ({"price": "cheap"}, "Oriel has low prices."),
        ({"price": "high"}, "Oriel is in the high price range."),
        ({"price": "high"}, "Oriel has above average prices."),
        ({"price": "moderate"}, "Oriel is mid-priced."),
        ({"price": "£20-25"}, "At Oriel you pay between £20 and £25."),
        ({"price": "more than £30"}, "Oriel's meals are over £30."),
        ({"price": "less than £20"}, "Oriel's meals are under twenty pounds, and cheap."),
        ({"rating": "low"}, "Oriel is poorly rated."),
        ({"rating": "5 out of 5"}, "Oriel is a five star place."),
        ({"rating": "5 out of 5"}, "Customers rate Oriel 5/5."),
        ({"rating": "1 out of 5"}, "Oriel has a 1-star rating."),
        ({"rating": "high"}, "Oriel is highly rated."),
        ({"rating": "low"}, "Oriel does not have a good customer rating."),
        ({"price": "high", "rating": "low"}, "Oriel has high prices and a low customer rating."),
        ({"price": "high", "rating": "low"}, "Oriel's price range is high but customer rating is low."),
        ({"family": "no"}, "Oriel is adults only."),
        ({"family": "no"}, "Oriel isn't kid friendly."),
        ({"family": "no"}, "At Oriel children are not welcome."),
        ({"family": "yes"}, "Bring the kids to Oriel."),
        ({"area": "city centre"}, "Oriel is in the centre of the city."),
        ({"near": "Café Rouge"}, "Oriel is next to Cafe Rouge."),
        ({"near": "The Sorrento"}, "Oriel is near Sorrento."),
        ({"near": "Raja Indian Cuisine", "food": "French"}, "Oriel, near Raja Indian Cuisine, is French."),
        ({"type": "restaurant"}, "Oriel is a restaurant."),
        ({"family": "no"}, "Oriel is a child-free place."),
        ({"family": "yes"}, "Oriel is for all ages."),
        ({"price": "more than £30"}, "Oriel costs over £20."),
        ({"price": "£20-25"}, "Oriel costs less than £30."),
        ({"price": "less than £20"}, "Oriel costs no more than £20."),
        ({"price": "high"}, "Oriel is not at all so cheap."),
        ({"price": "high", "rating": "low"}, "Oriel has a low rating, high prices."),
        ({"price": "high", "rating": "low"}, "Oriel has a low rating high prices."),
        ({"rating": "low"}, "Oriel has below average customer ratings."),
        ({}, "Oriel is outside the city centre."),
        ({}, "Oriel is a restaurant."),
        ({}, "A place called Oriell."),
        ({}, "Oriel has excellent food."),  # which says nothing of its rating
        ({"price": "cheap"}, "Oriel costs about £15."),  # an amount that no value has
        ({"price": "cheap"}, "Oriel's meals cost £15.30."),  # of which 30 is no amount
        ({"price": "high"}, "Not long after it opened Oriel became expensive."),
        ({"family": "yes"}, "There is no better way to spend a long evening at Oriel for children."),
        ({"near": "Raja Indian Cuisine"}, "Oriel is near Raja Indian Cuisine, and Raja Indian Cuisine is full."),
        ({}, "A place near Oriel House."),
    ],
)
def test_wordings_that_are_right(slots: dict[str, str], text: str) -> None:
    assert slot_errors(mr(**slots), text).details == ()


@pytest.mark.parametrize(
    ("slots", "text", "detail"),
    [
        ({"price": "high", "rating": "high"}, "Oriel has a high customer rating.", "missing price: high"),
        ({"price": "high", "rating": "high"}, "Oriel has high prices.", "missing customer rating: high"),
        (
            {"price": "high", "rating": "low"},
            "Oriel has low prices and a low rating.",
            "wrong price: low, not high",
        ),
        ({"rating": "3 out of 5"}, "Oriel is rated 4 out of 5.", "wrong customer rating: 4 of 5, not mid"),
        ({"family": "yes"}, "Oriel is not for children.", "wrong family friendly: no, not yes"),
        ({"near": "Café Rouge"}, "Oriel is near Café Brazil.", "missing near: Café Rouge"),
        ({"price": "less than £20"}, "Oriel costs more than £20.", "missing price: low"),
        ({"price": "more than £30"}, "Oriel costs less than thirty pounds.", "missing price: high"),
        ({"family": "yes"}, "Oriel is a kid-free place.", "wrong family friendly: no, not yes"),
        ({"near": "Raja Indian Cuisine", "food": "Indian"}, "Oriel serves Indian cuisine.", "missing near: Raja Indian Cuisine"),
        ({"near": "Burger King", "food": "Fast food"}, "Oriel serves burger and fast food.", "missing near: Burger King"),
        ({"near": "Café Rouge"}, "Oriel is near Café Brune.", "missing near: Café Rouge"),  # 0.8 alike
        ({"name": "Oak Bar"}, "It stands under an oak.", "missing name: Oak Bar"),
        ({}, "Oriel is near The Sorrento.", "invented near: sorrento"),
        ({"near": "Burger King"}, "Oriel, near Burger King, serves fast food.", "invented food: fast food"),
        ({}, "Oriel welcomes families.", "invented family friendly: yes"),
    ],
)
def test_wordings_that_are_wrong(slots: dict[str, str], text: str, detail: str) -> None:
    assert detail in slot_errors(mr(**slots), text).details


def test_empty_and_non_latin_texts() -> None:
    assert slot_errors(MR, "").missing == 8
    assert slot_errors("name : 茶屋", "茶屋") == SlotErrors(1, 0, 0, 0)


@given(st.text(), st.text(min_size=1).filter(lambda name: name.strip() and "|" not in name))
def test_any_text_and_name_end_in_a_verdict(text: str, name: str) -> None:
    counts = slot_errors(f"name : {name}", text)
    assert counts.slots == 1 and counts.missing <= 1 and counts.errors == len(counts.details)


def test_rate_is_sum_over_sum() -> None:
    assert slot_error_rate([SlotErrors(8, 1, 0, 0), SlotErrors(2, 0, 1, 2)]) == pytest.approx(4 / 10)
    with pytest.raises(UserError, match="no slots"):
        slot_error_rate([])


@pytest.mark.parametrize(
    "bad", ["", "Blue Spice", "name : ", "name : A | colour : red", "name : A | name : B", "name[A], food[B]"]
)
def test_bad_mr_is_named(bad: str) -> None:
    with pytest.raises(UserError, match="not a linearised E2E MR"):
        parse_mr(bad)
