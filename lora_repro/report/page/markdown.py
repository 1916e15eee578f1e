"""Written Markdown as HTML: docs/results.md with its figures, and a line such as a claim or a footnote."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from lora_repro.report.page.figures import PageFigure

PARSER = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
IMAGE = re.compile(r"!\[[^\]]*\]\(([^)]+)\)")
FIGURE = re.compile(r"^((?:!\[[^\]]*\]\([^)]+\)\n)+)\n\*([^*]+)\*$", re.MULTILINE)  # images, then their finding in italics
LEAVES = re.compile(r"(?:.*/)?(?:tables/(\w+)|(claims))\.md")  # files of results/ that have a page


def inline(text: str) -> Markup:
    """A line of Markdown, without a paragraph around it."""
    return Markup(PARSER.renderInline(text))


def article(
    text: str, source: Path, page: Path, figure: Callable[[Path, Path], PageFigure], behind: str
) -> tuple[str, Markup]:
    """(title, HTML without it) of a whole text, whose figures have their finding as heading.

    figure: makes one from its stem and the page. behind: the folder of the pages of tables and claims, to which links lead.
    """
    title, _, rest = text.partition("# ")[2].partition("\n")
    made = []
    for i, part in enumerate(FIGURE.split(rest)):
        if i % 3 == 0:
            tokens = PARSER.parse(part)
            _relink(tokens, source.parent, page.parent)
            _to_pages(tokens, behind)
            made.append(Markup(PARSER.renderer.render(tokens, PARSER.options, {})))
        elif i % 3 == 1:
            found = [figure((source.parent / name).resolve().with_suffix(""), page.resolve()) for name in IMAGE.findall(part)]
            picture = Markup('<img src="{0.source}" alt="{0.title}" width="{0.width}" height="{0.height}">')
        else:
            wide = Markup(' class="wide" tabindex="0"') if any(one.wide for one in found) else Markup()
            finding = Markup("<figure{}>\n<figcaption>{}</figcaption>\n").format(wide, inline(" ".join(part.split())))
            images = Markup("\n").join(map(picture.format, found))
            made.append(finding + Markup('<div class="figures">\n{}\n</div>\n</figure>\n').format(images))
    return title, Markup().join(made)


def _to_pages(tokens: list[Token], behind: str) -> None:
    """Let links to tables and claims lead to their pages."""
    for token in tokens:
        _to_pages(token.children or [], behind)
        path, mark, anchor = str(token.attrGet("href") or "").partition("#") if token.type == "link_open" else ("", "", "")
        heading = "-" in anchor  # a claim's id has no hyphen; headings of the ledger are not on the page of claims
        if (found := LEAVES.fullmatch(path)) and "docs/" not in path and not heading:
            token.attrSet("href", f"{behind}/{found[1] or found[2]}.html{mark}{anchor}")


def _relink(tokens: list[Token], source: Path, page: Path) -> None:
    """Make links that are relative to the text relative to the page."""
    for token in tokens:
        _relink(token.children or [], source, page)
        target = str(token.attrGet("href") or "") if token.type == "link_open" else ""
        if target and not urlsplit(target).scheme and not target.startswith(("#", "/")):
            path, mark, anchor = target.partition("#")
            token.attrSet("href", quote(os.path.relpath(source / unquote(path), page)) + mark + anchor)
