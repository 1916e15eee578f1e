"""The generated E2E-style set.

It has E2E's eight attributes and its values for price, rating, area and family friendly; names and cuisines
are ours. Train, dev and test share no MR; some names and (Type, food) pairs are in dev and test only.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.generators import e2e_phrases as words
from tests.generators.draw import Draw
from tests.generators.e2e_grammar import word_one

SEED = 20210617
TRAIN_MRS, DEV_MRS, TEST_MRS = 600, 60, 60
# Numbers of texts per MR and their weights.
TRAIN_TEXTS = ((1, 2, 3), (0.1, 0.2, 0.7))
DEV_TEXTS = ((2, 3), (0.5, 0.5))
TEST_TEXTS = ((5, 6, 7, 8), (1, 1, 1, 1))
# Attributes per MR (name included), 3 to 8: test MRs are longer, as in E2E.
SIZES = (3, 4, 5, 6, 7, 8)
TRAIN_SIZES = (1, 2, 3, 3, 2, 1)
TEST_SIZES = (1, 1, 2, 3, 3, 2)
UNSEEN_NAME, UNSEEN_NEAR = 0.4, 0.3  # share of dev and test MRs

ORDER = ("name", "Type", "food", "price", "customer rating", "area", "family friendly", "near")


def held_out(mr: dict[str, str]) -> bool:
    """Whether the (Type, food) pair of `mr` is excluded from training, as are 6 of the 30 pairs."""
    if "Type" not in mr or "food" not in mr:
        return False
    return (words.TYPES.index(mr["Type"]) + 2 * words.FOODS.index(mr["food"])) % 5 == 0


def _draw_mr(draw: Draw, sizes: Sequence[float], unseen: bool) -> dict[str, str]:
    name_pool = words.UNSEEN_NAMES if unseen and draw.chance(UNSEEN_NAME) else words.TRAIN_NAMES
    near_pool = words.UNSEEN_NEAR if unseen and draw.chance(UNSEEN_NEAR) else words.TRAIN_NEAR
    pools = {
        "name": name_pool,
        "Type": words.TYPES,
        "food": words.FOODS,
        "price": words.PRICES,
        "customer rating": words.RATINGS,
        "area": words.AREAS,
        "family friendly": words.FAMILY,
        "near": near_pool,
    }
    slots = {"name", *draw.shuffled(ORDER[1:])[: draw.weighted(SIZES, sizes) - 1]}
    return {slot: draw.uniform(pools[slot]) for slot in ORDER if slot in slots}


def linear(mr: dict[str, str]) -> str:
    """`name : X | Type : pub`, the raw text form's linearisation."""
    return " | ".join(f"{slot} : {value}" for slot, value in mr.items())


def _split(
    draw: Draw, n: int, texts: tuple[Sequence[int], Sequence[float]], unseen: bool, seen: set[str]
) -> list[tuple[str, str]]:
    rows = []
    for _ in range(n):
        mr = _draw_mr(draw, TEST_SIZES if unseen else TRAIN_SIZES, unseen)
        while linear(mr) in seen or (held_out(mr) and not unseen):
            mr = _draw_mr(draw, TEST_SIZES if unseen else TRAIN_SIZES, unseen)
        seen.add(linear(mr))
        wordings: dict[str, None] = {}  # distinct, in order
        count = draw.weighted(*texts)
        while len(wordings) < count:
            wordings[word_one(mr, draw)] = None
        rows += [(linear(mr), text) for text in wordings]
    return rows


def generate() -> dict[str, list[tuple[str, str]]]:
    """(linearised MR, text) rows of train, dev and test: the same on every Python version."""
    draw, mrs = Draw(SEED), set[str]()
    return {
        "train": _split(draw, TRAIN_MRS, TRAIN_TEXTS, False, mrs),
        "dev": _split(draw, DEV_MRS, DEV_TEXTS, True, mrs),
        "test": _split(draw, TEST_MRS, TEST_TEXTS, True, mrs),
    }
