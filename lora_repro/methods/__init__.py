"""Adaptation methods, one final class per file; a new method is a new file here and a yaml in conf/method.

`from lora_repro.methods import Lora` finds a class by its file's name (AdapterH: adapter_h.py), so there is no list to maintain.
`base` has what a method inherits, `update` what a changed matrix can do: merge, unmerge, give its delta or factors.
Never change a default of a published method: it would rename its runs (tests/defaults.json).
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any


def __getattr__(name: str) -> Any:
    stems = [path.stem for path in Path(__file__).parent.glob("[!_]*.py")]
    module = next((stem for stem in stems if name != name.lower() and stem.replace("_", "") == name.lower()), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)
