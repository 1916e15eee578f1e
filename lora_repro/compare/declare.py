"""Writes a comparison as configuration files: a task, a table's rows and an experiment, which every command of the suite takes.

    FOLDER/conf/task/NAME.yaml, row/NAME.yaml, experiment/NAME.yaml

A first guess of a learning rate is that of full fine-tuning times the method's factor: the median, over the tasks of the
published searches of the method's table, of its rate divided by full fine-tuning's on the same task. Full fine-tuning begins at
its table's own first guess, for models at least 768 wide at a third of it, as the search on SST-2 chose for MPNet (width 768)
against MiniLM (384). The guess is where the search begins and decides nothing else.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lora_repro.compare.request import LABELS, TABLES, Request, Variant
from lora_repro.config.compose import compose, read_again
from lora_repro.costs.meta_model import shape_of
from lora_repro.errors import UserError
from lora_repro.files import write_text
from lora_repro.records import rates

WIDE, SHARE = (
    768,
    1 / 3,
)  # hidden size from which full fine-tuning begins at this share of its table's first guess
PROFILE = "laptop"  # whose searches were on real data
FULL = "full"


class Guess(NamedTuple):
    """Where a search begins. factor: of full fine-tuning's rate, None if no search was published; searches: how many tell it."""

    rate: float
    factor: float | None = None
    searches: int = 0


def declare(request: Request) -> dict[str, Guess]:
    """Write the three files; returns the first guess of each row's rate. Files that hold the same already stay untouched."""
    guesses = {variant.name: guess(request, variant) for variant in request.variants}
    for group, text in (
        ("task", _task(request)),
        ("row", _rows(request, guesses)),
        ("experiment", _experiment(request)),
    ):
        path = request.configs / group / f"{request.name}.yaml"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
            read_again()
    return guesses


def guess(request: Request, variant: Variant) -> Guess:
    """Where the search of a row's rate begins."""
    first = TABLES[request.family][0]
    full = declared_guess(first, FULL) * (SHARE if width(request) >= WIDE else 1)
    if variant.method == FULL:
        return Guess(_rounded(full))
    ratios = factors(variant.table or first, variant.method)
    if ratios:
        factor = statistics.median(ratios)
        return Guess(_rounded(full * factor), factor, len(ratios))
    rate = declared_guess(variant.table, variant.method) if variant.table else declared_guess(first, "lora")
    return Guess(_rounded(rate))


def width(request: Request) -> int:
    """The hidden size of the model (GPT-2 calls it n_embd)."""
    shape = shape_of(request.backbone)
    return int(shape.get("hidden_size") or shape.get("n_embd") or shape.get("dim") or 0)


@cache
def factors(table: str, row: str) -> tuple[float, ...]:
    """A row's published rate over full fine-tuning's, for every task that has both in its table (or its family's first)."""
    family = next(tables for tables in TABLES.values() if table in tables)
    best_rates: dict[tuple[str, str], dict[str, float]] = {}
    for path in sorted((rates.RESULTS / PROFILE / "trials").glob("*.json")) or sorted(
        (rates.SHIPPED / PROFILE / "trials").glob("*.json")
    ):
        if (search := rates.published_trials(PROFILE, path.stem)) and set(search["axes"]) <= {"task"}:
            key = search["row"]["table"], str(search["task"])
            best_rates.setdefault(key, {})[search["row"]["name"]] = float(search["chosen"])
    return tuple(
        theirs[row] / best_rates[family[0], task][FULL]
        for (name, task), theirs in sorted(best_rates.items())
        if name == table and row in theirs and FULL in best_rates.get((family[0], task), {})
    )


@cache
def declared_guess(table: str, row: str) -> float:
    """The first guess in a table's row."""
    task = ["task=sst2"] if table in TABLES[LABELS] else []
    return (
        rates.first_guess(compose([f"experiment={table}", f"row/{table}={row}", f"profile={PROFILE}", *task]))
        or 0.0
    )


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")


def _task(request: Request) -> str:
    settings = request.data.settings
    kind = settings.pop("task")
    values: dict[str, Any] = {"defaults": [str(kind), "_self_"], "label": request.name}
    for key, value in settings.items():
        group, _, name = key.removeprefix("task.").partition(".")
        if name:
            values.setdefault(group, {})[name] = value
        else:
            values[group] = value
    metrics = list(compose([f"task={kind}"]).task.metrics)
    if request.metric and request.metric not in metrics:
        raise UserError(f"--metric {request.metric}: such data have {', '.join(metrics)}")
    if request.function:
        values["function"] = request.function
    if first := ["own_score"] if request.function else [request.metric] if request.metric else []:
        values["metrics"] = [*first, *(metric for metric in metrics if metric not in first)]
    if request.with_texts:
        values["with_texts"] = True
    return _yaml("The data of a comparison.", values)


def _rows(request: Request, guesses: Mapping[str, Guess]) -> str:
    values: dict[str, Any] = {}
    for place, variant in enumerate(request.variants, start=1):
        block: dict[str, Any] = {"defaults": variant.defaults}
        method = {"rank": variant.rank, "targets": list(variant.targets)}
        block |= (
            {"method": settings}
            if (settings := {key: value for key, value in method.items() if value})
            else {}
        )
        first_guess = guesses[variant.name]
        if first_guess.rate:
            block["train"] = {"lr": f"${{searched:{first_guess.rate:g}}}"}
        row: dict[str, Any] = {"order": 10 * place, "seeds": request.seeds, "paper": None}
        if variant.name != variant.method or not variant.table:
            rank = f"rank {variant.rank}" if variant.rank else ""
            row["label"] = ", ".join(filter(None, [variant.method, rank, " ".join(variant.targets)]))
        values[variant.name] = {**block, "row": row}
    head = "The methods compared. A rate of ${searched:X} is the one that `tune` found for it, before that X."
    return _yaml(head, values, packaged=True)


def _experiment(request: Request) -> str:
    name = request.name
    backbone = request.model if request.listed else "own"
    spec = {} if request.listed else {"path": _path(request.model), "revision": request.backbone.revision}
    seeds = ",".join(map(str, range(request.seeds)))
    values = {
        "defaults": [
            "_self_",
            {f"/row/{name}": None},
            {"override /task": name},
            {"override /backbone": backbone},
        ],
        "row": {"table": name},
        **({"backbone": {key: value for key, value in spec.items() if value}} if spec else {}),
        "paths": {"runs": str((request.folder / "runs").absolute())},
        "hydra": {"mode": "MULTIRUN", "sweeper": {"params": {f"row/{name}": "glob(*)", "seed": seeds}}},
    }
    command = f"lora-repro run --config-dir {request.configs} {' '.join(request.arguments)}"
    return _yaml(
        f"A comparison on your own data. Written by lora-repro compare; yours to edit.\nCommand:  {command}",
        values,
        packaged=True,
    )


def _path(model: str) -> str:
    folder = Path(model).expanduser()
    return str(folder.absolute()) if folder.is_dir() else model


def _yaml(head: str, values: Mapping[str, Any], packaged: bool = False) -> str:
    """A yaml file with comments above, `@package _global_` first if it is for the root of the configuration."""
    lines: Iterable[str] = [
        *(["# @package _global_"] if packaged else []),
        *(f"# {line}" for line in head.splitlines()),
    ]
    return "\n".join(
        [
            *lines,
            yaml.safe_dump(json.loads(json.dumps(values)), sort_keys=False, allow_unicode=True, width=128),
        ]
    )
