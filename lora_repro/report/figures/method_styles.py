"""One colour and marker per method in every figure: LoRA is blue, full fine-tuning black, related methods share a colour.

The colours are Okabe and Ito's, which are safe for colour-blind readers, with Tol's wine instead of their yellow, which is too
pale on white. No two methods that a table shows together share both colour and marker.
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
# Keyed by the name in conf/method. A method that is not listed gets a look that follows from its name alone.
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
    """A method's colour and marker in every figure."""
    digest = zlib.crc32(method.encode())
    return LOOKS.get(method) or Look(COLOURS[1 + digest % 7], MARKERS[1 + digest // 7 % 8])


def looks(curves: dict[str, str]) -> dict[str, Look]:
    """key -> look, given key -> method: the method's own, or one in turn if several keys have the same method or none."""
    methods = list(curves.values())
    own = {key: look(method) for key, method in curves.items() if method and methods.count(method) == 1}
    free = [colour for colour in COLOURS if colour not in {one.colour for one in own.values()}] or COLOURS
    others = [key for key in curves if key not in own]
    return own | {key: Look(free[i % len(free)], MARKERS[i % len(MARKERS)]) for i, key in enumerate(others)}
