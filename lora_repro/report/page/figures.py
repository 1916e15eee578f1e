"""Figures inside the page: the smaller of the SVG and the PNG, as a data URI."""

from __future__ import annotations

import base64
import re
from pathlib import Path


def embedded(stem: Path) -> str:
    """`stem`.svg or `stem`.png as a data URI; an SVG as an image can run no script and its ids meet no others."""
    found = []
    if (svg := stem.with_suffix(".svg")).is_file():
        text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg.read_text(encoding="utf-8"), flags=re.DOTALL)
        found.append(("image/svg+xml", re.sub(r"\s+", " ", text).replace("> <", "><").encode()))
    if (png := stem.with_suffix(".png")).is_file():
        found.append(("image/png", png.read_bytes()))
    kind, data = min(found, key=lambda item: len(item[1]))
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def belonging(stems: list[str], figures: list[str]) -> dict[str, list[str]]:
    """Table stem -> its figures: of the same stem, or of the longest stem that theirs goes on from (`rank_cost` of `rank`).

    A figure of no table is a section of its own.
    """
    found: dict[str, list[str]] = {stem: [] for stem in stems}
    for name in sorted(figures):
        homes = [stem for stem in stems if name == stem or name.startswith(f"{stem}_")]
        found.setdefault(max(homes, key=len, default=name), []).append(name)
    return found
