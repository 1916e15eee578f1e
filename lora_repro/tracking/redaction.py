"""What a mirror may show of a run: no paths, and no texts of the predictions except the model's outputs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# An absolute path or file URI up to its last part, at the start of a text or after what an override puts before a value.
PLACE = re.compile(r"(?<![^\s=,\[{:'\"])(?:file://)?(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\=,<>'\"]+[/\\])+(?=[^\s/\\=,<>'\"])")
FILES = ("train", "dev", "test")  # of a task on the user's own files: where they lie
MODEL = (("backbone", "path"), ("backbone", "hub_id"))  # where a model in a folder lies
LOCAL = ("paths", "printed", "budget", "seeds", "tune", "tracker", "hydra", "device", "launch")  # they do not describe the run


def sectioned(values: dict[str, float]) -> dict[str, float]:
    """Step metrics named by dashboard section: dev_loss becomes eval/loss, the metrics of a training step train/..."""
    metrics = {}
    for key, value in values.items():
        of_dev, plain = key.startswith("dev_"), key.removeprefix("dev_").removeprefix("train_")
        metrics[f"{'eval' if of_dev else 'train'}/{plain}"] = value
    return metrics


def describe(signature: str, config: dict[str, Any]) -> dict[str, Any]:
    """What a dashboard sorts and filters runs by; the configuration contains no paths.

    Group: the experiment; for a run outside one its method and changed settings, so that a group is one setting at several seeds.
    """
    row = {key: config["row"].get(key) for key in ("table", "name", "label")}
    title = row["name"] if row["table"] else row["label"] or config["method"]["name"]
    names = [config[part]["name"] for part in ("method", "task", "backbone")]
    settings = {key: part for key, part in config.items() if key not in LOCAL}
    settings["task"] = {key: value for key, value in settings["task"].items() if key not in FILES}
    places = sorted(set(_places(settings)), key=len, reverse=True)
    for key, name in [("task", "function"), *(MODEL if settings["backbone"].get("source") == "folder" else ())]:
        if place := settings[key].get(name):
            settings[key] = {**settings[key], name: Path(place).resolve().name}
            title, row["label"] = (_last_part(str(text), place) for text in (title, row["label"]))
    description: dict[str, Any] = {
        "group": str(row["table"] or title),
        "name": f"{title} {config['task']['name']} seed {config['seed']}",
        "tags": list(dict.fromkeys([*names, str(config["profile_name"])])),
        "config": {**settings, "row": row, "signature": signature},
    }
    return {key: _without_places(value, places) for key, value in description.items()}


def _last_part(text: str, place: str) -> str:
    """The text with the path `place`, as the user gave it, reduced to its last part."""
    letters = "".join(rf"\\?{re.escape(letter)}" for letter in place)  # Hydra reads `my\ model` as `my model`
    return re.sub(rf"(?<![\w./]){letters}(?![\w./])", lambda _: Path(place).resolve().name, text)  # "." is a folder, too


def _places(value: Any) -> Iterator[str]:
    """The values that are an absolute path as a whole: only there can it be seen that a blank belongs to a folder's name."""
    if isinstance(value, str) and PLACE.match(value):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _places(item)


def _without_places(value: Any, places: Sequence[str]) -> Any:
    """The value with every absolute path in its texts, and every one of `places`, reduced to its last part."""
    if isinstance(value, str):
        for place in places:
            value = value.replace(place, re.split(r"[/\\]", place)[-1])
        return PLACE.sub("", value)
    if isinstance(value, list):
        return [_without_places(item, places) for item in value]
    return {key: _without_places(item, places) for key, item in value.items()} if isinstance(value, dict) else value


def table(predictions: list[dict[str, Any]], limit: int) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of the first predictions: key, output, and the statistics that are numbers.

    Any other text (`gold`: the data's own answer) is left out.
    """
    lines = predictions[:limit]
    keys = dict.fromkeys(key for line in lines for key, value in line.items() if statistic(key, value))
    columns = ["key", "output", *keys]
    return columns, [[plain(line.get(column)) for column in columns] for line in lines]


def statistic(key: str, value: Any) -> bool:
    numbers = value if isinstance(value, list) else [value]
    return key not in ("key", "output", "gold") and all(isinstance(number, int | float) for number in numbers)


def plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value
