"""The check that every corpus metric makes first: one group of references for each output."""

from __future__ import annotations

from collections.abc import Sequence

from lora_repro.errors import UserError


def check(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Raise UserError if lengths differ, there is nothing to score, an output has no reference, or a text is given for a list."""
    if isinstance(outputs, str) or any(isinstance(group, str) for group in references):
        raise UserError("give a list of outputs, and for each output a list of references: [[text]] where it has one")
    if len(outputs) != len(references):
        raise UserError(f"{len(outputs)} outputs but {len(references)} groups of references: give one group for each output")
    if not outputs:
        raise UserError("nothing to score: no outputs given")
    if not all(references):
        empty = next(i for i, group in enumerate(references, 1) if not group)
        raise UserError(f"output {empty} of {len(outputs)} has no reference: give at least one")
