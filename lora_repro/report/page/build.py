"""The page: what is published of a profile, gathered and put through the template."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lora_repro.costs import measures
from lora_repro.errors import UserError
from lora_repro.records.manifest import EVIDENCE, check
from lora_repro.records.record import load_records
from lora_repro.report import answers
from lora_repro.report.html import html
from lora_repro.report.page.examples import examples
from lora_repro.report.page.figures import belonging, embedded
from lora_repro.report.page.prose import pieces
from lora_repro.report.page.runs import RecordedRun, listed, runs_of
from lora_repro.report.table import Table

HERE = Path(__file__).parent
FIRST = ("e2e", "glue")  # what a reader looks for first; all others by name


@dataclass(frozen=True)
class Section:
    """An artefact: its title, what its Markdown says, and its figures as data URIs."""

    stem: str
    title: str
    pieces: tuple[Markup | Table, ...]
    figures: tuple[tuple[str, str], ...]


def page(results: Path, profile: str, target: Path, data: str | None = None) -> str:
    """The HTML of results/<profile>, to be written at `target`.

    data: a folder with the real data, whose texts then stand beside the outputs. Raises UserError where there is no
    record, or a record, a table or the folder cannot be read.
    """
    if data is not None and not Path(data).is_dir():
        raise UserError(f"no such folder: {data}; pass DATA=/path/to/e2e")
    folder = results / profile
    check(results, (f"{profile}/{part}" for part in (*EVIDENCE, "tables", "figures")))
    runs = runs_of(load_records(folder / "records"), profile)
    if not runs:
        raise UserError(f"no records under {folder}")
    sections = _sections(folder, target)
    order = [section.stem for section in sections]
    claims, numbers = results / "claims.md", results / answers.NAME
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.tests["table"] = lambda value: isinstance(value, Table)
    environment.globals["html"] = html
    style, script = (Markup((HERE / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    return environment.get_template("page.html").render(
        profile=profile,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        summary=_summary(runs, answers.behind(results, profile) if numbers.is_file() else None),
        sections=sections,
        claims=tuple(pieces(_read(claims), claims, target)) if claims.is_file() else (),
        examples=examples(runs, order, folder / "predictions", data),
        numbers=Path(os.path.relpath(numbers, target.parent)).as_posix() if numbers.is_file() else "",
        ledger=listed(runs, order, measures.load(folder, "latency")),
    )


def _sections(folder: Path, page: Path) -> list[Section]:
    stems = [path.stem for path in (folder / "tables").glob("*.md")]
    figures = {path.stem for path in (folder / "figures").glob("*") if path.suffix in (".svg", ".png")}
    found = belonging(stems, sorted(figures))
    sections = []
    for stem in sorted(found, key=lambda stem: (FIRST.index(stem) if stem in FIRST else len(FIRST), stem)):
        source = folder / "tables" / f"{stem}.md"
        said = tuple(pieces(_read(source), source, page)) if source.is_file() else ()
        captions = [piece.caption for piece in said if isinstance(piece, Table) and piece.caption]
        title = captions[0].partition(", profile ")[0] if captions else stem.replace("_", " ").capitalize()
        drawn = tuple((name, embedded(folder / "figures" / name)) for name in found[stem])
        sections.append(Section(stem, title, said, drawn))
    return sections


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def _summary(runs: Sequence[RecordedRun], behind: set[str] | None) -> str:
    """How many runs, how they ended, when, and how long they took together. behind: those that something here rests on."""
    kept = [run for run in runs if behind is None or run.record["signature"] in behind]
    more = len(runs) - len(kept)
    rest = f"{more} more, of earlier protocols, stand in the list of runs alone." if more else ""
    if not kept:
        return rest
    statuses = [str(run.record["status"]) for run in kept]
    ended = ", ".join(f"{statuses.count(status)} {status}" for status in sorted(set(statuses), reverse=True))
    days = sorted(str(run.record["where"]["finished_at"])[:10] for run in kept)
    hours = sum(float(run.record["measured"].get("wall_seconds") or 0) for run in kept) / 3600
    when = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    return f"{len(kept)} run{'s' if len(kept) > 1 else ''} ({ended}), {when}, {hours:.1f} hours in all. {rest}".rstrip()


def _hash(text: str) -> str:
    """What a Content-Security-Policy names an inline script or style by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
