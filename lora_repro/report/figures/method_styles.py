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


class MethodStyle(NamedTuple):
    colour: str
    marker: str


LORA = "lora"
# Keyed by the name in conf/method. A method that is not listed gets a look that follows from its name alone.
LOOKS = {
    LORA: MethodStyle(BLUE, "o"),
    "lora_r64": MethodStyle(BLUE, "D"),
    "full": MethodStyle(BLACK, "s"),
    "top_layers": MethodStyle(BLACK, "v"),
    "linear_probe": MethodStyle(WINE, "X"),
    "bitfit": MethodStyle(ORANGE, "P"),
    "adapter_h": MethodStyle(GREEN, "^"),
    "adapter_l": MethodStyle(GREEN, "v"),
    "adapter_p": MethodStyle(GREEN, "<"),
    "adapter_drop": MethodStyle(GREEN, ">"),
    "adapter_fusion": MethodStyle(GREEN, "P"),
    "prelayer": MethodStyle(RED, "D"),
    "prompt_tuning": MethodStyle(PINK, "s"),
    "combined": MethodStyle(SKY, "^"),
    "lora_prelayer": MethodStyle(RED, "o"),
    "lora_prompt_tuning": MethodStyle(PINK, "o"),
    "dora": MethodStyle(RED, "^"),
    "rslora": MethodStyle(SKY, "D"),
    "lora_plus": MethodStyle(SKY, "P"),
    "pissa": MethodStyle(WINE, "<"),
    "vera": MethodStyle(ORANGE, "v"),
}


def style_of(method: str) -> MethodStyle:
    """A method's colour and marker in every figure."""
    digest = zlib.crc32(method.encode())
    return LOOKS.get(method) or MethodStyle(COLOURS[1 + digest % 7], MARKERS[1 + digest // 7 % 8])


def assign_styles(curves: dict[str, str]) -> dict[str, MethodStyle]:
    """key -> look, given key -> method: the method's own, or one in turn if several keys have the same method or none."""
    methods = list(curves.values())
    own = {key: style_of(method) for key, method in curves.items() if method and methods.count(method) == 1}
    free = [colour for colour in COLOURS if colour not in {one.colour for one in own.values()}] or COLOURS
    others = [key for key in curves if key not in own]
    return own | {key: MethodStyle(free[i % len(free)], MARKERS[i % len(MARKERS)]) for i, key in enumerate(others)}
