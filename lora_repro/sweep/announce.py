"""The expected time of a sweep, printed before it starts: the times of the published runs for those still missing here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_repro import console
from lora_repro.bisection import recorded, search_note
from lora_repro.config.paths import choices
from lora_repro.planning.cells import Cell
from lora_repro.sweep.run_summary import generated

GENERATED = (
    "the data are generated: they show what a method costs here, that every step works, and whether your numbers are those that "
    "are published; they do not show which method is best, and no score compares with the paper's"
)


def announce(found: Sequence[Cell], known: Mapping[str, Mapping[str, Any]], arguments: Sequence[str]) -> None:
    """Print how many of an experiment's runs are missing and about how long they take. Silent for a grid of one's own.

    known: signature -> published record. The estimate sums their `wall_seconds`, so it holds for a similar machine. A run that is
    not published counts as of unknown length.
    """
    table, profile = found[0].asked["row"]["table"], found[0].asked["profile_name"]
    if not table:
        return
    missing = sorted(cell.signature for cell in found if recorded(cell) is None)
    seconds = [known[name]["measured"]["wall_seconds"] for name in missing if name in known]
    if profile == "smoke":
        console.say("profile smoke is for tests: its models are untrained and its numbers mean nothing; try profile=mini")
    elif any(map(generated, found)):
        console.say(GENERATED)
    many, here = len(found), len(found) - len(missing)
    text = f"{table} at profile {profile}: {many} run{'s' * (many != 1)}{f', {here} already here' if here else ''}"
    if seconds:
        which = "" if len(seconds) == many else f"{len(seconds)} of them "
        text += f"; {which}took {sum(seconds) / 60:.0f} min, one after another, on the machine that published them"
    if seconds and (unknown := len(missing) - len(seconds)):
        text += f"; {unknown} of unknown duration"
    console.say("; ".join(filter(None, [text, search_note(found)])))
    if others := others_of(table, found, arguments):
        console.say(f"rows that {profile} leaves out: {', '.join(others)}; to run them, too, add the word all (make: ARGS=all)")


def others_of(table: str, found: Sequence[Cell], arguments: Sequence[str]) -> list[str]:
    """The rows of a table that are not among these cells, if the experiment's profile, not the command line, left them out."""
    named = any(item.startswith(f"row/{table}=") for item in arguments)
    here = {cell.row.name for cell in found}
    return [] if named else [row for row in choices(f"row/{table}") if row not in here]
