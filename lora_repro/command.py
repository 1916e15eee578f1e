"""The command that repeats a recorded run, found from its record and proved by its signature."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from lora_repro.compose import compose, resolved
from lora_repro.errors import UserError
from lora_repro.record import identity, signature

RUN = "python -m lora_repro.run"


def command(found: Mapping[str, Any], profile: str) -> str | None:
    """`python -m lora_repro.run ...` whose configuration has the record's signature; None if conf/ composes it no more.

    The data folder is not part of a run's identity, so a run on files ends in a place to fill in.
    """
    asked, row = found["asked"], found["row"]
    if row["table"]:
        start = [f"experiment={row['table']}", f"row/{row['table']}={row['name']}"]
    else:
        start = [f"method={asked['method']['name']}"]
    start += [f"profile={profile}", f"seed={asked['seed']}"]
    try:
        for group in ("task", "backbone"):  # named only where the rest does not name it already
            if _identity(start)[group]["name"] != asked[group]["name"]:
                start.append(f"{group}={asked[group]['name']}")
        start += [f"{key}={_value(value)}" for key, value in _differences(asked, _identity(start))]
        if signature(_identity(start)) != found["signature"]:
            return None
    except (UserError, KeyError, TypeError):
        return None
    if asked["task"].get("source") == "folder":
        start.append("paths.data=/path/to/data")
    return " ".join([RUN, *map(shlex.quote, start)])


def _identity(overrides: list[str]) -> dict[str, Any]:
    return identity(resolved(compose(overrides)))


def _differences(asked: Mapping[str, Any], composed: Mapping[str, Any], at: str = "") -> list[tuple[str, Any]]:
    """(dotted key, asked value) of every leaf that the composed configuration has otherwise."""
    found: list[tuple[str, Any]] = []
    for key, value in asked.items():
        other = composed.get(key)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            found += _differences(value, other, f"{at}{key}.")
        elif value != other:
            found.append((f"{'' if key in composed else '++'}{at}{key}", value))  # ++: a key that conf/ has not
    return found


def _value(value: Any) -> str:
    """A value in Hydra's override grammar."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str):
        return value if value.replace("_", "a").isalnum() else "'" + value.replace("'", "\\'") + "'"
    return str(value)
