"""Outputs and references read from files, and the scores of a checkpoint on its task's test split (`commands/score.py`)."""

from collections.abc import Sequence
from pathlib import Path

from lora_repro import console
from lora_repro.errors import UserError


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
        raise UserError(f"{path} is empty: expected one text per line")
    return [line.strip() for line in text.removesuffix("\n").split("\n")]


def read_groups(path: str) -> list[list[str]]:
    """Groups of consecutive non-blank lines, separated by one or more blank lines. Raises UserError."""
    groups: list[list[str]] = [[]]
    for line in read_lines(path):
        if line:
            groups[-1].append(line)
        elif groups[-1]:
            groups.append([])
    groups = groups if groups[-1] else groups[:-1]
    if not groups:
        raise UserError(f"{path} has only blank lines: expected references")
    return groups


def read_pair(predictions: str, references: str) -> tuple[list[str], list[list[str]]]:
    """Outputs and as many groups of references. Raises UserError.

    Blank lines after the last output are dropped if they have no group. A reference file without any blank
    line and with as many lines as there are outputs holds one reference for each, as for the official scorer.
    """
    outputs, groups = read_lines(predictions), read_groups(references)
    while len(outputs) > len(groups) > 1 and not outputs[-1]:
        outputs.pop()
    if len(groups) == 1 and len(groups[0]) == len(outputs):
        groups = [[reference] for reference in groups[0]]
    if len(outputs) != len(groups):
        counts = f"{len(outputs)} predictions in {predictions} but {len(groups)} groups of references in {references}"
        raise UserError(f"{counts}: give one prediction per line, one blank line between groups")
    return outputs, groups


def score_checkpoint(
    folder: Path, data: str | None = None, overrides: Sequence[str] = ()
) -> tuple[dict[str, float], int]:
    """The scores of a checkpoint on its task's test inputs, as many as its run had, and their number. Raises UserError.

    Prints a line if these are not the data that its run was scored on.
    """
    from lora_repro.data import subset  # imported here: scoring files needs no torch, which is slow to import
    from lora_repro.exchange.open_checkpoint import open_checkpoint

    model = open_checkpoint(folder, overrides)
    amounts = model.config.data
    splits = model.task.load(data)
    if {name: splits.hashes.get(name) for name in model.hashes} != model.hashes:
        console.warn("these are not the data that the run was scored on: the scores do not compare with the run's")
    test = subset(splits.test, amounts.n_test, amounts.subset_seed)
    return model.task.score(model.answer(test), test).values, len(test)
