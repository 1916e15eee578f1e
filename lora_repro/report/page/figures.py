"""Figures and written text on a page.

A figure is linked beside the page or inside it as data, with the statement that is its title as alternative text. Markdown
becomes HTML: docs/results.md with its figures, and a line such as a claim or a footnote.
"""

from __future__ import annotations

import base64
import html
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

PARSER = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
IMAGE = re.compile(r"!\[[^\]]*\]\(([^)]+)\)")
FIGURE = re.compile(r"^((?:!\[[^\]]*\]\([^)]+\)\n)+)\n\*([^*]+)\*$", re.MULTILINE)  # images, then their finding in italics
LEAVES = re.compile(r"(?:.*/)?(?:tables/(\w+)|(claims))\.md")  # files of results/ that have a page


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
    path = svg if svg.is_file() else stem.with_suffix(".png")
    title, size = _told(svg.read_text(encoding="utf-8")) if path == svg else ("", (0, 0))
    return PageFigure(stem.name, Path(os.path.relpath(path, page.parent)).as_posix(), title, *size)


def embed_figure(stem: Path) -> PageFigure:
    """The smaller of `stem`.svg and `stem`.png as data, for a page that is one file.

    An SVG inside an image runs no script, and its ids cannot clash with others.
    """
    candidates, title, size = [], "", (0, 0)
    if (svg := stem.with_suffix(".svg")).is_file():
        text = svg.read_text(encoding="utf-8")
        title, size = _told(text)
        text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
        text = re.sub(r"(?<![\d.])([1-9]\d*\.\d{2})\d+", r"\1", text)  # to a hundredth of a point; scales below 1 stay
        text = re.sub(r' style="[^"]*"', lambda style: style[0].replace(": ", ":").replace("; ", ";"), text)
        text = text.replace("DejaVuSans-", "g")  # the start of every glyph's id, which each letter repeats
        candidates.append(("image/svg+xml", re.sub(r"\s+", " ", text).replace("> <", "><").encode()))
    if (png := stem.with_suffix(".png")).is_file():
        candidates.append(("image/png", png.read_bytes()))
    kind, data = min(candidates, key=lambda item: len(item[1]))
    return PageFigure(stem.name, f"data:{kind};base64,{base64.b64encode(data).decode()}", title, *size)


def _told(svg: str) -> tuple[str, tuple[int, int]]:
    """(title, size in pixels) of the text of an SVG."""
    title_match = re.search(r"<title>(.*?)</title>", svg, re.DOTALL)
    size_match = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', svg)
    size = (round(float(size_match[1]) / 0.75), round(float(size_match[2]) / 0.75)) if size_match else (0, 0)
    return (html.unescape(title_match[1]) if title_match else ""), size


def inline(text: str) -> Markup:
    """A line of Markdown, without a paragraph around it."""
    return Markup(PARSER.renderInline(text))


def article(text: str, source: Path, page: Path, behind: str) -> tuple[str, Markup]:
    """(title, HTML without it) of a whole text, whose figures have their finding as heading.

    behind: the folder of the pages of tables and claims, to which links lead.
    """
    title, _, rest = text.partition("# ")[2].partition("\n")
    parts = []
    for i, part in enumerate(FIGURE.split(rest)):
        if i % 3 == 0:
            tokens = PARSER.parse(part)
            _relink(tokens, source.parent, page.parent)
            _to_pages(tokens, behind)
            parts.append(Markup(PARSER.renderer.render(tokens, PARSER.options, {})))
        elif i % 3 == 1:
            stems = [(source.parent / name).resolve().with_suffix("") for name in IMAGE.findall(part)]
            figures = [link_figure(stem, page.resolve()) for stem in stems]
            picture = Markup('<img src="{0.source}" alt="{0.title}" width="{0.width}" height="{0.height}">')
        else:
            wide = Markup(' class="wide" tabindex="0"') if any(figure.wide for figure in figures) else Markup()
            finding = Markup("<figure{}>\n<figcaption>{}</figcaption>\n").format(wide, inline(" ".join(part.split())))
            images = Markup("\n").join(map(picture.format, figures))
            parts.append(finding + Markup('<div class="figures">\n{}\n</div>\n</figure>\n').format(images))
    return title, Markup().join(parts)


def _to_pages(tokens: list[Token], behind: str) -> None:
    """Let links to tables and claims lead to their pages."""
    for token in tokens:
        _to_pages(token.children or [], behind)
        path, mark, anchor = str(token.attrGet("href") or "").partition("#") if token.type == "link_open" else ("", "", "")
        heading = "-" in anchor  # a claim's id has no hyphen; headings of the ledger are not on the page of claims
        if (match := LEAVES.fullmatch(path)) and "docs/" not in path and not heading:
            token.attrSet("href", f"{behind}/{match[1] or match[2]}.html{mark}{anchor}")


def _relink(tokens: list[Token], source: Path, page: Path) -> None:
    """Make links that are relative to the text relative to the page."""
    for token in tokens:
        _relink(token.children or [], source, page)
        target = str(token.attrGet("href") or "") if token.type == "link_open" else ""
        if target and not urlsplit(target).scheme and not target.startswith(("#", "/")):
            path, mark, anchor = target.partition("#")
            token.attrSet("href", quote(os.path.relpath(source / unquote(path), page)) + mark + anchor)
