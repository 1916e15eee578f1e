"""The expected time of a sweep, printed before it starts: the times of the published runs for those still missing here."""

from __future__ import annotations

from lora_repro import console, results
from lora_repro.cells import cells, unique
from lora_repro.sweep.bisect import recorded, search_note


def published_seconds(profile: str) -> dict[str, float]:
    """signature -> wall time of every published run of a profile."""
    return {name: found["measured"]["wall_seconds"] for name, found in results.published_records(profile).items()}


def announce(arguments: list[str]) -> None:
    """Print how many runs of an experiment are missing and about how long they take. Silent for anything else.

    The estimate sums `wall_seconds` of the published records with the same signatures, so it holds for a similar machine. A run
    that is not published counts as of unknown length. Raises UserError if the configuration does not compose.
    """
    named = any(item.startswith("experiment=") for item in arguments)
    if not named or any(item.startswith("-") for item in arguments):
        return
    found = unique(cells(arguments))
    if not found:
        return
    table, profile = found[0].asked["row"]["table"], found[0].asked["profile_name"]
    published = published_seconds(profile)
    missing = sorted(cell.signature for cell in found if recorded(cell) is None)
    known = [published[name] for name in missing if name in published]
    if profile == "smoke":
        console.say("profile smoke is for tests: its models are untrained and its numbers mean nothing; try profile=mini")
    text = f"{table} at profile {profile}: {len(found)} run{'s' * (len(found) != 1)}, {len(found) - len(missing)} already here"
    if known:
        text += f"; {len(known)} of the others took {sum(known) / 60:.0f} min on the machine that published them"
    if unknown := len(missing) - len(known):
        text += f"; {unknown} of unknown duration"
    console.say("; ".join(filter(None, [text, search_note(found)])))
