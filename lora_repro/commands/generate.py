"""Generate answers with a trained model: a run's folder, a peft adapter or a transformers checkpoint.

    lora-repro generate CHECKPOINT 'name[The Vaults], eatType[pub], area[riverside]'
    lora-repro generate CHECKPOINT 'A film to forget.'               sentence task; a pair: 'FIRST || SECOND'
    lora-repro generate CHECKPOINT --file mrs.txt --to predictions.txt      one input a line, one output a line
    lora-repro generate ADAPTER_FROM_ELSEWHERE task=e2e backbone=gpt2_medium 'name[...], ...'

It decodes as the run did, unless decode.beam=4 (or --beam 4) and the like say otherwise. Below each E2E text it prints the slot
errors, which need no references. To score a checkpoint on its task's test inputs: `lora-repro score CHECKPOINT
[paths.data=DIR]`. To score outputs written by --to: `lora-repro score e2e --references refs.txt --predictions FILE`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lora_repro import console
from lora_repro.config.hydra_errors import did_you_mean
from lora_repro.errors import UserError
from lora_repro.exchange.open_checkpoint import Opened, open_checkpoint
from lora_repro.files import write_text
from lora_repro.methods.base import require
from lora_repro.tasks.base import Example

DECODING = ("beam", "max_new_tokens", "length_penalty", "no_repeat_ngram", "batch_size", "blank_line")
OTHERS = {"precision": "train.precision", "device": "device"}
COMPOSED = ("task", "backbone", "profile")
# Settings of a run -> the options that replace them here.
SETTINGS = {f"decode.{name}": f"--{name.replace('_', '-')}" for name in DECODING}
SETTINGS |= {key: f"--{name}" for name, key in OTHERS.items()} | {name: f"--{name}" for name in COMPOSED}
SETTING = re.compile(r"[a-z_]+(\.[a-z_]+)*=\S*")


def parser() -> argparse.ArgumentParser:
    arg_parser = console.parser("generate", __doc__)
    arg_parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="the folder of a run, an adapter or a model")
    arg_parser.add_argument("inputs", nargs="*", metavar="INPUT", help="one or more inputs")
    arg_parser.add_argument("--file", metavar="FILE", help="more inputs, one per line; - is stdin")
    arg_parser.add_argument(
        "--to", type=Path, metavar="FILE", help="write the outputs to FILE, one per line, instead of printing them"
    )
    arg_parser.add_argument("--beam", type=int, help="decode.beam; this and the next five default to the run's")
    arg_parser.add_argument("--max-new-tokens", type=int)
    arg_parser.add_argument("--length-penalty", type=float)
    arg_parser.add_argument("--no-repeat-ngram", type=int)
    arg_parser.add_argument("--batch-size", type=int)
    arg_parser.add_argument("--blank-line", type=truth, metavar="true|false", help="whether a blank line ends an answer")
    arg_parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), help="default: the run's")
    arg_parser.add_argument("--device", help="cpu or cuda; default: cuda if there is one")
    arg_parser.add_argument("--task", metavar="NAME", help="only for a checkpoint from elsewhere, like --backbone and --profile")
    arg_parser.add_argument("--backbone", metavar="NAME", help="a name in conf/backbone")
    arg_parser.add_argument("--profile", metavar="NAME", help="a name in conf/profile")
    return arg_parser


def truth(text: str) -> bool:
    """`true` or `false`."""
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError("write true or false")
    return text == "true"


def opened(folder: Path, options: argparse.Namespace) -> Opened:
    """The opened checkpoint, with the given options in place of its settings. Raises UserError."""
    settings: dict[str, Any] = {f"decode.{name}": getattr(options, name) for name in DECODING}
    settings |= {key: getattr(options, name) for name, key in OTHERS.items()}
    overrides = [f"{name}={getattr(options, name)}" for name in COMPOSED if getattr(options, name) is not None]
    return open_checkpoint(folder, overrides, {key: value for key, value in settings.items() if value is not None})


def read_inputs(inputs: list[str], file: str | None) -> list[str]:
    """The texts of the command line, then those of a file (- is stdin), one per line.

    Raises UserError if there are none, or for a misspelt setting, whose answer would come before those to the file.
    """
    if settings := [text for text in inputs if SETTING.fullmatch(text)]:
        hint = did_you_mean(settings[0].partition("=")[0], SETTINGS, "its options are in --help")
        raise UserError(f"{settings[0]} is no setting of generate; {hint} (a text like it goes into --file)")
    lines: list[str] = []
    if file is not None:
        try:
            text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {file}: {error}") from None
        lines = text.rstrip().split("\n") if text.strip() else []
        if empty := [number for number, line in enumerate(lines, start=1) if not line.strip()]:
            raise UserError(f"line {empty[0]} of {file} is empty: give one input per line")
    require(bool(inputs or lines), "nothing to answer: give an input, or --file with one per line")
    return [*inputs, *lines]


def shown(model: Opened, examples: list[Example], outputs: list[str]) -> str:
    """The outputs, one per line, each followed by the task's remarks on it."""
    lines = []
    for example, output in zip(examples, outputs, strict=True):
        lines.append(output)
        if remark := model.task.remark(example, output):
            lines.append(f"    {remark}")
    return "\n".join(lines)


@console.command
def main(arguments: Sequence[str]) -> int:
    """The command line. A mistake prints `error: <line>` on stderr and returns the error's exit code."""
    options = parser().parse_intermixed_args(console.options(arguments, SETTINGS))
    texts = read_inputs(options.inputs, options.file)
    require(not (options.to and options.to.is_dir()), f"--to {options.to} is a folder: name a file in it")
    model = opened(options.checkpoint, options)
    examples = [model.task.ask(text) for text in texts]
    outputs = model.answer(examples)
    if options.to:
        content = "".join(f"{' '.join(output.split())}\n" for output in outputs)
        target = options.to.resolve()  # a symbolic link is kept, its target is written
        if target.is_file() or not target.exists():
            write_text(target, content)
        else:  # a pipe or a device is written to, not replaced
            target.write_text(content, encoding="utf-8")
    else:
        print(shown(model, examples, outputs))
    return 0
