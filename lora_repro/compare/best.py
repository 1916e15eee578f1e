"""The best method's adapter as peft reads it, in the comparison's folder, with a card that holds the comparison."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from lora_repro.compare.advice import table
from lora_repro.compare.answer import Answer
from lora_repro.errors import UserError
from lora_repro.exchange.export import export
from lora_repro.exchange.open_checkpoint import ORIGIN
from lora_repro.files import write_text
from lora_repro.report.table import markdown

CARD = "README.md"


def leave(answer: Answer, words: Sequence[str], data: Mapping[str, str], target: Path) -> Path | None:
    """Export the median seed of the best method to the folder `target`; None where peft has no such method or training.

    data: split -> hash of the user's file. An export of the same run stays; its card, which no hash covers, is written again.
    Raises UserError if the export cannot be written.
    """
    run = answer.best.median_run
    if _origin(target) != run.signature:
        if (target / ORIGIN).is_file():  # an export of ours
            shutil.rmtree(target)
        try:
            export(run.cell.folder, target)
        except UserError as error:
            if error.__cause__:  # the disk, not the method
                raise
            return None
    card = (target / CARD).read_text(encoding="utf-8").partition("\n## Comparison\n")[0].rstrip()
    hashes = "\n".join(f"- {split}: `{digest}`" for split, digest in data.items())
    section = "\n\n".join(
        ["## Comparison", " ".join(words), markdown([table(answer)]), "The data files (sha256):", hashes]
    )
    write_text(target / CARD, f"{card}\n\n{section}\n")
    return target


def _origin(folder: Path) -> str | None:
    """The run that an export came from."""
    try:
        signature: str = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))["record"]["signature"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return signature
