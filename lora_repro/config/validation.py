"""One check for every setting of every component: it is of its field's type, finite, and in its field's range.

Types are read from the source of the class, as defaults are. Unless annotated, a float must be finite, an int at least 0 and
below 2^31, a text a string. Any other limit is part of the annotation: `lr: Annotated[float, Range(0, above=True)]`.
"""

from __future__ import annotations

import ast
import math
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any

from lora_repro.config.hydra_errors import did_you_mean
from lora_repro.config.schema import annotated_fields, class_name
from lora_repro.errors import LOGIN, UserError

LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Range:
    """least <= x <= most; `above` excludes least itself, `below` excludes most."""

    least: float = -math.inf
    most: float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, x: float) -> bool:
        return (x > self.least if self.above else x >= self.least) and (x < self.most if self.below else x <= self.most)

    def __str__(self) -> str:
        low = "" if self.least == -math.inf else f" above {self.least}" if self.above else f" of at least {self.least}"
        high = "" if self.most == math.inf else f" below {self.most}" if self.below else f" of at most {self.most}"
        return low + (" and" if low and high else "") + high


@dataclass(frozen=True)
class Root:
    """What conf/config.yaml holds besides its components."""

    seed: Annotated[int, Range(0, LARGEST)]
    device: str
    profile_name: str
    recipe_name: str
    row: dict[str, Any]
    tune: dict[str, Any]
    launch: dict[str, Any]
    paths: dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A row of a table, or of no table."""

    table: str | None
    name: str
    order: float
    seeds: int


@dataclass(frozen=True)
class Tune:
    """Settings of learning-rate trials."""

    seed: int
    seeds: Annotated[int, Range(1)]
    length: Annotated[float, Range(0, above=True)]
    most: Annotated[int, Range(1)]
    held_out: Annotated[int, Range(0)]


@dataclass(frozen=True)
class Launch:
    """Settings of a sweep."""

    tries: Annotated[int, Range(1)]
    processes: Annotated[int, Range(1)]
    per_gpu: Annotated[int, Range(1)]
    together: Annotated[int, Range(0)]
    keep_gb: Annotated[float, Range(0)] | None


@dataclass(frozen=True)
class Paths:
    """Where data lie and runs go."""

    data: str | None
    runs: str


PARTS = {"": Root, "row": Row, "tune": Tune, "launch": Launch, "paths": Paths}
COMPONENTS = ("backbone", "method", "train", "decode", "task", "tracker", "data")

Holds = Callable[[object], bool]


@dataclass(frozen=True)
class Kind:
    """What a value may be, as a test and in words."""

    holds: Holds
    words: str


def check(target: str, values: Mapping[str, Any], name: str) -> None:
    """Raise UserError for the first value of a component that its class does not accept: its name, value, and what it may be.

    `name`: what the component is called (`train`). A class of another package checks the names of its settings itself.
    """
    fields = annotated_fields(target)
    ours = bool(fields) and target.startswith("lora_repro.")
    if ours and (unknown := [key for key in values if key not in fields and key != "_target_"]):
        raise UserError(f"{name}.{unknown[0]} is not a setting of {class_name(target)}; {did_you_mean(unknown[0], fields)}")
    for field, kind in kinds(target).items():
        if field in values and not kind.holds(values[field]):
            raise UserError(f"{name}.{field} must be {kind.words}, not {_shown(values[field])}".removeprefix("."))


def _shown(value: object) -> str:
    try:
        return f"{value!r:.80}"
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return "a number of thousands of digits"


def check_root(config: Mapping[str, Any]) -> None:
    """Raise UserError unless a whole configuration has all its parts, each of its kind, and every component passes `check`."""
    for part, kind in PARTS.items():
        values = config[part] if part else config
        target = f"{__name__}.{kind.__name__}"
        if missing := [key for key in annotated_fields(target) if key not in values]:
            raise UserError(f"{part}.{missing[0]} is missing: keep it from conf/config.yaml".removeprefix("."))
        check(target, {key: values[key] for key in annotated_fields(target)}, part)
    if empty := [key for key, value in config["paths"].items() if value == ""]:
        raise UserError(f"paths.{empty[0]} is empty: name a folder, or leave it out")
    if str(config["paths"]["runs"]).startswith("~"):
        raise UserError(f"paths.runs={config['paths']['runs']}: ~ is not expanded here; write $HOME or the full path")
    for group in COMPONENTS:
        if not isinstance(config.get(group), dict) or "_target_" not in config[group]:
            raise UserError(f"{group}={config.get(group)!r:.60} is no component: {_instead(group)}")
    for group, node in config.items():
        check_node(node, group)
        _check_texts(node, group)


def _instead(group: str) -> str:
    """What to write in place of a group's component that is none."""
    if group == "data":
        return "for files of your own, task=own_labels task.train=FILE; for a folder of official files, paths.data=FOLDER"
    return f"choose a file of conf/{group} or leave it out"


def _check_texts(value: Any, key: str) -> None:
    """Raise UserError for a text that must not be recorded or printed: one with a login in a URL, or with control characters."""
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            _check_texts(item, f"{key}.{name}")
    elif isinstance(value, str):
        if LOGIN.search(value):
            raise UserError(f"{key} holds a password or token in a URL: leave it out, since settings are recorded")
        suspect = "" if value.isprintable() else value.replace("\n", "").replace("\t", "")
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in suspect):
            raise UserError(f"{key} holds control characters: {value!r:.80}")


def check_node(node: Any, name: str) -> None:
    """`check` a component and those inside it; anything else is left alone."""
    if isinstance(node, dict):
        for key, value in node.items():
            check_node(value, f"{name}.{key}")
        if "_target_" in node:
            check(str(node["_target_"]), node, name)
    elif isinstance(node, list):
        for value in node:
            check_node(value, name)


@cache
def kinds(target: str) -> dict[str, Kind]:
    """Field of a class -> what it may be, for the fields whose annotation says it."""
    return {name: kind for name, node in annotated_fields(target).items() if (kind := _kind(node)) is not None}


def _number(value: object, integer: bool, within: Range) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if integer else int | float):
        return False
    try:
        return math.isfinite(value) and within.holds(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def _numeric(name: str, within: Range | None = None) -> Kind:
    integer = name == "int"
    within = within or (Range(0) if integer else Range())
    bounds = replace(within, most=LARGEST) if integer and within.most == math.inf else within
    return Kind(lambda value: _number(value, integer, bounds), f"a {'whole ' if integer else ''}number{within}")


PLAIN: dict[str, Kind] = {
    "int": _numeric("int"),
    "float": _numeric("float"),
    "str": Kind(lambda value: isinstance(value, str), "a text"),
    "bool": Kind(lambda value: isinstance(value, bool), "true or false"),
    "None": Kind(lambda value: value is None, "null"),
    "dict": Kind(lambda value: isinstance(value, Mapping), "a mapping"),
    "list": Kind(lambda value: isinstance(value, list | tuple), "a list"),
}
ALIASES = {"Mapping": "dict", "Sequence": "list", "tuple": "list"}


def _kind(node: ast.expr) -> Kind | None:
    """What an annotation allows; None for a class that is not known here."""
    if isinstance(node, ast.BinOp):
        parts = [_kind(node.left), _kind(node.right)]
        return None if None in parts else _either(*filter(None, parts))
    if isinstance(node, ast.Subscript):
        return _subscripted(ast.unparse(node.value), node.slice)
    name = ast.unparse(node)
    return PLAIN.get(ALIASES.get(name, name))


def _either(one: Kind, other: Kind) -> Kind:
    return Kind(lambda value: one.holds(value) or other.holds(value), f"{one.words} or {other.words}")


def _subscripted(name: str, inside: ast.expr) -> Kind | None:
    items = list(inside.elts) if isinstance(inside, ast.Tuple) else [inside]
    if name == "Literal":
        choices = [ast.literal_eval(item) for item in items]
        words = f"{'one of ' if len(choices) > 1 else ''}{', '.join(map(str, choices))}"
        return Kind(lambda value: any(value == choice and type(value) is type(choice) for choice in choices), words)
    if name == "Annotated":
        call = items[1]
        assert isinstance(call, ast.Call)
        keywords = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
        return _numeric(ast.unparse(items[0]), Range(*map(_literal, call.args), **keywords))
    kind = PLAIN.get(ALIASES.get(name, name))
    if kind is not PLAIN["list"] or (item := _kind(items[0])) is None:
        return kind
    item_holds = item.holds
    return Kind(lambda value: isinstance(value, list | tuple) and all(map(item_holds, value)), f"a list, each {item.words}")


def _literal(node: ast.expr) -> Any:
    return LARGEST if ast.unparse(node) == "LARGEST" else ast.literal_eval(node)
