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
from collections.abc import Sequence

from lora_repro import console
from lora_repro.compare.compare import compare, folder_of
from lora_repro.compare.request import SEEDS, Request, count, counts, names, seconds
from lora_repro.errors import UserError
from lora_repro.tasks.own.columns import ROLES


def parser() -> argparse.ArgumentParser:
    arg_parser = console.parser("compare", __doc__)
    arg_parser.add_argument(
        "--model", required=True, metavar="MODEL", help="a folder, a hub id or a backbone of conf/"
    )
    arg_parser.add_argument(
        "--revision", metavar="COMMIT", help="of a hub id; default: the newest, which is then written down"
    )
    arg_parser.add_argument("--train", required=True, metavar="FILE", help="the training rows")
    arg_parser.add_argument(
        "--dev", metavar="FILE", help="rows to choose epoch and rate by; default: held out of --train"
    )
    arg_parser.add_argument("--test", metavar="FILE", help="rows to report; default: held out of --train")
    arg_parser.add_argument(
        "--columns", metavar="ROLE=NAME,...", help="text, text_pair, label, prompt, completion, messages"
    )
    arg_parser.add_argument(
        "--methods",
        metavar="A,B,...",
        help="default: full, lora, adapter_h, bitfit (and linear_probe for labels)",
    )
    arg_parser.add_argument("--ranks", metavar="1,8,64", help="a row for each, of every method that has a rank")
    arg_parser.add_argument(
        "--targets",
        action="append",
        metavar="query,value",
        help="matrices to adapt; repeat it for a row each",
    )
    arg_parser.add_argument("--metric", metavar="NAME", help="the main score, of those the task has")
    arg_parser.add_argument(
        "--function", metavar="FILE:NAME", help="your own score for texts, as score.py:f, with --trust score.py"
    )
    arg_parser.add_argument("--seeds", metavar="N", help="seeds a method; default: 3")
    arg_parser.add_argument(
        "--budget", metavar="2h", help="the time there is: what does not fit is given up, and said"
    )
    arg_parser.add_argument("--dry-run", action="store_true", help="say what would be run and stop")
    arg_parser.add_argument("--with-texts", action="store_true", help="keep texts of the data in records and page")
    arg_parser.add_argument("--to", metavar="FOLDER", help="default: compare-NAME here, after the training file")
    arg_parser.add_argument("overrides", nargs="*", help="KEY=VALUE: settings of every run")
    return arg_parser


def requested(arguments: Sequence[str]) -> tuple[Request, bool]:
    """(what the arguments ask for, whether only to plan it). Raises UserError for what cannot be meant."""
    options = parser().parse_intermixed_args(arguments)
    if bad := [item for item in options.overrides if "=" not in item or item.startswith("-")]:
        raise UserError(f"{bad[0]!r}: write KEY=VALUE, such as train.epochs=5")
    prefixes = (
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
    if bad := [item for item in options.overrides if item.startswith(prefixes)]:
        raise UserError(
            f"{bad[0]}: compare sets this itself, by --model, --train, --test, --methods, --seeds and --to"
        )
    pairs = [item.partition("=")[::2] for item in names("--columns", options.columns)] if options.columns else []
    if bad := [role for role, column in pairs if role not in ROLES or not column]:
        raise UserError(f"--columns {bad[0]}: write ROLE=NAME with a role of {', '.join(ROLES)}")
    targets = tuple(names("--targets", item) for item in options.targets or ())
    request = Request(
        options.model,
        {split: file for split in ("train", "dev", "test") if (file := getattr(options, split))},
        folder_of(options.train, options.to),
        options.revision,
        dict(pairs),
        names("--methods", options.methods) if options.methods else (),
        counts("--ranks", options.ranks) if options.ranks else (),
        targets,
        options.metric,
        options.function,
        count("--seeds", options.seeds) if options.seeds else SEEDS,
        seconds(options.budget) if options.budget else None,
        options.with_texts,
        tuple(options.overrides),
    )
    return request, options.dry_run


@console.command
def main(arguments: Sequence[str]) -> int:
    """The command line above; returns the exit status."""
    request, dry_run = requested(arguments)
    return 0 if compare(request, dry_run) is not None or dry_run else 1
