"""Figures inside the page: the smaller of the SVG and the PNG, as a data URI, with its title for who cannot see it."""

from __future__ import annotations

import base64
import html
import re
from dataclasses import dataclass
from pathlib import Path

BESIDE = "_beside_paper"  # a figure of ours and the paper's in one picture: the first such opens the page


@dataclass(frozen=True)
class Drawn:
    """A figure: its stem, data URI, the statement that is its title, and its size in pixels of a screen, 0 where it says none."""

    name: str
    source: str
    title: str
    width: int
    height: int

    @property
    def wide(self) -> bool:
        """Whether a phone shows it in parts, so that it can be read."""
        return self.width > 600


def drawn(stem: Path) -> Drawn:
    """`stem`.svg or `stem`.png; an SVG as an image can run no script and its ids meet no others."""
    found, title, size = [], "", (0, 0)
    if (svg := stem.with_suffix(".svg")).is_file():
        text = svg.read_text(encoding="utf-8")
        titled = re.search(r"<title>(.*?)</title>", text, re.DOTALL)
        sized = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', text)
        title = html.unescape(titled[1]) if titled else ""
        size = (round(float(sized[1]) / 0.75), round(float(sized[2]) / 0.75)) if sized else size
        text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
        found.append(("image/svg+xml", re.sub(r"\s+", " ", text).replace("> <", "><").encode()))
    if (png := stem.with_suffix(".png")).is_file():
        found.append(("image/png", png.read_bytes()))
    kind, data = min(found, key=lambda item: len(item[1]))
    return Drawn(stem.name, f"data:{kind};base64,{base64.b64encode(data).decode()}", title, *size)


def belonging(stems: list[str], figures: list[str]) -> dict[str, list[str]]:
    """Table stem -> its figures: of the same stem, or of the longest stem that theirs goes on from (`rank_cost` of `rank`).

    A figure of no table is a section of its own.
    """
    found: dict[str, list[str]] = {stem: [] for stem in stems}
    for name in sorted(figures):
        homes = [stem for stem in stems if name == stem or name.startswith(f"{stem}_")]
        found.setdefault(max(homes, key=len, default=name), []).append(name)
    return found
