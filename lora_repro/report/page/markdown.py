"""Our own Markdown (tables, claims, docs/results.md) as pieces of a page. Its only HTML tags are line breaks and anchors."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from lora_repro.report.page.figures import PageFigure
from lora_repro.report.table import REPRODUCE, Table

COMMAND = re.compile(rf"\.? ?{REPRODUCE}(.+)$", re.DOTALL)
ANCHOR = re.compile(r"&lt;a id=&quot;([\w-]+)&quot;&gt;&lt;/a&gt;")
PARSER = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
IMAGE = re.compile(r"!\[[^\]]*\]\(([^)]+)\)")
FIGURE = re.compile(r"^((?:!\[[^\]]*\]\([^)]+\)\n)+)\n\*([^*]+)\*$", re.MULTILINE)  # images, then their finding in italics
LEAVES = re.compile(r"(?:.*/)?(?:tables/(\w+)|(claims))\.md")  # files of results/ that have a page


def pieces(text: str, source: Path, page: Path) -> Iterator[Markup | Table]:
    """The tables of a Markdown text and the text between them, in order.

    `source`, `page`: the files of the text and of the page, for relative links. A bold paragraph just above a table is its
    caption: the first sentence stays with the table, the rest comes before it, a command as code.
    """
    tokens = PARSER.parse(text)
    _relink(tokens, source.parent, page.parent)
    waiting: list[Token] = []
    i = 0
    while i < len(tokens):
        if tokens[i].type != "table_open":
            waiting.append(tokens[i])
            i += 1
            continue
        caption, waiting = _caption(waiting)
        if waiting:
            yield _html(waiting)
        title, _, rest = caption.partition(". ")
        yield from _facts(rest)
        end = next(j for j in range(i, len(tokens)) if tokens[j].type == "table_close")
        yield _table(title, tokens[i:end])
        waiting, i = [], end + 1
    if waiting:
        yield _html(waiting)


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
            made.append(_rendered(tokens))
        elif i % 3 == 1:
            found = [figure((source.parent / name).resolve().with_suffix(""), page.resolve()) for name in IMAGE.findall(part)]
            picture = Markup('<img src="{0.source}" alt="{0.title}" width="{0.width}" height="{0.height}">')
        else:
            wide = Markup(' class="wide" tabindex="0"') if any(one.wide for one in found) else Markup()
            finding = Markup("<figure{}>\n<figcaption>{}</figcaption>\n").format(wide, inline(" ".join(part.split())))
            images = Markup("\n").join(map(picture.format, found))
            made.append(finding + Markup('<div class="figures">\n{}\n</div>\n</figure>\n').format(images))
    return title, Markup().join(made)


def items(piece: Markup | Table) -> list[Markup]:
    """The items of a list; empty if the piece is something else."""
    if isinstance(piece, Table) or not piece.startswith("<ul>"):
        return []
    return [Markup(item.strip()) for item in re.findall(r"<li>(.*?)</li>", piece, re.DOTALL)]


def _to_pages(tokens: list[Token], behind: str) -> None:
    """Let links to tables and claims lead to their pages."""
    for token in tokens:
        _to_pages(token.children or [], behind)
        path, mark, anchor = str(token.attrGet("href") or "").partition("#") if token.type == "link_open" else ("", "", "")
        heading = "-" in anchor  # a claim's id has no hyphen; headings of the ledger are not on the page of claims
        if (found := LEAVES.fullmatch(path)) and "docs/" not in path and not heading:
            token.attrSet("href", f"{behind}/{found[1] or found[2]}.html{mark}{anchor}")


def _html(tokens: list[Token]) -> Markup:
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):  # the first two levels are the page's own
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
    return _rendered(tokens)


def _rendered(tokens: list[Token]) -> Markup:
    """HTML in which the two tags that our tables and claims use are not escaped."""
    text = PARSER.renderer.render(tokens, PARSER.options, {})
    return Markup(ANCHOR.sub(r'<a id="\1"></a>', text.replace("&lt;br&gt;", "<br>")))


def _caption(waiting: list[Token]) -> tuple[str, list[Token]]:
    """(the bold paragraph at the end of `waiting` without its markup, the tokens before it)."""
    if len(waiting) >= 3 and waiting[-3].type == "paragraph_open":
        content = waiting[-2].content
        if content.startswith("**") and content.endswith("**") and len(content) > 4:
            words = "".join(child.content for child in waiting[-2].children or [])
            return words, waiting[:-3]
    return "", waiting


def _facts(text: str) -> Iterator[Markup]:
    command = COMMAND.search(text)
    said = text[: command.start()] if command else text
    if said:
        yield Markup("<p>{}</p>").format(said.rstrip(".") + ".")
    if command:
        yield Markup("<p>{}<code>{}</code></p>").format(REPRODUCE, command[1])


def _table(caption: str, tokens: list[Token]) -> Table:
    rows: list[tuple[str, ...]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append(())
        elif token.type == "inline":
            rows[-1] += (_rendered(token.children or []),)
    header, *body = rows
    return Table((caption,), header, "l" * len(header), tuple(body))


def _relink(tokens: list[Token], source: Path, page: Path) -> None:
    """Make links that are relative to the text relative to the page."""
    for token in tokens:
        _relink(token.children or [], source, page)
        target = str(token.attrGet("href") or "") if token.type == "link_open" else ""
        if target and not urlsplit(target).scheme and not target.startswith(("#", "/")):
            path, mark, anchor = target.partition("#")
            token.attrSet("href", quote(os.path.relpath(source / unquote(path), page)) + mark + anchor)
