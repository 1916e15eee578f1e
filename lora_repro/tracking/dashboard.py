"""A W&B workspace from a profile's tables, figures and runs (`commands/dashboard.py`). Panels are made from the files found."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_repro.config.hydra_errors import empty_profile_message
from lora_repro.errors import UserError
from lora_repro.records import manifest
from lora_repro.records.record import load_records

Panel = dict[str, Any]
Section = dict[str, Any]
SHOWN = 4  # tables with a chart of their own
FIRST = ("e2e", "glue", "rivals", "low_data")
PICTURES = 6  # figures shown: `*_beside_paper` first, then those of tables
CLAIMS = "claims"  # the table of verdicts
MAIN = ("bleu", "average", "accuracy", "rouge1", "logical_form")  # scores that stand for a task, the commonest first
OTHERS = ("paper", "reruns")  # sources that are not ours


@dataclass(frozen=True)
class Artefacts:
    """tables: stem -> path of its csv. figures: stem -> path of its png. scores: the keys that records score."""

    tables: dict[str, Path]
    figures: dict[str, Path]
    scores: tuple[str, ...]


def find(root: Path, profile: str) -> Artefacts:
    """The artefacts of a profile. Raises UserError if there are none."""
    places = [root / "results" / profile, root / "runs" / profile]  # the later one takes precedence
    manifest.check(root / "results", [f"{profile}/{part}" for part in ("records", "tables", "figures")])
    tables = {path.stem: path for place in places for path in sorted((place / "tables").glob("*.csv"))}
    figures = {path.stem: path for place in places for path in sorted((place / "figures").glob("*.png"))}
    records = [*load_records(places[0] / "records").values(), *load_records(places[1]).values()]
    if not (tables or figures or records):
        message = f"profile {profile} has nothing under runs/ or results/; run make reproduce-e2e first"
        raise UserError(empty_profile_message(profile, message))
    scores = {key for record in records for key in record["measured"].get("scores", {})}
    return Artefacts(tables, figures, tuple(sorted(scores)))


def rows(path: Path) -> list[dict[str, Any]]:
    """A table's lines: numbers as numbers, nothing as None, with `line` (label and source) and all `parameters` trained."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = [{key: number(text) for key, text in line.items()} for line in csv.DictReader(file)]
    for line in lines:
        line["line"] = ", ".join(str(line[key]) for key in ("label", "source") if line.get(key))
        millions, method = line.get("printed_parameters_m"), line.get("method_parameters")
        ours = None if method is None else method + (line.get("head_parameters") or 0)
        line["parameters"] = ours if ours is not None else millions and 1e6 * millions
    return lines


def number(text: str) -> Any:
    """1, 1.5, None or the text itself."""
    try:
        return (float(text) if set(text) & set(".e") else int(text)) if text else None
    except ValueError:
        return text


def score_columns(path: Path) -> list[str]:
    """The score columns of a table: those between the parameters and n."""
    with path.open(encoding="utf-8", newline="") as file:
        header = next(csv.reader(file), [])
    if not {"printed_parameters_m", "n"} <= set(header):
        return []
    middle = header[header.index("printed_parameters_m") + 1 : header.index("n")]
    return [name for name in middle if not name.endswith(("_sd", "_difference", "_low", "_high"))]


def claims(root: Path, profile: str) -> list[dict[str, Any]]:
    """One line per claim, with its verdict at this profile, from results/report.json."""
    text = manifest.read_text(root / "results", "report.json")
    entries = json.loads(text)["claims"] if text else []
    return [
        {
            "claim": entry["statement"],
            "verdict": entry["profiles"][profile]["verdict"],
            "told": f"{entry['figure']} ({entry['source']})",
        }
        for entry in entries
        if profile in entry["profiles"]
    ]


def charts(tables: dict[str, Path]) -> list[tuple[str, str]]:
    """(table, its main score: the average, else the first column) for the tables that were run, those in `FIRST` first."""
    pairs = []
    for stem in sorted(tables, key=lambda stem: (FIRST.index(stem) if stem in FIRST else len(FIRST), stem)):
        columns = score_columns(tables[stem])
        if columns and any(line["n"] and not str(line["source"]).startswith(OTHERS) for line in rows(tables[stem])):
            pairs.append((stem, "average" if "average" in columns else columns[0]))
    return pairs


def sections(artefacts: Artefacts) -> list[Section]:
    """The workspace's sections as plain data, some 25 panels in all; a panel's `kind` says what it draws."""
    table_scores = charts(artefacts.tables)
    main = [f"scores/{key}" for key in MAIN if key in artefacts.scores] or [f"scores/{key}" for key in artefacts.scores[:2]]
    pictures = sorted(
        artefacts.figures, key=lambda stem: (not stem.endswith("_beside_paper"), stem not in dict(table_scores), stem)
    )
    all_sections: list[Section] = [
        section("Verdicts on the paper's claims", [table(CLAIMS), *map(image, pictures[:1])]),
        section(
            "Scores by method, beside the paper's",
            [
                *(bar(stem, column) for stem, column in table_scores[:SHOWN]),
                *(cloud(stem, column) for stem, column in table_scores[:2]),
            ],
        ),
        section("Training", [curve(f"train/{key}") for key in ("loss", "lr", "grad_norm")]),
        section("Validation", [curve(f"eval/{key}") for key in ("loss", "score")]),
        section(
            "Rate and rank",
            [parallel([("config", "train.lr"), ("config", "method.rank"), ("config", "method.alpha"), ("summary", main[0])])]
            + [runs_cloud(x, main[0]) for x in ("train.lr", "method.rank")]
            if main
            else [],
        ),
        section("Predictions", [table("predictions"), {"kind": "compare", "title": "runs side by side"}]),
        section(
            "Speed and memory",
            [
                *(curve(f"train/{key}") for key in ("tokens_per_second", "gpu_memory_mb", "memory_mb")),
                *(runs_bar(key) for key in ("train_seconds", "decode_seconds", "peak_memory_mb")),
            ],
        ),
        section("Figures", map(image, pictures[1:PICTURES])),
    ]
    return [item for item in all_sections if item["panels"]]


def section(name: str, panels: Any) -> Section:
    return {"name": name, "panels": list(panels)}


def bar(stem: str, column: str) -> Panel:
    return {"kind": "table_bar", "table": f"tables/{stem}", "label": "line", "value": column, "title": f"{stem}: {column}"}


def cloud(stem: str, column: str) -> Panel:
    title = f"{stem}: {column} against trained parameters"
    return {"kind": "table_scatter", "table": f"tables/{stem}", "x": "parameters", "y": column, "title": title}


def table(name: str) -> Panel:
    return {"kind": "table", "table": name, "title": name}


def parallel(columns: list[tuple[str, str]]) -> Panel:
    """A parallel-coordinates panel. columns: pairs (config or summary, key)."""
    title = " × ".join(key.rpartition(".")[2] for _, key in columns)
    return {"kind": "parallel", "columns": [{"where": where, "key": key} for where, key in columns], "title": title}


def image(stem: str) -> Panel:
    return {"kind": "image", "key": f"figures/{stem}", "title": stem}


def curve(key: str) -> Panel:
    return {"kind": "line", "x": "step", "y": key, "title": f"{key}, mean over the seeds of a method"}


def runs_bar(key: str) -> Panel:
    return {"kind": "bar", "metric": key, "group": "row.label", "title": key}


def runs_cloud(x: str, y: str) -> Panel:
    return {"kind": "scatter", "x": x, "y": y, "title": f"{y} against {x}"}


def workspace(artefacts: Artefacts, profile: str) -> dict[str, Any]:
    """The whole workspace: its runs grouped by experiment and method, its sections."""
    return {
        "name": f"lora_repro {profile}",
        "filter": {"profile_name": profile},
        "group_by": ["row.table", "row.label"],
        "sections": sections(artefacts),
    }
