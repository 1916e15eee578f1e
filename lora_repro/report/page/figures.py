"""Figures on a page: linked beside it or inside it as data, with the statement that is their title as alternative text."""

from __future__ import annotations

import base64
import html
import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PageFigure:
    """A figure: its stem, its address, the statement that is its title, and its size in CSS pixels (0 if unknown)."""

    name: str
    source: str
    title: str
    width: int
    height: int

    @property
    def wide(self) -> bool:
        """Whether it is too wide to be readable on a phone as a whole."""
        return self.width > 600


def link_figure(stem: Path, page: Path) -> PageFigure:
    """`stem`.svg, or `stem`.png if there is none, by its address from the file `page`."""
    svg = stem.with_suffix(".svg")
    found = svg if svg.is_file() else stem.with_suffix(".png")
    title, size = _told(svg.read_text(encoding="utf-8")) if found == svg else ("", (0, 0))
    return PageFigure(stem.name, Path(os.path.relpath(found, page.parent)).as_posix(), title, *size)


def embed_figure(stem: Path) -> PageFigure:
    """The smaller of `stem`.svg and `stem`.png as data, for a page that is one file.

    An SVG inside an image runs no script, and its ids cannot clash with others.
    """
    found, title, size = [], "", (0, 0)
    if (svg := stem.with_suffix(".svg")).is_file():
        text = svg.read_text(encoding="utf-8")
        title, size = _told(text)
        text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
        text = re.sub(r"(?<![\d.])([1-9]\d*\.\d{2})\d+", r"\1", text)  # to a hundredth of a point; scales below 1 stay
        text = re.sub(r' style="[^"]*"', lambda style: style[0].replace(": ", ":").replace("; ", ";"), text)
        text = text.replace("DejaVuSans-", "g")  # the start of every glyph's id, which each letter repeats
        found.append(("image/svg+xml", re.sub(r"\s+", " ", text).replace("> <", "><").encode()))
    if (png := stem.with_suffix(".png")).is_file():
        found.append(("image/png", png.read_bytes()))
    kind, data = min(found, key=lambda item: len(item[1]))
    return PageFigure(stem.name, f"data:{kind};base64,{base64.b64encode(data).decode()}", title, *size)


def _told(svg: str) -> tuple[str, tuple[int, int]]:
    """(title, size in pixels) of the text of an SVG."""
    titled = re.search(r"<title>(.*?)</title>", svg, re.DOTALL)
    sized = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', svg)
    size = (round(float(sized[1]) / 0.75), round(float(sized[2]) / 0.75)) if sized else (0, 0)
    return (html.unescape(titled[1]) if titled else ""), size


def belonging(stems: list[str], figures: list[str]) -> dict[str, list[str]]:
    """Table stem -> its figures. A figure belongs to the longest table stem with which its name begins: `rank_cost` to `rank`.

    A figure without a table is a section of its own.
    """
    by_stem: dict[str, list[str]] = {stem: [] for stem in stems}
    for name in sorted(figures):
        homes = [stem for stem in stems if name == stem or name.startswith(f"{stem}_")]
        by_stem.setdefault(max(homes, key=len, default=name), []).append(name)
    return by_stem
