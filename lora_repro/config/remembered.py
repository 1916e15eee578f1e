"""Compositions and the runs that they come to, kept on disk: Hydra takes a tenth of a second for one, a table asks for dozens.

A folder belongs to every byte that a composition depends on: the files of conf/, which seldom change, this package's way of
reading them, and the versions of Hydra and OmegaConf; the folder of what they were before is deleted. A file in it is one of
them in plain values, under a digest of its own: a damaged one is made anew, as is everything where nothing can be kept.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lora_repro.config.place import CACHE, CONF
from lora_repro.records.disk import write_text


def remembered(asked: Sequence[str], make: Callable[[], Any]) -> Any:
    """What `make` gives of `asked`, plain values, or gave in an earlier process for the same conf/."""
    path = _home() / f"{_digest(json.dumps(list(asked)))}.json"
    try:
        kept, _, text = path.read_text(encoding="utf-8").partition("\n")
        if kept == _digest(text):
            return json.loads(text)
    except (OSError, UnicodeDecodeError):
        pass
    value = make()
    text = json.dumps(value)
    if json.loads(text) == value:  # not so of a mapping whose keys are numbers
        with contextlib.suppress(OSError):
            write_text(path, f"{_digest(text)}\n{text}")
    return value


@cache
def _home() -> Path:
    parts = [version("hydra-core"), version("omegaconf")]
    for path in sorted([*Path(__file__).parent.glob("*.py"), *CONF.rglob("[!.]*.yaml")]):  # an editor's lock is no file of ours
        parts += [str(path), path.read_text(encoding="utf-8")]
    home = CACHE / "compositions" / _digest(json.dumps(parts))
    for old in home.parent.glob("*"):
        if old != home:
            shutil.rmtree(old, ignore_errors=True)
    return home


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:24]
