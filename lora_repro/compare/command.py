"""Compare methods on your own data and model: rates searched alike, seeds, paired intervals, costs, and advice in words.

    lora-repro compare --model ./my-model --train train.csv --test test.csv
    lora-repro compare --model roberta-base --train reviews.parquet --methods full,lora,adapter_h,bitfit --seeds 3 --budget 2h
    lora-repro compare --model ./gpt2 --train chats.jsonl --ranks 1,8,64 --dry-run

Texts with a class or a number, prompts with completions, or chats: CSV, TSV, JSON, JSONL, Parquet, a datasets folder or a hub
id. Without --test rows are held out. Learning rates are searched on rows held out of training, never on the test rows.

It writes a configuration of its own (FOLDER/conf: task, rows and experiment, yours to edit, sweep and version), runs it, and
leaves comparison.html, .json and .csv in FOLDER. The same command resumes after an interruption. KEY=VALUE sets anything of a
run: train.epochs=10, data.max_length=256, device=cuda, profile=mini (at most 2,000 rows; default: laptop, all of them).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from lora_repro import cli
from lora_repro.cells import Cell
from lora_repro.compare import budget
from lora_repro.compare.request import SEEDS, Request, counts, names, seconds
from lora_repro.config import paths
from lora_repro.config.compose import read_again
from lora_repro.errors import UserError
from lora_repro.records.disk import write_json, write_text
from lora_repro.results import own

if TYPE_CHECKING:
    from lora_repro.compare.answer import Answer
    from lora_repro.compare.declare import Guess

COLUMNS = ("text", "text_pair", "label", "prompt", "completion", "messages")
STEM = "comparison"


def parser() -> argparse.ArgumentParser:
    made = cli.parser("compare", __doc__)
    made.add_argument(
        "--model", required=True, metavar="MODEL", help="a folder, a hub id or a backbone of conf/"
    )
    made.add_argument(
        "--revision", metavar="COMMIT", help="of a hub id; default: the newest, which is then written down"
    )
    made.add_argument("--train", required=True, metavar="FILE", help="the training rows")
    made.add_argument(
        "--dev", metavar="FILE", help="rows to choose epoch and rate by; default: held out of --train"
    )
    made.add_argument("--test", metavar="FILE", help="rows to report; default: held out of --train")
    made.add_argument(
        "--columns", metavar="ROLE=NAME,...", help="text, text_pair, label, prompt, completion, messages"
    )
    made.add_argument(
        "--methods",
        metavar="A,B,...",
        help="default: full, lora, adapter_h, bitfit (and linear_probe for labels)",
    )
    made.add_argument("--ranks", metavar="1,8,64", help="a row for each, of every method that has a rank")
    made.add_argument(
        "--targets",
        action="append",
        metavar="query,value",
        help="matrices to adapt; repeat it for a row each",
    )
    made.add_argument("--metric", metavar="NAME", help="the main score, of those the task has")
    made.add_argument(
        "--function", metavar="score.py:NAME", help="your own score for texts, with --trust score.py"
    )
    made.add_argument("--seeds", metavar="N", help="seeds a method; default: 3")
    made.add_argument(
        "--budget", metavar="2h", help="the time there is: what does not fit is given up, and said"
    )
    made.add_argument("--dry-run", action="store_true", help="say what would be run and stop")
    made.add_argument("--with-texts", action="store_true", help="keep texts of the data in records and page")
    made.add_argument("--to", metavar="FOLDER", help="default: compare-NAME here, after the training file")
    made.add_argument("overrides", nargs="*", help="KEY=VALUE: settings of every run")
    return made


def requested(arguments: Sequence[str]) -> tuple[Request, bool]:
    """(what the arguments ask for, whether only to plan it). Raises UserError for what cannot be meant."""
    given = parser().parse_intermixed_args(arguments)
    if bad := [item for item in given.overrides if "=" not in item or item.startswith("-")]:
        raise UserError(f"{bad[0]!r}: write KEY=VALUE, such as train.epochs=5")
    taken = (
        "experiment=",
        "task=",
        "method=",
        "backbone=",
        "seed=",
        "row/",
        "paths.runs=",
        "task.train=",
        "task.test=",
        "task.dev=",
    )
    if bad := [item for item in given.overrides if item.startswith(taken)]:
        raise UserError(
            f"{bad[0]}: compare sets this itself, by --model, --train, --test, --methods, --seeds and --to"
        )
    pairs = [item.partition("=")[::2] for item in names("--columns", given.columns)] if given.columns else []
    if bad := [role for role, column in pairs if role not in COLUMNS or not column]:
        raise UserError(f"--columns {bad[0]}: write ROLE=NAME with a role of {', '.join(COLUMNS)}")
    targets = tuple(names("--targets", item) for item in given.targets or ())
    request = Request(
        given.model,
        {split: named for split in ("train", "dev", "test") if (named := getattr(given, split))},
        folder_of(given.train, given.to),
        given.revision,
        dict(pairs),
        names("--methods", given.methods) if given.methods else (),
        counts("--ranks", given.ranks) if given.ranks else (),
        targets,
        given.metric,
        given.function,
        counts("--seeds", given.seeds)[0] if given.seeds else SEEDS,
        seconds(given.budget) if given.budget else None,
        given.with_texts,
        tuple(given.overrides),
    )
    return request, given.dry_run


def folder_of(train: str, given: str | None) -> Path:
    """The comparison's folder: as given, or compare-NAME here, after the training file."""
    stem = Path(train.rstrip("/")).name.partition(".")[0]
    return Path(given or f"compare-{stem}").expanduser().absolute()


def compare(request: Request, dry_run: bool = False) -> Answer | None:
    """Run a comparison: say what the data are, write its configuration, plan, search, run, and write its answer.

    Returns None for a dry run, or if fewer than two methods have a result. Raises UserError for whatever cannot work, before
    anything is trained.
    """
    began = time.monotonic()
    audited(request)
    _ = request.backbone
    said_if_changed(request)
    with configured(request):
        from lora_repro.compare.declare import declare  # here: bad files are told before torch is imported

        guesses = declare(request)
        plan = budget.plan(request, arguments_of(request))
        if plan.request is not request:
            request = plan.request
            declare(request)
        print(f"\n{plan.text}", flush=True)
        if dry_run:
            return None
        searched(request, plan)
        chosen = seeds_left(request, plan, began)
        from lora_repro.run import swept

        print(flush=True)
        swept([*arguments_of(request), f"seed={','.join(map(str, range(chosen)))}"])
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


def arguments_of(request: Request) -> list[str]:
    """The arguments of `run` for every run of the comparison."""
    profile = (
        []
        if any(item.startswith("profile=") for item in request.overrides)
        else [f"profile={request.profile}"]
    )
    return [f"experiment={request.name}", *profile, *request.overrides]


def audited(request: Request) -> None:
    """Print what there is to know of the data before anything trains."""
    from lora_repro.tasks.own.audit import audit

    print(audit(request.data).text, flush=True)


def said_if_changed(request: Request) -> None:
    """Say which files have other rows than at the last comparison in this folder, whose runs then do not count."""
    path = request.folder / f"{STEM}.json"
    if path.is_file():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))["data"]["sha256"]
        except (ValueError, KeyError, TypeError):
            return
        for split, digest in request.data.sha256.items():
            if isinstance(known, dict) and known.get(split) not in (None, digest):
                cli.warn(
                    f"the {split} file has changed since the last comparison in {request.folder.name}: all of it is run anew"
                )


def searched(request: Request, plan: budget.Plan) -> None:
    """Search every row's learning rate, by one rule and with equally many rates at most."""
    from lora_repro.compare.request import UNTUNED
    from lora_repro.sweep.tune import tune

    rows = [variant.name for variant in request.variants if variant.method != UNTUNED]
    print("\nlearning rates, searched on held-out rows:", flush=True)
    tune([f"row/{request.name}={','.join(rows)}", *arguments_of(request), "seed=0", f"tune.most={plan.most}"])


def seeds_left(request: Request, plan: budget.Plan, began: float) -> int:
    """How many seeds fit into what is left of the budget, by the time that the trials took; says if these are fewer."""
    if request.seconds is None:
        return request.seeds
    took: Mapping[str, float] = {
        cell.row.name: fmean(one["train_seconds"] for one in search["searches"][-1]["trials"])
        for cell in budget.declared(request, arguments_of(request))
        if (search := cell.search)
    }
    rows = [budget.Cost(row.name, 0.0, row.run * took[row.name] / row.trial if row.trial and row.name in took else row.run)
            for row in plan.costs]  # fmt: skip
    fitting = budget.seeds_that_fit(request, rows, request.seconds - (time.monotonic() - began))
    if fitting < request.seeds:
        print(
            f"given up for the budget: {request.seeds - fitting} more seeds, since the search took longer than was forecast"
        )
    return fitting


def answered(request: Request, guesses: Mapping[str, Guess], plan: budget.Plan) -> Answer | None:
    """Print the answer and write it beside the runs."""
    from lora_repro.compare.advice import advice, table
    from lora_repro.compare.answer import answer
    from lora_repro.report.terminal import terminal

    cells: list[Cell] = budget.declared(request, arguments_of(request))
    shown = set(cells[0].asked["task"]["metrics"])
    title = f"{request.backbone.label} on {request.data.names['train']}, by {len(request.variants)} methods"
    found = answer(title, cells, own(cells[0].folder.parent), guesses, shown.__contains__)
    if found is None:
        cli.say("fewer than two methods have a result, so nothing is compared; the same command goes on")
        return None
    words = advice(found)
    print("\n" + terminal([table(found)]) + "\n" + "\n".join(words), flush=True)
    write(request, found, words, plan)
    return found


def write(request: Request, found: Answer, words: Sequence[str], plan: budget.Plan) -> None:
    """Write comparison.json, .csv and .html, and say where they and the best model are."""
    frame = found.frame()
    place = partial(Path, request.folder)
    rows = json.loads(frame.to_json(orient="records"))
    data = {
        "sha256": dict(request.data.sha256),
        "test_rows": found.test_rows,
        "train_rows": len(request.data.parts.train),
    }
    facts = {"title": found.title, "metric": found.metric, "advice": list(words), "given_up": list(plan.given_up),
             "model": request.backbone.label, "data": data, "constant": found.constant, "rows": rows}  # fmt: skip
    write_json(place(f"{STEM}.json"), facts)
    write_text(place(f"{STEM}.csv"), frame.to_csv(index=False, lineterminator="\n"))
    from lora_repro.compare.page import page  # here: only this needs matplotlib

    write_text(place(f"{STEM}.html"), page(request, found, words, plan))
    folder = found.best.median_run.cell.folder
    from lora_repro.compare.best import leave

    adapter = leave(found, words, request.data.sha256, place("best"))
    lines = [f"wrote {place(f'{STEM}.html')}, .json and .csv", f"the best method's median seed: {folder}",
             *([f"  as a peft adapter, with a card: {adapter}"] if adapter else []),
             f"  use it: lora-repro generate {folder}; lora-repro export {folder} --to DIR --format merged",
             f"  again or further: lora-repro run --config-dir {request.configs} {' '.join(arguments_of(request))}"]  # fmt: skip
    print("\n" + "\n".join(lines), flush=True)


@cli.command
def main(arguments: Sequence[str]) -> int:
    """The command line above; returns the exit status."""
    request, dry_run = requested(arguments)
    return 0 if compare(request, dry_run) is not None or dry_run else 1
