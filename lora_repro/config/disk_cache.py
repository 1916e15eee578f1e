"""Results that are slow to make, kept on disk for later processes: compositions and what follows from them (`load_or_make`).

Hydra takes a tenth of a second for one composition, and a table needs dozens. `stats.kept` keeps arrays in the same way, and
`report.kept` what an experiment shows.

A cache folder is keyed by every byte that decides what is in it. When one of these changes, the old folder is deleted; of more
than `MOST` files the oldest are. A file of plain values begins with a digest: a damaged file is made again. If the cache cannot
be written, everything is computed.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lora_repro.config.paths import CACHE, CONF, LIBRARY
from lora_repro.files import write_text

MOST = 20_000  # files of a cache folder, of 5 to 100 kB; the tables of all profiles need 2,000


def load_or_make(key: Sequence[str], make: Callable[[], Any], code: Sequence[str] = (), packages: Sequence[str] = ()) -> Any:
    """The plain values that `make` gives for `key`, computed now or by an earlier process with the same conf/.

    code: modules and packages of lora_repro (`methods`), packages: installed ones, that the values depend on, too.
    """
    path = _compositions() / f"{digest([*key, *map(_text_of, code), *map(version, packages)])}.json"
    with contextlib.suppress(OSError, ValueError):
        return read(path)
    value = make()
    if json.loads(json.dumps(value)) == value:  # false for a mapping with numeric keys
        write(path, value)
    return value


def read(path: Path) -> Any:
    """The plain values in a file of `write`. Raises OSError or ValueError if there is no such file, or it is damaged."""
    checksum, _, text = path.read_text(encoding="utf-8").partition("\n")
    if checksum != digest(text):
        raise ValueError(f"{path} is damaged")
    return json.loads(text)


def write(path: Path, value: Any) -> None:
    """Keep plain values behind their digest, if the file can be written."""
    text = json.dumps(value)
    with contextlib.suppress(OSError):
        write_text(path, f"{digest(text)}\n{text}")


def folder(home: Path, decided_by: Sequence[str]) -> Path:
    """The folder below `home` for what `decided_by` decides. Those of other values are deleted."""
    path = home / digest(decided_by)
    for old in home.glob("*"):
        if old != path:
            shutil.rmtree(old, ignore_errors=True)
    drop_oldest(path, MOST)
    return path


def drop_oldest(place: Path, most: int) -> None:
    """Delete the files of a folder that were written before its last `most`."""
    with contextlib.suppress(OSError):
        for path in sorted(place.glob("*"), key=lambda path: path.stat().st_mtime)[:-most]:
            path.unlink()


def texts(paths: Iterable[Path]) -> list[str]:
    """The path and text of each file, in the order of their paths."""
    return [part for path in sorted(paths) for part in (str(path), path.read_text(encoding="utf-8"))]


def conf_files() -> list[Path]:
    """The files of conf/ that decide a composition, without those of editors."""
    return [path for path in CONF.rglob("[!.]*") if path.suffix in (".yaml", ".csv")]


def digest(value: Any) -> str:
    """A digest of a text, or of plain values as JSON has them."""
    text = value if isinstance(value, str) else json.dumps(value)
    return sha256(text.encode()).hexdigest()[:24]


@cache
def _compositions() -> Path:
    code = texts([*Path(__file__).parent.glob("*.py"), *conf_files()])
    return folder(CACHE / "compositions" / digest(str(CONF)), [version("hydra-core"), version("omegaconf"), *code])


@cache
def _text_of(module: str) -> str:
    """The source of a module or package of lora_repro, as a digest."""
    place = LIBRARY / module
    return digest(texts(place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]))
