"""The command line of the experiments that read probed runs: show their sheets, or render what is published again."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_repro import manners
from lora_repro.analysis.updates import Probed, probed
from lora_repro.compose import profile_of
from lora_repro.errors import UserError
from lora_repro.tables.artefact import Artefact, identity, reproduce
from lora_repro.tables.report import Metric
from lora_repro.tables.rows import Block, declared
from lora_repro.tables.sheet import Sheet, latex, markdown, terminal
from lora_repro.tables.stores import one_origin, own, published


@dataclass(frozen=True)
class View:
    """An experiment on probed runs: its stem, its title, and what makes its sheets and its figures of them."""

    name: str
    title: str
    sheets: Callable[[Sequence[Probed], tuple[str, ...], Sequence[Block]], list[Sheet]]
    figures: Callable[[Sequence[Probed], str, Path], list[Path]]


def main(view: View, about: str, arguments: Sequence[str] | None, root: Path) -> int:
    """Parse the command line and act; returns the exit status. `root`: the folder that holds runs/ and results/."""
    if arguments is None:  # started from a shell
        manners.begin("__main__")
    given = manners.table_parser(view.name, about).parse_args(arguments)
    try:
        if given.published and given.overrides:
            raise UserError("--published takes no overrides: it renders what is published as it is")
        if given.published:
            _render_published(view, root)
        else:
            _show(view, root, given.overrides)
    except UserError as error:
        return manners.failed(error)
    return 0


def _render_published(view: View, root: Path) -> None:
    for profile in sorted(path.parent.name for path in (root / "results").glob("*/records")):
        folder = root / "results" / profile
        blocks = declared(view.name, profile)
        runs = probed(blocks, published(folder))
        if runs:
            print(f"results/{profile}: {len(runs)} runs; wrote {len(_write(view, blocks, runs, profile, folder))} files")


def _show(view: View, root: Path, overrides: Sequence[str]) -> None:
    profile, extra = profile_of(overrides)
    blocks = declared(view.name, profile, extra)
    folder = root / str(blocks[0].config["paths"]["runs"]) / profile
    shown = 0
    for store in (own(folder), published(root / "results" / profile)):
        runs = probed(blocks, store)
        shown += len(runs)
        if runs:
            print(f"== {store.source}\n\n{terminal(view.sheets(runs, _facts(view, blocks, runs, profile), blocks))}")
        if runs and store.source != "published" and all(item.startswith("paths.") for item in extra):
            for path in _write(view, blocks, runs, profile, folder):
                print(path.relative_to(root) if path.is_relative_to(root) else path)
    if not shown:
        raise UserError(f"no run of {view.name} yet: python -m lora_repro.run experiment={view.name} profile={profile}")


def _facts(view: View, blocks: Sequence[Block], runs: Sequence[Probed], profile: str) -> tuple[str, ...]:
    """The caption's sentences. Raises UserError if the runs saw different data or weights."""
    records = [run.record for run in runs]
    one_origin(records)
    none = Metric("dev_loss", "Dev loss", -1)
    artefact = Artefact(view.name, view.title, (none,), none, "", "", {"": ""})
    seeds = [len({run.seed for run in runs if run.label == label}) for label in dict.fromkeys(run.label for run in runs)]
    config = blocks[0].config
    return (*identity(artefact, profile, config, records, seeds), reproduce(view.name, profile, config))


def _write(view: View, blocks: Sequence[Block], runs: Sequence[Probed], profile: str, folder: Path) -> list[Path]:
    facts = _facts(view, blocks, runs, profile)
    made = view.sheets(runs, facts, blocks)
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    paths = []
    for suffix, render in ((".md", markdown), (".csv", comma_separated), (".tex", latex)):
        path = folder / "tables" / f"{view.name}{suffix}"
        path.write_text(render(made), encoding="utf-8", newline="\n")
        paths.append(path)
    title = f"{facts[0]}. {facts[1].partition(' (')[0]}\n{facts[2]}. {facts[3]}"
    return [*paths, *view.figures(runs, title, folder / "figures")]


def comma_separated(sheets: Sequence[Sheet]) -> str:
    """CSV, one line a row of every sheet, the sheet's title first."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n")
    for sheet in sheets:
        write.writerow(["table", *sheet.header])
        write.writerows([sheet.facts[0], *row] for row in sheet.rows)
    return out.getvalue()
