"""What a component's constructor takes and with which defaults, read from the source of its class without importing it.

A run is named by what differs from these defaults (`signature`), and looking up runs must not import torch. A default is
therefore a literal, or `field(default_factory=dict)`; anything else counts as no default.
"""

from __future__ import annotations

import ast
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lora_repro.config.paths import LIBRARY, trusted
from lora_repro.errors import UserError

EMPTY: dict[str, Any] = {"dict": {}, "list": [], "tuple": ()}


def class_name(target: str) -> str:
    """The last part of a `_target_`: a class may move between modules but keeps its name."""
    return target.rpartition(".")[2]


@cache
def defaults(target: str) -> dict[str, Any]:
    """Field -> default of the dataclass `package.module.Class`; required fields are left out.

    Raises UserError if there is no such class.
    """
    values: dict[str, Any] = {}
    for name, node in _annotated(target).items():
        if node.value is not None:
            with suppress(ValueError):
                values[name] = _default(node.value)
    return values


@cache
def annotated_fields(target: str) -> dict[str, ast.expr]:
    """Field -> its annotation, of every field that the constructor of `package.module.Class` takes.

    Raises UserError if there is no such class.
    """
    return {name: node.annotation for name, node in _annotated(target).items()}


def fields(target: str) -> tuple[str, ...]:
    """Every field that the constructor of `package.module.Class` takes. Raises UserError if there is no such class."""
    return tuple(annotated_fields(target))


def _annotated(target: str) -> dict[str, ast.AnnAssign]:
    nodes = [node for node in _class(target).body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
    return {ast.unparse(n.target): n for n in nodes if "ClassVar" not in ast.unparse(n.annotation)}


def is_trusted(name: str) -> bool:
    """Whether a class or module belongs to a package whose classes may be built."""
    return f"{name}.".startswith(tuple(f"{package}." for package in trusted()))


def not_trusted(target: str) -> str:
    """What is wrong with a `_target_` elsewhere, and the option that would allow it."""
    top = target.partition(".")[0]
    way = "" if top in trusted() else f"; if it is yours: --trust {top}"
    return f"_target_ {target} is not a class of {' or '.join(trusted())}{way}"


def _class(target: str) -> ast.ClassDef:
    module, _, name = target.rpartition(".")
    if not is_trusted(module):
        raise UserError(not_trusted(target))  # before its file is looked for: that imports the packages above it
    source = _source(module)
    tree = ast.parse(source.read_text(encoding="utf-8")) if source else ast.Module([], [])
    definition = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)
    if definition is None:
        reason = "" if source else f": module {module} is neither installed nor in a folder of PYTHONPATH"
        raise UserError(f"_target_ {target} is not a class{reason}")
    return definition


def _source(module: str) -> Path | None:
    """The file of a module; for this library's modules without importing their parent packages."""
    top, _, rest = module.partition(".")
    if top == LIBRARY.name:
        stem = LIBRARY.joinpath(*rest.split("."))
        return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)
    try:
        spec = find_spec(module) if module else None
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _default(node: ast.expr) -> Any:
    """The value of a default. Raises ValueError if it is not a literal."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "field":
        arguments = {keyword.arg: keyword.value for keyword in node.keywords}
        factory = ast.unparse(arguments["default_factory"]) if "default_factory" in arguments else ""
        if factory in EMPTY:
            return EMPTY[factory]
        node = arguments.get("default", node)
    return ast.literal_eval(node)
