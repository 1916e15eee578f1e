"""A disk cache of compositions and of the runs that they describe: Hydra takes a tenth of a second for one, a table needs dozens.

A cache folder is keyed by every byte that a composition depends on: the files of conf/, the modules beside this one, and the
versions of Hydra and OmegaConf. When one of these changes, the old folder of this checkout is deleted. A file holds one result
as plain values with a digest: a damaged file is made again. If the cache cannot be written, everything is computed.
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

from lora_repro.config.paths import CACHE, CONF
from lora_repro.files import write_text


def load_or_make(asked: Sequence[str], make: Callable[[], Any]) -> Any:
    """The plain values that `make` gives for `asked`, computed now or by an earlier process with the same conf/."""
    path = _home() / f"{_digest(json.dumps(list(asked)))}.json"
    try:
        kept, _, text = path.read_text(encoding="utf-8").partition("\n")
        if kept == _digest(text):
            return json.loads(text)
    except (OSError, UnicodeDecodeError):
        pass
    value = make()
    text = json.dumps(value)
    if json.loads(text) == value:  # false for a mapping with numeric keys
        with contextlib.suppress(OSError):
            write_text(path, f"{_digest(text)}\n{text}")
    return value


@cache
def _home() -> Path:
    parts = [version("hydra-core"), version("omegaconf")]
    conf = [path for path in CONF.rglob("[!.]*") if path.suffix in (".yaml", ".csv")]  # skips editors' lock files
    for path in sorted([*Path(__file__).parent.glob("*.py"), *conf]):
        parts += [str(path), path.read_text(encoding="utf-8")]
    home = CACHE / "compositions" / _digest(str(CONF)) / _digest(json.dumps(parts))
    for old in home.parent.glob("*"):
        if old != home:
            shutil.rmtree(old, ignore_errors=True)
    return home


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:24]
