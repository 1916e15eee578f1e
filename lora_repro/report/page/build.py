"""Builds the pages of a profile: gathers what is published and renders the templates."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lora_repro.config.paths import CONF
from lora_repro.costs import measures
from lora_repro.errors import UserError
from lora_repro.records.manifest import check
from lora_repro.report import report_json
from lora_repro.report.captions import models
from lora_repro.report.exhibit import Exhibit, belonging
from lora_repro.report.html import beside, html, strips, unrun
from lora_repro.report.kept import Shown
from lora_repro.report.page.figures import PageFigure, article, inline, link_figure
from lora_repro.report.page.runs import RecordedRun, examples, listed, runs_of
from lora_repro.report.page.summary import VERDICTS, by_experiment, claims_of, counted, decided, reading
from lora_repro.report.table import Reproduce, Table
from lora_repro.results import Store
from lora_repro.stats.comparable import is_generated

HERE = Path(__file__).parent
CLAIMS, RUNS = "claims", "runs"  # pages that are no experiment's
FRONT, BEHIND = "report.html", "report"  # the first page; the folder of the others, beside it
FIRST = ("e2e", "glue")  # the first pages; the others follow by name
ARGUMENT = CONF.parent / "docs" / "results.md"  # what was learnt, by hand and held to the numbers by tests
WEIGHT = re.compile(r"<(code|script|style|title)\b.*?</\1>|<[^>]+>|(?<![A-Za-z0-9_])W_([qkvo])\b", re.DOTALL)


@dataclass(frozen=True)
class Part:
    """A table as the page shows it, with what its caption says beyond the title and was not said above it.

    gone: the rows that were not run. notes: its footnotes, as HTML.
    """

    table: Table
    said: str
    command: str
    gone: tuple[str, ...]
    notes: tuple[Markup, ...]


@dataclass(frozen=True)
class Section:
    """One artefact: its title, its tables, its figures, the signs explained once; `run`: whether any was run.

    command: what runs it; empty if it has no table that says so.
    """

    stem: str
    title: str
    parts: tuple[Part, ...]
    figures: tuple[PageFigure, ...]
    run: bool
    signs: tuple[Markup, ...]
    command: str

    @property
    def pictured(self) -> bool:
        """Whether a cell has a picture of its seeds or its interval."""
        columns = [column for part in self.parts for column in zip(*part.table.rows, strict=True)]
        return any(any(strips(column)) for column in columns)

    @property
    def statement(self) -> str:
        """What its first figure shows."""
        return next((f"{figure.title}." for figure in self.figures if figure.title), "")


def pages(store: Store, target: Path, experiments: Sequence[Shown], data: str | None = None) -> dict[str, str]:
    """Path below the folder of `target` -> HTML: the first page, `target`, and those behind it, of a published profile.

    experiments: what each experiment shows of it. data: a folder with the real data, whose texts then stand beside the outputs.
    Figures are linked where they lie under results/. Raises UserError if there is no record, or if the folder cannot be read.
    """
    if data is not None and not Path(data).is_dir():
        raise UserError(f"no such folder: {data}; pass DATA=/path/to/e2e")
    folder, inner = store.folder, target.parent / BEHIND / "page.html"
    results, profile, records = folder.parent, folder.name, store.records
    check(results, [f"{profile}/figures"])
    runs = runs_of(records, profile, {experiment.name: experiment.commands for experiment in experiments})
    if not runs:
        raise UserError(f"no records under {folder}")
    sections = _sections([exhibit for experiment in experiments for exhibit in experiment.exhibits], folder, inner)
    ran, missing = ([section for section in sections if section.run == is_run] for is_run in (True, False))
    order = [section.stem for section in sections]
    report = report_json.read(results)
    numbers = (results / report_json.NAME).is_file()
    behind = _with_starts(report_json.source_signatures(report, profile), records) if numbers else None
    sources = [run for run in runs if behind is None or run.record["signature"] in behind]
    papers, followups = (claims_of(report["claims"], profile, after) for after in (False, True))
    about = by_experiment([*papers, *followups], report["tables"].get(profile, {}), order)
    texts = examples(runs, order, folder / "predictions", data)
    of_claims = [link_figure(path.with_suffix(""), inner) for path in (folder / "figures").glob(f"{CLAIMS}.svg")]
    names = {
        "": "In short",
        **({CLAIMS: "Claims"} if papers or followups else {}),
        **{experiment.stem: experiment.title for experiment in ran},
        RUNS: "Records and commands",
    }
    common: dict[str, Any] = {
        "profile": profile, "reading": reading, "inline": inline, "verdicts": VERDICTS, "counts": counted(papers),
        "papers": papers, "later": followups, "up": Path(os.path.relpath(results, inner.parent)).as_posix(), "numbers": numbers,
    }  # fmt: skip

    def made(template: str, name: str, **values: Any) -> str:
        return filled(HERE / template, contents=_contents(names, name), **common, **values)

    title, argument = _argument(folder, target)
    stems = [folder / "figures" / stem for stem in _argued()]
    documents = {FRONT: made(
        "front.html", "", title=title or f"LoRA, reproduced: profile {profile}", argument=argument, ran=ran,
        scale=_scale(sources or runs), summary=_summary(sources, len(runs) - len(sources)),
        decided=decided([*papers, *followups]),
        figures=[link_figure(stem, target) for stem in stems if stem.with_suffix(".svg").is_file()],
    )}  # fmt: skip
    for section in ran:
        table_texts = [text for text in texts if text.table == section.stem]
        claims = about.get(section.stem, [])
        facts = {"title": section.title, "section": section, "claims": claims, "examples": table_texts}
        documents[f"{BEHIND}/{section.stem}.html"] = made("experiment.html", section.stem, **facts)
    if CLAIMS in names:
        documents[f"{BEHIND}/{CLAIMS}.html"] = made("claims.html", CLAIMS, title="Claims", figures=of_claims)
    ledger = listed(runs, order, measures.load(folder, "latency"), common["up"])
    documents[f"{BEHIND}/{RUNS}.html"] = made("runs.html", RUNS, title="Records and commands", ledger=ledger, missing=missing)
    return documents


def _contents(names: Mapping[str, str], page: str) -> list[dict[str, Any]]:
    """Every page for the navigation of `page`: title, address, and whether it is that page."""
    up, down = ("", f"{BEHIND}/") if not page else ("../", "")
    return [{"title": title, "href": f"{down}{name}.html" if name else f"{up}{FRONT}", "here": name == page}
            for name, title in names.items()]  # fmt: skip


def _argument(folder: Path, page: Path) -> tuple[str, Markup | None]:
    """Title and text of docs/results.md for the profile whose figures it shows; no text for another profile."""
    text = _read(ARGUMENT) if ARGUMENT.is_file() else ""
    if f"](../results/{folder.name}/figures/" not in text or not page.parent.samefile(folder):
        return "", None
    return article(text, ARGUMENT, page, BEHIND)


def _argued() -> list[str]:
    """The figures of docs/results.md, which another profile shows if it has them."""
    return re.findall(r"\]\(\.\./results/\w+/figures/(\w+)\.svg\)", _read(ARGUMENT)) if ARGUMENT.is_file() else []


def filled(template: Path, **values: Any) -> str:
    """A page from a template and its values, in this folder's style and with its script, which sorts and folds tables.

    The template finds macros in parts.html. Whatever is not marked as markup is escaped.
    """
    style, script = (Markup((HERE / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    hashes = {"style_hash": _hash(style), "script_hash": _hash(script)}
    page_template = _environment(template.parent).get_template(template.name)
    return subscripts(page_template.render(html=html, style=style, script=script, **hashes, **values))


def subscripts(page: str) -> str:
    """A page with W_q in its text as the paper writes it; in tags and code it stays."""
    return WEIGHT.sub(lambda match: match[0] if match[2] is None else f"W<sub>{match[2]}</sub>", page)


@cache
def _environment(folder: Path) -> Environment:
    """Compiles each template of `folder` once."""
    return Environment(loader=FileSystemLoader([folder, HERE]), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                       lstrip_blocks=True)  # fmt: skip


def _sections(exhibits: Sequence[Exhibit], folder: Path, page: Path) -> list[Section]:
    """The sections with runs, then those without; both in the order of `FIRST`, then by name."""
    by_stem = {exhibit.stem: exhibit for exhibit in exhibits}
    figures = {path.stem for path in (folder / "figures").glob("*") if path.suffix in (".svg", ".png")} - {CLAIMS}
    names = belonging([*by_stem], sorted(figures))
    stems = sorted(names, key=lambda stem: (FIRST.index(stem) if stem in FIRST else len(FIRST), stem))
    notes = [{note for table in exhibit.tables for note in table.footnotes} for exhibit in exhibits]
    counts = Counter(note for those in notes for note in those)
    signs = {note for note, count in counts.items() if count > 1}
    sections = [_section(stem, by_stem.get(stem), [link_figure(folder / "figures" / name, page) for name in names[stem]], signs)
                for stem in stems]  # fmt: skip
    return sorted(sections, key=lambda section: not section.run)


def _section(stem: str, exhibit: Exhibit | None, figures: Sequence[PageFigure], signs: Container[str]) -> Section:
    """signs: the notes that several tables have; on a page they stand once, at its end, and its own notes once as well."""
    tables = exhibit.tables if exhibit else ()
    title = exhibit.title if exhibit else stem.replace("_", " ").capitalize()
    parts: list[Part] = []
    sentences: dict[str, None] = {}  # sentences, commands and notes
    for table in tables:
        other_notes = [note for note in table.footnotes if note not in signs and note not in sentences]
        facts = [fact for fact in table.facts[1:] if not isinstance(fact, Reproduce)]
        caption = f"{'. '.join(facts).rstrip('.')}." if facts else ""
        command = _command([table])
        if not unrun(table):
            page_table, missing_rows = beside(table)
            new = {key: "" if text in sentences else text for key, text in (("said", caption), ("command", command))}
            parts.append(Part(page_table, gone=tuple(missing_rows), notes=tuple(map(inline, other_notes)), **new))
        sentences |= dict.fromkeys([*table.footnotes, caption, command])
    of_all = tuple(inline(note) for note in sentences if note in signs)
    run = not tables or not all(map(unrun, tables))
    return Section(stem, title, tuple(parts), tuple(figures), run, of_all, _command(tables))


def _command(tables: Sequence[Table]) -> str:
    """The command that the captions name first; empty if they name none."""
    return next((fact.line for table in tables for fact in table.facts if isinstance(fact, Reproduce)), "")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def _with_starts(names: set[str], records: Mapping[str, dict[str, Any]]) -> set[str]:
    """These runs, and all runs that they start from."""
    starts = {start for name in names & records.keys() for start in records[name]["asked"].get("starts_from") or ()}
    return names if starts <= names else _with_starts(names | starts, records)


def _summary(runs: Sequence[RecordedRun], more: int) -> str:
    """How many runs are behind the page, how they ended, when, their total time; then how many runs are only in the list."""
    rest = f"{more} more, of earlier protocols, appear only in the list of runs." if more else ""
    if not runs:  # "more" would have nothing to refer to
        return rest.replace(" more, of earlier protocols, appear", " runs of earlier protocols appear")
    statuses = [str(run.record["status"]) for run in runs]
    outcomes = ", ".join(f"{statuses.count(status)} {status}" for status in sorted(set(statuses), reverse=True))
    days = sorted(str(run.record["where"]["finished_at"])[:10] for run in runs)
    hours = sum(float(run.record["measured"].get("wall_seconds") or 0) for run in runs) / 3600
    when = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    return f"{len(runs)} run{'s' if len(runs) > 1 else ''} ({outcomes}), {when}, {hours:.1f} hours in all. {rest}".rstrip()


def _scale(runs: Sequence[RecordedRun]) -> str:
    """The models of a profile, and whether its data are real or generated."""
    records = [run.record for run in runs]
    generated = is_generated(records)
    data = "generated data (compare its scores with each other only)" if generated else "real data"
    return f"{'; '.join(models(records)) or 'no model'}; on {data}"


def _hash(text: str) -> str:
    """The hash by which a Content-Security-Policy names an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
