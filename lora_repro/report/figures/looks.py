"""One look a method, the same on every figure: LoRA is blue, full fine-tuning black, what is akin shares a hue.

The colours are Okabe and Ito's, safe for colour-blind eyes, with Tol's wine for their yellow, which white paper swallows; no
two methods that a table shows together have colour and marker in common, so that a figure can be read in grey.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#882255")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
BLUE, RED, GREEN, PINK, SKY, ORANGE, BLACK, WINE = COLOURS


class Look(NamedTuple):
    colour: str
    marker: str


LORA = "lora"
# By the name that conf/method gives; a method that has none here takes one that its name alone decides.
LOOKS = {
    LORA: Look(BLUE, "o"),
    "lora_r64": Look(BLUE, "D"),
    "full": Look(BLACK, "s"),
    "top_layers": Look(BLACK, "v"),
    "linear_probe": Look(WINE, "X"),
    "bitfit": Look(ORANGE, "P"),
    "adapter_h": Look(GREEN, "^"),
    "adapter_l": Look(GREEN, "v"),
    "adapter_p": Look(GREEN, "<"),
    "adapter_drop": Look(GREEN, ">"),
    "adapter_fusion": Look(GREEN, "P"),
    "prelayer": Look(RED, "D"),
    "prompt_tuning": Look(PINK, "s"),
    "lora_prelayer": Look(RED, "o"),
    "lora_prompt_tuning": Look(PINK, "o"),
    "dora": Look(RED, "^"),
    "rslora": Look(SKY, "D"),
    "lora_plus": Look(SKY, "P"),
    "pissa": Look(WINE, "<"),
    "vera": Look(ORANGE, "v"),
}


def look(method: str) -> Look:
    """A method's look wherever it is drawn."""
    digest = zlib.crc32(method.encode())
    return LOOKS.get(method) or Look(COLOURS[1 + digest % 7], MARKERS[1 + digest // 7 % 8])


def looks(curves: dict[str, str]) -> dict[str, Look]:
    """A look for each of these keys, whose methods these are: the method's, or one in turn where several have the same method."""
    methods = list(curves.values())
    own = {key: look(method) for key, method in curves.items() if method and methods.count(method) == 1}
    free = [colour for colour in COLOURS if colour not in {one.colour for one in own.values()}] or COLOURS
    others = [key for key in curves if key not in own]
    return own | {key: Look(free[i % len(free)], MARKERS[i % len(MARKERS)]) for i, key in enumerate(others)}
