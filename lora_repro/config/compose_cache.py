"""A disk cache of compositions and of the runs that they describe: Hydra takes a tenth of a second for one, a table needs dozens.

A cache folder is keyed by every byte that a composition depends on: the files of conf/, the modules beside this one, and the
versions of Hydra and OmegaConf. When one of these changes, the old folder of this checkout is deleted; of more than `MOST` files
the oldest are. A file holds one result as plain values with a digest: a damaged file is made again. If the cache cannot be
written, everything is computed. What depends on other code as well, such as the sizes of methods, names it (`code`).
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

from lora_repro.config.paths import CACHE, CONF, LIBRARY
from lora_repro.files import write_text

MOST = 20_000  # files of a cache folder; the tables of all profiles need 2,000, of 5 kB


def load_or_make(key: Sequence[str], make: Callable[[], Any], code: Sequence[str] = (), packages: Sequence[str] = ()) -> Any:
    """The plain values that `make` gives for `key`, computed now or by an earlier process with the same conf/.

    code: modules and packages of lora_repro (`methods`), packages: installed ones, that the values depend on, too.
    """
    parts = [*key, *map(_text_of, code), *map(version, packages)]
    path = _home() / f"{_digest(json.dumps(parts))}.json"
    try:
        digest, _, text = path.read_text(encoding="utf-8").partition("\n")
        if digest == _digest(text):
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
    with contextlib.suppress(OSError):
        for path in sorted(home.glob("*.json"), key=lambda path: path.stat().st_mtime)[:-MOST]:
            path.unlink()
    return home


@cache
def _text_of(module: str) -> str:
    """The source of a module or package of lora_repro, as a digest."""
    place = LIBRARY / module
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    return _digest(json.dumps([(str(path), path.read_text(encoding="utf-8")) for path in files]))


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:24]
