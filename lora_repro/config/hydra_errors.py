"""Hydra's errors as one line that says what was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lora_repro.config.paths import choices
from lora_repro.config.schema import fields
from lora_repro.errors import UserError

CHOICE = re.compile(r"Could not find '(?P<group>.+?)/(?P<name>[^']*)' Available options in '(?P=group)': (?P<known>.*)")
KEY = re.compile(r"Could not override '(?P<key>[^']+)'")
PARSED = re.compile(r"Error parsing override '(?P<text>.*?)' missing EQUAL")
UNREAD = re.compile(r"LexerNoViableAlt|mismatched input |extraneous input |token recognition error|no viable alternative ")
MERGED = re.compile(r"Error merging override (?P<text>hydra\.\S+)")
OWN = {  # what to write for a file or folder of one's own
    "task": ": for a file of your own, task=own_labels task.train=FILE (classes; also own_numbers, own_texts)",
    "backbone": ": for a model of your own, backbone=own backbone.path=FOLDER",
}
GROUPS = ("experiment", "profile", "task", "backbone", "method", "tracker", "recipe")  # what a whole command is made of
ELSEWHERE = ("hydra.launcher.n_jobs",)  # settings that people look for but that are not in a run's configuration


def one_line(error: Exception, config: DictConfig | None = None) -> str:
    """What is wrong, without search paths, type names and links. `config`: what the override was meant for."""
    text = str(error).partition("Config search path")[0]
    lines = [" ".join(line.split()) for line in text.splitlines()]
    message = " ".join(
        line
        for line in lines
        if line and not line.startswith(("full_key:", "object_type=", "reference_type=", "See https://"))
    )
    message = message.removeprefix("UserError raised while resolving interpolation: ")  # its message is one line already
    if message.startswith("Exceeds the limit"):  # Python's
        return "a number has more than 4300 digits"
    if message.startswith("RecursionError"):
        return "it refers to itself through ${...}: write the value out"
    if match := CHOICE.search(message):
        group, name, names = match["group"], match["name"], match["known"].split()
        if "/" in name or Path(name).suffix:
            return f"no {group} {name!r}{OWN.get(group, '')}"
        return f"no {group} {name!r}; {did_you_mean(name, names)}"
    if match := KEY.search(message):
        key = match["key"]
        if key.startswith("method.") and config is not None and (method := OmegaConf.select(config, "method.name")):
            near = difflib.get_close_matches(key, alike(key, config), 1, 0.7)
            if not near:
                takes = ", ".join(sorted(name for name in alike(key, config) if name != "method.name"))
                return f"method {method} has no {key}" + (f"; it has {takes}" if takes else "")
        if (table := key.removeprefix("row/")) in choices("experiment"):
            return f"{key} is a row of experiment={table}: add that"
        every = "lora-repro run --cfg job shows them all"
        names = alike(key, config) if config else GROUPS
        return f"no setting {key!r}; {did_you_mean(key, names, every)}"
    if match := MERGED.search(message):
        return f"{match['text']} has the wrong type: see lora-repro run --cfg hydra"
    if match := PARSED.search(message):
        return f"{match['text']!r} is not a setting: write KEY=VALUE, such as profile=mini"
    if UNREAD.match(message):
        fragment = message.rpartition("Exception: ")[2].removesuffix(" ^")
        unreadable = fragment if fragment != message else f"the settings ({message})"
        example = "\"paths.data='/my data'\""
        return f"cannot read {unreadable}; put a value with spaces, ~, brackets or non-ASCII letters in quotes: {example}"
    return message


def empty_profile_message(profile: str, message: str) -> str:
    """`message` for an existing profile without anything; for an unknown profile, what was probably meant."""
    profiles = choices("profile")
    return message if profile in profiles else f"no profile {profile!r}; {did_you_mean(profile, profiles)}"


def did_you_mean(query: str, options: Iterable[str], otherwise: str = "") -> str:
    """`did you mean x?`; without a close match, `otherwise` or all names.

    Close are the same last part (`lr` for train.lr), its initials (train.learning_rate for train.lr), a longer name that ends
    with it (num_train_epochs for train.epochs), and what is spelt alike apart from the group that both are in.
    """
    names, text = list(options), str(query)  # a key of yaml may be a number
    group, dot, last = text.rpartition(".")
    short = {name.removeprefix(group + dot): name for name in names if name.startswith(group + dot)}
    if not short:
        short, last = {name: name for name in names}, text
    ends = {name: name.rpartition(".")[2] for name in short}
    initials = "".join(word[:1] for word in last.split("_"))
    near = [name for name, end in ends.items() if end == last]
    near += [name for name, end in ends.items() if len(end) > 1 and (end == initials or last.endswith(f"_{end}"))]
    near = [short[name] for name in near or difflib.get_close_matches(last, short, 1, 0.6)]
    return f"did you mean {near[0]}?" if near else otherwise or f"choose from {', '.join(names)}"


def alike(key: str, config: DictConfig) -> list[str]:
    """The settings that `key` may stand for: its siblings, with all that their component takes; else every setting."""
    parent, _, _ = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else None
    if not isinstance(node, DictConfig):
        return [*paths(config), *ELSEWHERE]
    return [f"{parent}.{name}" for name in {*map(str, node), *accepted_settings(node)} if name != "_target_"]


def accepted_settings(node: DictConfig) -> tuple[str, ...]:
    """The settings that a component's constructor takes."""
    try:
        return fields(str(node["_target_"])) if "_target_" in node else ()
    except UserError:
        return ()


def paths(node: Any, prefix: str = "") -> Iterator[str]:
    for key in node:
        yield f"{prefix}{key}"
        value = node._get_node(key)
        if isinstance(value, DictConfig) and not value._is_none() and not value._is_interpolation():
            yield from paths(value, f"{prefix}{key}.")
