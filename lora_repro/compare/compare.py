"""One comparison from the request to its answer: what the data are, a configuration, a plan, a search, runs, written files."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from lora_repro import console
from lora_repro.compare import budget
from lora_repro.compare.request import Request
from lora_repro.config import paths
from lora_repro.config.compose import read_again
from lora_repro.files import remove_orphans, write_json, write_text
from lora_repro.planning.cells import Cell
from lora_repro.records.rates import PRUNED
from lora_repro.results import own

if TYPE_CHECKING:
    from lora_repro.compare.answer import Answer
    from lora_repro.compare.declare import Guess

STEM = "comparison"


def folder_of(train: str, folder: str | None) -> Path:
    """The comparison's folder: as given, or compare-NAME here, after the training file."""
    stem = Path(train.rstrip("/")).name.partition(".")[0]
    return Path(folder or f"compare-{stem}").expanduser().absolute()


def compare(request: Request, dry_run: bool = False) -> Answer | None:
    """Run a comparison: say what the data are, write its configuration, plan, search, run, and write its answer.

    Returns None for a dry run, or if fewer than two methods have a result. Raises UserError for whatever cannot work, before
    anything is trained.
    """
    start, full_request = time.monotonic(), request
    audited(request)
    _ = request.backbone
    said_if_changed(request)
    for place in (request.folder, request.folder / "best", *request.configs.glob("**/")):
        remove_orphans(place)
    with configured(request):
        from lora_repro.compare.declare import declare  # here: bad files are told before torch is imported
        from lora_repro.compare.lengths import lengths

        guesses = declare(request)
        if lines := lengths(request):
            print("\n".join(lines), flush=True)
        plan = budget.plan(request, request.arguments)
        if plan.request is not request:
            request = plan.request
            declare(request)
            plan = budget.again(plan, request.arguments)
        print(f"\n{plan.text}", flush=True)
        if dry_run:
            print(f"nothing was trained; the comparison stands as configuration in {request.configs}")
            return None
        if full_request.seconds:
            budget.keep(plan, full_request)
        searched(request, plan)
        seeds = seeds_left(request, plan, start)
        if seeds < request.seeds:
            note = f"{request.seeds - seeds} more seeds, since the search took longer than was forecast"
            print(f"given up for the budget: {note}")
            request = request.shorter(seeds=seeds)
            declare(request)
            plan = replace(plan, request=request, given_up=(*plan.given_up, note))
            budget.keep(plan, full_request)
        from lora_repro.sweep.launch import swept

        print(flush=True)
        swept(request.arguments)
        return answered(request, guesses, plan)


@contextmanager
def configured(request: Request) -> Iterator[None]:
    """Within it every command, and every process that it starts, reads the comparison's configuration too."""
    before = os.environ.get(paths.OWN)
    request.configs.mkdir(parents=True, exist_ok=True)
    os.environ[paths.OWN] = str(request.configs)
    read_again()
    try:
        yield
    finally:
        if before is None:
            del os.environ[paths.OWN]
        else:
            os.environ[paths.OWN] = before
        read_again()


def audited(request: Request) -> None:
    """Print what there is to know of the data before anything trains."""
    from lora_repro.tasks.own.audit import audit

    print(audit(request.data).text, flush=True)


def said_if_changed(request: Request) -> None:
    """Say which files have other rows than at the last comparison in this folder, whose runs then do not count."""
    path = request.folder / f"{STEM}.json"
    if path.is_file():
        try:
            hashes = json.loads(path.read_text(encoding="utf-8"))["data"]["sha256"]
        except (ValueError, KeyError, TypeError):
            return
        for split, digest in request.data.sha256.items():
            if isinstance(hashes, dict) and hashes.get(split) not in (None, digest):
                console.warn(
                    f"the {split} file has changed since the last comparison in {request.folder.name}: all of it is run anew"
                )


def searched(request: Request, plan: budget.Plan) -> None:
    """Search every row's learning rate, by one rule and with equally many rates at most."""
    from lora_repro.compare.request import UNTUNED
    from lora_repro.sweep.tune import tune

    if not any(row.trial for row in plan.costs):  # every rate is given, or was chosen before
        return
    rows = [variant.name for variant in request.variants if variant.method != UNTUNED]
    print("\nlearning rates, searched on held-out rows:", flush=True)
    tune([f"row/{request.name}={','.join(rows)}", *request.arguments, "seed=0", f"tune.most={plan.most}"])


def seeds_left(request: Request, plan: budget.Plan, start: float) -> int:
    """How many seeds fit into what is left of the budget, by the time that the trials took."""
    if request.seconds is None:
        return request.seeds
    took: Mapping[str, float] = {
        cell.row.name: fmean(trial["train_seconds"] for trial in search["searches"][-1]["trials"] if trial["status"] != PRUNED)
        for cell in budget.declared(request, request.arguments)
        if (search := cell.search)
    }
    rows = [budget.Cost(row.name, 0.0, row.run * took[row.name] / row.trial if row.trial and row.name in took else row.run)
            for row in plan.costs]  # fmt: skip
    return budget.seeds_that_fit(request, rows, request.seconds - (time.monotonic() - start))


def answered(request: Request, guesses: Mapping[str, Guess], plan: budget.Plan) -> Answer | None:
    """Print the answer and write it beside the runs."""
    from lora_repro.compare.advice import advice, table
    from lora_repro.compare.answer import answer
    from lora_repro.report.terminal import terminal

    cells: list[Cell] = budget.declared(request, request.arguments)
    metrics = set(cells[0].asked["task"]["metrics"])
    title = f"{request.backbone.label} on {request.data.names['train']}, by {len(request.variants)} methods"
    comparison = answer(title, cells, own(cells[0].folder.parent), guesses, metrics.__contains__)
    if comparison is None:
        console.say("fewer than two methods have a result, so nothing is compared; the same command goes on")
        return None
    words = advice(comparison)
    print("\n" + terminal([table(comparison)]) + "\n" + "\n".join(words), flush=True)
    write(request, comparison, words, plan)
    return comparison


def write(request: Request, answer: Answer, words: Sequence[str], plan: budget.Plan) -> None:
    """Write comparison.json, .csv and .html, and say where they and the best model are."""
    frame = answer.frame()
    place = partial(Path, request.folder)
    rows = json.loads(frame.to_json(orient="records"))
    data = {
        "sha256": dict(request.data.sha256),
        "test_rows": answer.test_rows,
        "train_rows": len(request.data.parts.train),
    }
    facts = {"title": answer.title, "metric": answer.metric, "advice": list(words), "given_up": list(plan.given_up),
             "model": request.backbone.label, "data": data, "constant": answer.constant, "rows": rows}  # fmt: skip
    write_json(place(f"{STEM}.json"), facts)
    write_text(place(f"{STEM}.csv"), frame.to_csv(index=False, lineterminator="\n"))
    from lora_repro.compare.page import page  # here: only this needs matplotlib

    write_text(place(f"{STEM}.html"), page(request, answer, words, plan))
    run = answer.best.median_run
    folder = run.cell.folder
    from lora_repro.compare.best import leave

    adapter = leave(answer, words, request.data.sha256, place("best"))
    usable = [f"the best method's median seed: {folder}",
              *([f"  as a peft adapter, with a card: {adapter}"] if adapter else []),
              f"  use it: lora-repro generate {folder}; lora-repro export {folder} --to DIR --format merged"]  # fmt: skip
    lines = [f"wrote {place(f'{STEM}.html')}, .json and .csv", *(usable if run.trained else []),
             f"  again or further: lora-repro run --config-dir {request.configs} {' '.join(request.arguments)}"]  # fmt: skip
    print("\n" + "\n".join(lines), flush=True)
