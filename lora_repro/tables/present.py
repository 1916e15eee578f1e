"""The command line of experiments/*.py: show a table in the terminal, or render what is published again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lora_repro import manners
from lora_repro.compose import profile_of
from lora_repro.errors import UserError
from lora_repro.tables.artefact import Artefact, tables
from lora_repro.tables.grid import grid_tables
from lora_repro.tables.latex import latex
from lora_repro.tables.rows import Block, declared
from lora_repro.tables.stores import Store, own, published, records_of
from lora_repro.tables.table import Table, comma_separated, markdown, terminal


def main(artefact: Artefact, about: str, arguments: Sequence[str] | None, root: Path) -> int:
    """Parse the command line and act; returns the exit status. `root`: the folder that holds runs/ and results/."""
    if arguments is None:  # started from a shell
        manners.begin("__main__")
    given = manners.table_parser(artefact.name, about).parse_args(arguments)
    try:
        if given.published:
            render_published(artefact, root, given.overrides)
        else:
            show(artefact, root, given.overrides)
    except UserError as error:
        return manners.failed(error)
    return 0


def render_published(artefact: Artefact, root: Path, overrides: Sequence[str] = ()) -> None:
    """Re-render tables and figures of every profile under results/, from records alone."""
    if overrides:
        raise UserError("--published takes no overrides: it renders what is published as it is")
    profiles = sorted(path.parent.name for path in (root / "results").glob("*/records"))
    if not profiles:
        manners.say("nothing is published under results/ yet")
    for profile in profiles:
        folder = root / "results" / profile
        blocks, store = declared(artefact.name, profile), published(folder)
        if not any(record["row"]["table"] == artefact.name for record in records_of(blocks, store)):
            continue  # nothing was published for this table; cells that it shares with another do not count
        paths = write(artefact, assemble(artefact, blocks, [store], profile), folder)
        manners.say(f"results/{profile}: {_found(blocks, store)}{_wrote(paths, root)}")


def show(artefact: Artefact, root: Path, overrides: Sequence[str]) -> None:
    """Print this checkout's lines beside the published and the paper's; keep its own table under runs/."""
    profile, extra = profile_of(overrides)
    blocks = declared(artefact.name, profile, extra)
    folder = root / str(blocks[0].config["paths"]["runs"]) / profile  # an absolute paths.runs replaces root
    ours = own(folder)
    stores = [ours, published(root / "results" / profile)]
    print(terminal(assemble(artefact, blocks, stores, profile, extra)))
    paths = []
    # An ad-hoc selection must not overwrite the whole table.
    if all(item.startswith("paths.") for item in extra) and records_of(blocks, ours):
        paths = write(artefact, assemble(artefact, blocks, [ours], profile), folder)
    manners.say(f"{_short(folder, root)}: {_found(blocks, ours)}{_wrote(paths, root)}")


def assemble(
    artefact: Artefact,
    blocks: Sequence[Block],
    stores: Sequence[Store],
    profile: str,
    extra: Sequence[str] = (),
) -> list[Table]:
    """The artefact's tables: a column for each value of what it sweeps, or a column a metric."""
    return (grid_tables if artefact.by else tables)(artefact, blocks, stores, profile, extra)


def write(artefact: Artefact, made: Sequence[Table], folder: Path) -> list[Path]:
    """Write tables/<name>.{md,csv,tex} and, where anything is measured, figures/<name>.{svg,png} in `folder`."""
    from lora_repro.tables import curves, figure  # here, so that --help does not wait for matplotlib
    from lora_repro.tables.plots import curve_plot, panel

    (folder / "tables").mkdir(parents=True, exist_ok=True)
    paths = []
    for suffix, render in ((".md", markdown), (".csv", comma_separated), (".tex", latex)):
        path = folder / "tables" / f"{artefact.name}{suffix}"
        path.write_text(render(made), encoding="utf-8", newline="\n")
        paths.append(path)
    if artefact.x:
        plots = [plot for table in made if not table.differences and (plot := curve_plot(artefact, table)).curves]
        return [*paths, *(curves.save(plots, folder / "figures" / artefact.name) if plots else [])]
    panels = [panel(artefact, table) for table in made if not table.differences]
    drawn = [panel for panel in panels if any(not point.quoted for point in panel.points)]
    stem = folder / "figures" / artefact.name
    return [*paths, *(figure.save(drawn, made[0].compared.label, stem) if drawn else [])]


def _found(blocks: Sequence[Block], store: Store) -> str:
    asked = sum(len(row.asked) for block in blocks for row in block.rows)
    return f"{len(records_of(blocks, store))} of {asked} declared cells (rows x seeds) have a record"


def _wrote(paths: Sequence[Path], root: Path) -> str:
    return f"; wrote {', '.join(_short(path, root) for path in paths)}" if paths else ""


def _short(path: Path, root: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path)
