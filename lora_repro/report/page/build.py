"""Builds the page: gathers what is published of a profile and renders the template."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lora_repro.costs import measures
from lora_repro.errors import UserError
from lora_repro.records.manifest import EVIDENCE, check
from lora_repro.records.record import load_records
from lora_repro.report import report_json
from lora_repro.report.captions import models
from lora_repro.report.html import html
from lora_repro.report.page.compact_table import folded, unrun
from lora_repro.report.page.examples import examples
from lora_repro.report.page.figures import BESIDE, EmbeddedFigure, belonging, embed_figure
from lora_repro.report.page.markdown import inline, pieces
from lora_repro.report.page.runs import RecordedRun, listed, runs_of
from lora_repro.report.page.summary import VERDICTS, claims_of, counted, headline, reading
from lora_repro.report.table import REPRODUCE, Table
from lora_repro.stats.comparable import is_generated

HERE = Path(__file__).parent
FIRST = ("e2e", "glue")  # the first sections; the others follow by name


@dataclass(frozen=True)
class Section:
    """One artefact: its title, the pieces of its Markdown, its figures; `run`: whether anything of it was run."""

    stem: str
    title: str
    pieces: tuple[Markup | Table, ...]
    figures: tuple[EmbeddedFigure, ...]
    run: bool

    @property
    def command(self) -> str:
        """The command that runs it, from its caption; empty if there is none."""
        said = [piece.striptags() for piece in self.pieces if isinstance(piece, Markup)]
        return next((text.removeprefix(REPRODUCE) for text in said if text.startswith(REPRODUCE)), "")


def page(results: Path, profile: str, target: Path, data: str | None = None) -> str:
    """The HTML of results/<profile>, to be written at `target`.

    data: a folder with the real data, whose texts are then shown beside the outputs. Raises UserError if there is no record, or
    if a record, a table or the folder cannot be read.
    """
    if data is not None and not Path(data).is_dir():
        raise UserError(f"no such folder: {data}; pass DATA=/path/to/e2e")
    folder = results / profile
    check(results, (f"{profile}/{part}" for part in (*EVIDENCE, "tables", "figures")))
    records = load_records(folder / "records")
    runs = runs_of(records, profile)
    if not runs:
        raise UserError(f"no records under {folder}")
    sections = _sections(folder, target)
    order = [section.stem for section in sections]
    answers = report_json.read(results)
    numbers = (results / report_json.NAME).is_file()
    behind = _with_starts(report_json.source_signatures(answers, profile), records) if numbers else None
    kept = [run for run in runs if behind is None or run.record["signature"] in behind]
    papers, later = (claims_of(answers["claims"], profile, after) for after in (False, True))
    measured = {section.stem: section.title for section in sections if section.run}
    beside = [figure for section in sections for figure in section.figures if figure.name.endswith(BESIDE)]
    return filled(
        HERE / "page.html",
        reading=reading,
        inline=inline,
        verdicts=VERDICTS,
        profile=profile,
        summary=_summary(kept, len(runs) - len(kept)),
        scale=_scale(kept or runs),
        counts=counted(papers),
        headline=headline(answers["tables"].get(profile, {}), measured),
        beside=beside[:1],
        sections=sections,
        papers=papers,
        later=later,
        examples=examples(runs, order, folder / "predictions", data),
        up=Path(os.path.relpath(results, target.parent)).as_posix(),
        numbers=numbers,
        ledger=listed(runs, order, measures.load(folder, "latency")),
    )


def filled(template: Path, **values: Any) -> str:
    """A page from a template and its values, in this folder's style and with its script, which sorts and folds tables.

    The template finds macros in parts.html. Whatever is not marked as markup is escaped.
    """
    folders = FileSystemLoader([template.parent, HERE])
    environment = Environment(
        loader=folders, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.tests["table"] = lambda value: isinstance(value, Table)
    style, script = (Markup((HERE / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    hashes = {"style_hash": _hash(style), "script_hash": _hash(script)}
    return environment.get_template(template.name).render(html=html, style=style, script=script, **hashes, **values)


def _sections(folder: Path, page: Path) -> list[Section]:
    """The sections with runs, then those without; both in the order of `FIRST`, then by name."""
    stems = [path.stem for path in (folder / "tables").glob("*.md")]
    figures = {path.stem for path in (folder / "figures").glob("*") if path.suffix in (".svg", ".png")}
    by_stem = belonging(stems, sorted(figures))
    sections = []
    for stem in sorted(by_stem, key=lambda stem: (FIRST.index(stem) if stem in FIRST else len(FIRST), stem)):
        source = folder / "tables" / f"{stem}.md"
        said = list(pieces(_read(source), source, page)) if source.is_file() else []
        tables = [piece for piece in said if isinstance(piece, Table)]
        captions = [table.caption for table in tables if table.caption]
        title = captions[0].partition(", profile ")[0] if captions else stem.replace("_", " ").capitalize()
        run = not tables or not all(map(unrun, tables))
        shown = [folded(piece) if isinstance(piece, Table) else piece for piece in said if not _nothing(piece)]
        once = tuple(piece for i, piece in enumerate(shown) if isinstance(piece, Table) or piece not in shown[:i])
        sections.append(Section(stem, title, once, tuple(embed_figure(folder / "figures" / name) for name in by_stem[stem]), run))
    return sorted(sections, key=lambda section: not section.run)


def _nothing(piece: Markup | Table) -> bool:
    """Whether this is a table of which nothing was run."""
    return isinstance(piece, Table) and unrun(piece)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def _with_starts(names: set[str], records: Mapping[str, dict[str, Any]]) -> set[str]:
    """These runs, and all runs that they start from."""
    starts = {start for name in names & records.keys() for start in records[name]["asked"].get("starts_from") or ()}
    return names if starts <= names else _with_starts(names | starts, records)


def _summary(kept: Sequence[RecordedRun], more: int) -> str:
    """How many runs are behind the page, how they ended, when, their total time; then how many runs are only in the list."""
    rest = f"{more} more, of earlier protocols, appear only in the list of runs." if more else ""
    if not kept:  # "more" would have nothing to refer to
        return rest.replace(" more, of earlier protocols, appear", " runs of earlier protocols appear")
    statuses = [str(run.record["status"]) for run in kept]
    ended = ", ".join(f"{statuses.count(status)} {status}" for status in sorted(set(statuses), reverse=True))
    days = sorted(str(run.record["where"]["finished_at"])[:10] for run in kept)
    hours = sum(float(run.record["measured"].get("wall_seconds") or 0) for run in kept) / 3600
    when = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    return f"{len(kept)} run{'s' if len(kept) > 1 else ''} ({ended}), {when}, {hours:.1f} hours in all. {rest}".rstrip()


def _scale(runs: Sequence[RecordedRun]) -> str:
    """The models of a profile, and whether its data are real or generated."""
    records = [run.record for run in runs]
    generated = is_generated(records)
    data = "generated data (compare its scores with each other only)" if generated else "real data"
    return f"{'; '.join(models(records)) or 'no model'}; on {data}"


def _hash(text: str) -> str:
    """The hash by which a Content-Security-Policy names an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
