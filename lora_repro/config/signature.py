"""A run's name, its signature: a hash of what was asked, so that a record is found again.

It covers
- every component of the resolved configuration (a root node with a `_target_`) except the tracker: its class (`class_of`) and the
  values that differ from its constructor's defaults (null counts as absent unless the default is something else);
- the seed, and the runs that it starts from.

So neither a new option with a default nor a class of this library that moves renames a run.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Any

from lora_repro.config.paths import LIBRARY
from lora_repro.config.schema import class_name, defaults
from lora_repro.errors import UserError

# Components and fields that cannot change a result: display names, checks and places of files, settings that only trade memory
# for speed, additional measurements.
MIRRORS = ("tracker",)
EXCLUDED = (
    "backbone.label",
    "backbone.sizes",
    "backbone.packages",
    "backbone.files",
    "train.micro_batch_size",
    "train.eval_batch_size",
    "train.checkpoint_every",
    "train.recompute",
    "data.n_train_scored",
    "decode.batch_size",
    "task.scale",
    "task.train",  # files of the user's: `task.sha256` holds what stands in them
    "task.dev",
    "task.test",
    "task.whole",
)


def identity(config: dict[str, Any]) -> dict[str, Any]:
    """What a record keeps of a resolved configuration: components without `EXCLUDED`, the seed, what the run starts from."""
    settings = {key: config[key] for key in ("seed", "starts", "starts_from") if config.get(key) is not None}
    for group, node in config.items():
        if isinstance(node, dict) and "_target_" in node and group not in MIRRORS:
            settings[group] = {key: value for key, value in node.items() if f"{group}.{key}" not in EXCLUDED}
    return settings


def signature(config: dict[str, Any]) -> str:
    """The run's name: 16 hex digits. Raises UserError if a component's class does not exist."""
    return digest(named(config))


def named(config: dict[str, Any]) -> dict[str, Any]:
    """The value of which the signature is a digest; it holds `seed` and `starts_from` unchanged. Raises what `signature` does."""
    settings = identity(config)
    settings.pop("starts", None)  # `starts_from` has their signatures
    return {key: canonical(value) for key, value in settings.items()}


def digest(value: Any) -> str:
    """16 hex digits of a JSON value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def class_of(target: str) -> str:
    """What tells a class: of this library its name, as it may move; of another package, which may have one of that name, all."""
    return class_name(target) if target.startswith(f"{LIBRARY.name}.") else target


def canonical(node: Any) -> Any:
    """The canonical form that is hashed: a component as its class and what differs from its defaults, whole floats as ints."""
    if isinstance(node, dict):
        usual = _usual(node["_target_"]) if "_target_" in node else {}
        values = {key: canonical(value) for key, value in node.items() if key != "_target_"}
        differences = {key: value for key, value in values.items() if not _same(value, usual.get(key))}
        return {"_target_": class_of(node["_target_"]), **differences} if "_target_" in node else differences
    if isinstance(node, list | tuple):
        return [canonical(item) for item in node]
    return int(node) if isinstance(node, float) and node.is_integer() else node


@cache
def _usual(target: str) -> dict[str, Any]:
    """The constructor's defaults in the canonical form."""
    return {key: canonical(value) for key, value in defaults(target).items()}


def _same(value: Any, other: Any) -> bool:
    """Whether two values in the canonical form are written the same in JSON: 1 is not true."""
    if type(value) is not type(other):
        return False
    if isinstance(value, dict):
        return value.keys() == other.keys() and all(_same(item, other[key]) for key, item in value.items())
    if isinstance(value, list):
        return len(value) == len(other) and all(map(_same, value, other))
    return bool(value == other) or (value != value and other != other)  # JSON has one NaN


def check_same_config(record: dict[str, Any], config: dict[str, Any]) -> None:
    """Raise UserError if a record's configuration differs from today's of the same name, on any key that both have."""
    if differing := _differing(record["asked"], identity(config), ""):
        key, was, now = differing[0]
        raise UserError(
            f"record {record['signature']} was made with {key}={was!r}, but that run now has {key}={now!r} "
            "(has a default changed?); delete the record to run again"
        )


def _differing(recorded: Any, today: Any, key: str) -> list[tuple[str, Any, Any]]:
    if isinstance(recorded, dict) and isinstance(today, dict):
        names = [name for name in recorded if name in today]
        return [pair for name in names for pair in _differing(recorded[name], today[name], f"{key}.{name}" if key else name)]
    if key.endswith("._target_"):
        recorded, today = class_of(recorded), class_of(today)
    return [] if _same(canonical(recorded), canonical(today)) else [(key, recorded, today)]
