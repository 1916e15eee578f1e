"""Reads yaml files outside Hydra; limits those of a user's own folder (`--config-dir`); names the file in every yaml error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from omegaconf.errors import OmegaConfBaseException

from lora_repro.errors import UserError
from lora_repro.files import once_per_version

LARGEST = 2**18  # bytes of a file
DEEPEST = 40  # mappings and lists inside each other
MOST = 20_000  # values, counted as often as aliases repeat them


@once_per_version
def values(path: Path) -> Any:
    """What a yaml file holds. Raises OSError or a YAMLError."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, ten times as fast, is not part of every build
    return yaml.load(path.read_text(encoding="utf-8"), loader)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Raise UserError, in one line with the file's name and line, for whatever reading a yaml file inside the block raises."""
    try:
        yield
    except RecursionError:
        raise UserError(f"{path} is nested too deep") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        raise UserError(f"{path} holds a character that yaml does not allow ({error.reason})") from error
    except (OmegaConfBaseException, OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def check(path: Path, folder: Path) -> None:
    """Raise UserError for a file of `folder` that lies elsewhere, is too large or too deep, or whose aliases repeat too much.

    Aliases are counted before anything is built from them: seven lines may stand for millions of values.
    """
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{path} leads out of {folder}: copy the file into it")
    with named(path):
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has more than {LARGEST // 1024} kB")
        if root := yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader):
            values, levels = _measured(root, {})
            if levels > DEEPEST:
                raise ValueError(f"it is nested more than {DEEPEST} levels deep")
            if values > MOST:
                raise ValueError(f"with its aliases it has more than {MOST} values")


def _measured(node: yaml.Node, extents: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """How many values a node holds, and how deep they are nested. Raises ValueError for a node inside itself."""
    if id(node) not in extents:
        extents[id(node)] = None  # being measured
        inside = [] if isinstance(node, yaml.ScalarNode) else node.value
        if isinstance(node, yaml.MappingNode):
            inside = [child for pair in inside for child in pair]
        sizes = [_measured(child, extents) for child in inside]
        extents[id(node)] = 1 + sum(size for size, _ in sizes), 1 + max((levels for _, levels in sizes), default=0)
    if (extent := extents[id(node)]) is None:
        raise ValueError("an alias stands inside the value that it names")
    return extent
