"""What a sweep will take, said before it starts: the published runs' own times, for the runs that are still missing."""

from __future__ import annotations

from pathlib import Path

from lora_repro import manners, record
from lora_repro.compose import CONF, compose
from lora_repro.tables import rows


def announce(arguments: list[str]) -> None:
    """Print how many runs of an experiment are missing and about how long they take. Silent for anything else.

    The estimate adds up `wall_seconds` of the published records with the same signatures, so it holds for a machine like
    theirs; a run that nobody published yet is counted as unknown. Raises UserError if the configuration does not compose.
    """
    given = dict(item.split("=", 1) for item in arguments if "=" in item and not item.startswith("-"))
    table = given.get("experiment", "")
    if not table or not (CONF / "row" / table).is_dir() or any(item.startswith("-") for item in arguments):
        return
    overrides = [item for item in arguments if not item.startswith(f"row/{table}=") and "," not in item]
    config = compose(overrides, hydra_node=True)
    seeds = given.get("seed") or str(config.hydra.sweeper.params.get("seed", "0"))
    runs = Path(given.get("paths.runs", "runs")) / config.profile_name
    published = record.load_records(CONF.parent / "results" / config.profile_name / "records")
    asked = {
        name
        for block in rows.declared(table, config.profile_name, [*arguments, f"seed={seeds}"])
        for row in block.rows
        for name, _ in row.asked.values()
    }
    missing = sorted(name for name in asked if record.find(runs / name) is None)
    known = [published[name]["measured"]["wall_seconds"] for name in missing if name in published]
    text = f"{table} at profile {config.profile_name}: {len(asked)} runs, {len(asked) - len(missing)} already here"
    if known:
        text += f"; the other {len(missing)} took {sum(known) / 60:.0f} min on the machine of the published runs"
    if unknown := len(missing) - len(known):
        text += f"; {unknown} of unknown length"
    manners.say(text)
