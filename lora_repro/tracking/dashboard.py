"""The W&B dashboard as code: a profile's tables, figures and runs arranged as a workspace.

    python -m lora_repro dashboard profile=mini             upload tables and figures as one run, save the workspace
    python -m lora_repro dashboard profile=mini --dry-run   print the workspace instead (or DRY_RUN=1); needs no key
    WANDB_MODE=offline python -m lora_repro dashboard       keep the run here for `wandb sync`; needs no key

Tables and figures are this checkout's (runs/<profile>) where it has them, else the published (results/<profile>). The
panels follow from those files alone: a new table or figure needs no change here.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_repro import cli
from lora_repro.config.place import ROOT
from lora_repro.errors import UserError
from lora_repro.records.record import load_records

Panel = dict[str, Any]
Section = dict[str, Any]
# What a figure's stem tells of where it belongs, in this order (subspace_ranks is of subspaces); else a table's figure shows
# its scores over parameters, and what is no table's comes last.
SCORES = "Scores by method, beside the paper's"
QUALITY = "Quality against parameters"
FIGURES = {
    QUALITY: ("quality",),
    SCORES: ("low_data", "which_weights"),
    "Subspaces": ("subspace", "delta_w"),
    "Rank": ("rank",),
    "Latency and memory": ("latency", "footprint", "memory"),
}
REST = "Other figures"


@dataclass(frozen=True)
class Artefacts:
    """tables: stem -> path of its csv. figures: stem -> path of its png. scores: the keys that records score."""

    tables: dict[str, Path]
    figures: dict[str, Path]
    scores: tuple[str, ...]


def find(root: Path, profile: str) -> Artefacts:
    """What there is of a profile. Raises UserError where there is nothing."""
    places = [root / "results" / profile, root / "runs" / profile]  # the later one counts
    tables = {path.stem: path for place in places for path in sorted((place / "tables").glob("*.csv"))}
    figures = {path.stem: path for place in places for path in sorted((place / "figures").glob("*.png"))}
    records = [*load_records(places[0] / "records").values(), *load_records(places[1]).values()]
    if not (tables or figures or records):
        raise UserError(f"nothing of profile {profile} is under runs/ or results/; run make reproduce-e2e first")
    scores = {key for record in records for key in record["measured"].get("scores", {})}
    return Artefacts(tables, figures, tuple(sorted(scores)))


def rows(path: Path) -> list[dict[str, Any]]:
    """A table's lines: numbers as numbers, nothing as None, with `line` (label and source) and all `parameters` trained."""
    with path.open(encoding="utf-8", newline="") as file:
        found = [{key: number(text) for key, text in line.items()} for line in csv.DictReader(file)]
    for line in found:
        line["line"] = ", ".join(str(line[key]) for key in ("label", "source") if line.get(key))
        printed, method = line.get("printed_parameters_m"), line.get("method_parameters")
        ours = None if method is None else method + (line.get("head_parameters") or 0)
        line["parameters"] = ours if ours is not None else printed and 1e6 * printed
    return found


def number(text: str) -> Any:
    """1, 1.5, None or the text itself."""
    try:
        return (float(text) if set(text) & set(".e") else int(text)) if text else None
    except ValueError:
        return text


def score_columns(path: Path) -> list[str]:
    """The columns of a table that are scores: they stand between the parameters and n."""
    with path.open(encoding="utf-8", newline="") as file:
        header = next(csv.reader(file), [])
    if not {"printed_parameters_m", "n"} <= set(header):
        return []
    middle = header[header.index("printed_parameters_m") + 1 : header.index("n")]
    return [name for name in middle if not name.endswith(("_sd", "_difference", "_low", "_high"))]


def has_cloud(path: Path, column: str) -> bool:
    """Whether a score stands beside a number of parameters anywhere: a table with a column a rank has none."""
    return any(line["parameters"] and line[column] is not None for line in rows(path))


def sections(found: Artefacts) -> list[Section]:
    """The workspace's sections as plain data; a panel's `kind` says what it draws."""
    charts = [(stem, column) for stem, path in found.tables.items() for column in score_columns(path)]
    scores = [f"scores/{key}" for key in found.scores]
    places = {name: [stem for stem in found.figures if place(stem, found) == name] for name in (*FIGURES, REST)}
    listed: list[Section] = [
        section(SCORES, [*map(image, places[SCORES]), *(bar(stem, column) for stem, column in charts)]),
        section(
            QUALITY,
            [
                *map(image, places[QUALITY]),
                *(cloud(stem, column) for stem, column in charts if has_cloud(found.tables[stem], column)),
            ],
        ),
        section(
            "Rank",
            [*map(image, places["Rank"]), *(runs_cloud("method.rank", score, "config") for score in scores)],
        ),
        section("Training", [curve(key) for key in ("train_loss", "dev_loss", "lr")]),
        section("Subspaces", map(image, places["Subspaces"])),
        section(
            "Latency and memory",
            [
                *map(image, places["Latency and memory"]),
                *(runs_bar(key) for key in ("train_seconds", "decode_seconds", "wall_seconds", "peak_memory_mb")),
            ],
        ),
        section("Runs", [runs_cloud("parameters/method", score, "summary") for score in scores]),
        section(REST, map(image, places[REST])),
    ]
    return [item for item in listed if item["panels"]]


def place(stem: str, found: Artefacts) -> str:
    """The section of a figure: by its name, else by whether its table has scores."""
    named = [name for name, words in FIGURES.items() if any(word in stem for word in words)]
    scored = stem in found.tables and score_columns(found.tables[stem])
    return named[0] if named else QUALITY if scored else REST


def section(name: str, panels: Any) -> Section:
    return {"name": name, "panels": list(panels)}


def bar(stem: str, column: str) -> Panel:
    return {"kind": "table_bar", "table": f"tables/{stem}", "label": "line", "value": column, "title": f"{stem}: {column}"}


def cloud(stem: str, column: str) -> Panel:
    title = f"{stem}: {column} against trained parameters"
    return {"kind": "table_scatter", "table": f"tables/{stem}", "x": "parameters", "y": column, "title": title}


def image(stem: str) -> Panel:
    return {"kind": "image", "key": f"figures/{stem}", "title": stem}


def curve(key: str) -> Panel:
    return {"kind": "line", "x": "step", "y": key, "title": f"{key}, mean over the seeds of a method"}


def runs_bar(key: str) -> Panel:
    return {"kind": "bar", "metric": key, "group": "row.label", "title": key}


def runs_cloud(x: str, y: str, where: str) -> Panel:
    return {"kind": "scatter", "x": x, "where": where, "y": y, "log": True, "title": f"{y} against {x}"}


def workspace(found: Artefacts, profile: str) -> dict[str, Any]:
    """The whole workspace: its runs grouped by experiment and method, its sections."""
    return {
        "name": f"lora_repro {profile}",
        "filter": {"profile_name": profile},
        "group_by": ["row.table", "row.label"],
        "sections": sections(found),
    }


@cli.command
def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """The command line above; returns the exit status."""
    parser = cli.parser("dashboard", __doc__)
    parser.add_argument("profile", nargs="?", default="profile=mini", help="profile=mini (default)")
    parser.add_argument("--dry-run", action="store_true", help="print the workspace as JSON (or DRY_RUN=1)")
    given = parser.parse_args(arguments)
    key, _, profile = given.profile.partition("=")
    if key != "profile" or not profile or "/" in profile:
        raise UserError(f"{given.profile!r}: write profile=mini")
    found = find(root, profile)
    spec = workspace(found, profile)
    if given.dry_run or os.environ.get("DRY_RUN", "") not in ("", "0"):
        print(json.dumps(spec, indent=1, ensure_ascii=False))
    else:
        from lora_repro.tracking.wandb_board import save

        tables = {f"tables/{stem}": rows(path) for stem, path in found.tables.items()}
        figures = {f"figures/{stem}": path for stem, path in found.figures.items()}
        print(f"saved: {save(spec, tables, figures, root / 'runs' / profile)}")
    return 0
