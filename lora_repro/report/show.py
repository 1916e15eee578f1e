"""Renders what an experiment shows: this checkout's runs on the terminal, published ones into results/ (`commands/render.py`)."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lora_repro import console
from lora_repro.config import paths
from lora_repro.config.compose import profile_of
from lora_repro.config.paths import CONF, EVERY, EXPERIMENTS, ROOT
from lora_repro.errors import UserError
from lora_repro.files import sha256
from lora_repro.planning.cells import unique
from lora_repro.planning.rerun_command import command_of
from lora_repro.records import manifest, rates
from lora_repro.records.transaction import Change
from lora_repro.report import kept
from lora_repro.report.exhibit import Declaration, Exhibit, ReportRequest, belonging
from lora_repro.report.kept import Shown
from lora_repro.report.pivot import Pivot
from lora_repro.report.table import comma_separated, latex, markdown
from lora_repro.report.terminal import paragraph, terminal
from lora_repro.results import Store, own, published, runs_folder

if TYPE_CHECKING:
    from lora_repro.report.report_json import Answer

RENDERED = {"tables": (".md", ".csv", ".tex"), "figures": (".svg", ".png")}


def names(folder: Path = CONF.parent / "experiments") -> list[str]:
    """The names of the experiments in `folder`, each of which declares what it shows."""
    return sorted(path.stem for path in folder.glob("[!_]*.py"))


def declaration(name: str) -> Declaration:
    """TABLE of experiments/<name>.py; for an experiment of the user's own folder, the scores by task.

    Raises UserError if there is neither.
    """
    if name not in names():
        if paths.own() and (Path(paths.own()) / "experiment" / f"{name}.yaml").is_file():
            rows = paths.choices(f"row/{name}")
            first = "full" if "full" in rows else next(iter(rows), "")
            return Pivot(name, {}, by="task", reference=first, reference_label="full FT" if first == "full" else first)
        near = difflib.get_close_matches(name, names(), 1)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(names())}"
        raise UserError(f"no experiments/{name}.py; {hint}")
    table: Declaration = importlib.import_module(f"{EXPERIMENTS}.{name}").TABLE
    return table


def render_published(experiments: Sequence[str], root: Path = ROOT) -> None:
    """Render the tables and figures of every profile under results/ again, from what is published alone."""
    results = root / "results"
    profiles = sorted({path.parent.name for kind in ("records", "measures") for path in results.glob(f"*/{kind}")})
    if not profiles:
        console.say("nothing is published under results/ yet")
        return
    from lora_repro.report import report_json  # here: a sweep, which imports this module, needs no claims

    answers: dict[tuple[str, str], Answer | None] = {}
    new_reports: list[tuple[Store, Shown]] = []
    with rates.published_only():
        with manifest.changing(results) as change:
            for profile in profiles:
                store = published(results / profile)
                for name in experiments:
                    report = kept.read(name, store)
                    if report and report.stands(results):
                        for exhibit in report.exhibits:
                            console.say(f"results/{profile}: {exhibit.said}; as rendered before")
                    else:
                        new_reports.append(_render(name, store, change, root))
                        report = new_reports[-1][1]
                    answers[profile, name] = report.answer
                    for path in stale(store.folder, name, [results / file for file in report.files]):
                        change.remove(path)
            report_json.update_report(change, answers, anew=set(names()) <= set(experiments))
        for entry in new_reports:
            kept.write(*entry)


def _render(name: str, store: Store, change: Change, root: Path) -> tuple[Store, Shown]:
    """Render what one experiment shows of a profile; returns what `_made` does."""
    view, report = _made(name, store)
    files: dict[str, str] = {}
    for exhibit in report.exhibits:
        outputs = write(exhibit, change.staged / store.folder.name)
        files |= {path.relative_to(change.staged).as_posix(): sha256(path) for path in outputs}
        console.say(f"results/{store.folder.name}: {exhibit.said}{_wrote([change.place(path) for path in outputs], root)}")
    return view, replace(report, files=files)


def _made(name: str, store: Store) -> tuple[Store, Shown]:
    """A published store that remembers what an experiment looked up, and what it shows of that."""
    from lora_repro.report import report_json

    ask, experiment = ReportRequest(name, store.folder.name), declaration(name)
    store = kept.traced(store)
    exhibits = tuple(exhibit for exhibit in experiment.exhibits(ask, [store]) if exhibit.keep)
    answer = report_json.experiment_entry(experiment, ask, store, exhibits) if exhibits else None
    commands = {f"{cell.row.name} {cell.signature}": command_of(cell, name) for cell in reversed(ask.cells)}
    return store, Shown(name, exhibits, answer, commands)  # a run at two places has the command of the first


def all_published(store: Store) -> list[Shown]:
    """What each experiment shows of a published profile, kept from when it was rendered or made now."""
    reports = []
    with rates.published_only():
        for name in names():
            report = kept.read(name, store)
            if report is None:
                view, report = _made(name, store)
                kept.write(view, report)
            reports.append(report)
    return reports


def show(name: str, overrides: Sequence[str], root: Path = ROOT, rows: Sequence[str] = ()) -> None:
    """Print this checkout's results beside the published ones and the paper's; write this checkout's own tables under runs/.

    rows: those to print, if not all; what is written holds all.
    """
    profile, extra = profile_of(overrides)
    extra = [item for item in extra if item != f"row/{name}={EVERY}"]
    ask, experiment = ReportRequest(name, profile, tuple(extra)), declaration(name)
    folder = runs_folder(ask.cells, root, profile)
    ours = own(folder)
    request = ReportRequest(name, profile, (*extra, f"row/{name}={','.join(rows)}")) if rows else ask
    exhibits = experiment.exhibits(request, [ours, published(root / "results" / profile)])
    if not exhibits:
        if count := sum(cell.signature in ours.records for cell in unique(ask.cells)):
            console.say(f"no table of {name} yet: it shows these runs ({count} recorded) only beside runs of its other rows")
            return
        command = getattr(experiment, "command", lambda ask: ask.command(ask.cells[0]))(ask)
        raise UserError(f"nothing is measured for {name} at profile {profile} yet; run: {command}")
    wrote: list[Path] = []
    # A selection of cells must not overwrite the whole table; paths.* and launch.* select nothing.
    if all(item.startswith(("paths.", "launch.")) for item in extra):
        wrote = [path for exhibit in experiment.exhibits(ask, [ours]) if exhibit.keep for path in write(exhibit, folder)]
        for path in stale(folder, name, wrote):
            path.unlink()
    full_table = next((_short(path, root) for path in wrote if path.suffix == ".md"), "")
    for exhibit in exhibits:
        print("\n\n".join(filter(None, [exhibit.heading, terminal(exhibit.tables, full_table)])))
        if exhibit.words:
            print("\n".join(paragraph(line) for line in exhibit.words) + "\n")
    summary = "; ".join(dict.fromkeys(exhibit.said for exhibit in exhibits))
    console.say(f"{_short(folder, root)}: {summary}{_wrote(wrote, root)}")


def write(exhibit: Exhibit, folder: Path) -> list[Path]:
    """Write tables/<stem>.{md,csv,tex} of `folder` and, if anything was measured, the figures in its figures/."""
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    paths = []
    for suffix, render in zip(RENDERED["tables"], (markdown, comma_separated, latex), strict=True):
        path = folder / "tables" / f"{exhibit.stem}{suffix}"
        path.write_text(render(exhibit.tables), encoding="utf-8", newline="\n")
        paths.append(path)
    return [*paths, *exhibit.draw(folder / "figures" / exhibit.stem)]


def stale(folder: Path, name: str, wrote: Sequence[Path]) -> list[Path]:
    """The tables and figures that an experiment no longer makes.

    `rank_paper` belongs to the experiment rank, `rank_e2e` to another one.
    """
    files = [path for kind, suffixes in RENDERED.items() for suffix in suffixes for path in (folder / kind).glob(f"*{suffix}")]
    stems = belonging(sorted({*names(), *paths.choices("experiment"), name}), [path.stem for path in files])[name]
    return [path for path in files if path.stem in stems and path not in wrote]


def _wrote(paths: Sequence[Path], root: Path) -> str:
    """`; wrote ...` with the files of one stem as one shell word: tables/e2e.{md,csv,tex}."""
    kinds: dict[str, list[str]] = {}
    for path in paths:
        kinds.setdefault(_short(path.with_suffix(""), root), []).append(path.suffix[1:])
    words = [f"{stem}.{ends[0] if len(ends) == 1 else '{' + ','.join(ends) + '}'}" for stem, ends in kinds.items()]
    return f"; wrote {' '.join(words)}" if words else ""


def _short(path: Path, root: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path)
