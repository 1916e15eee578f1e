"""Arrays that are slow to make, kept on disk by the content of all that they are made from: resamples of scores, drawn figures.

A folder is keyed by the code and by the versions of the packages that make them (`config.disk_cache`). A damaged file is made
again. If nothing can be written, everything is computed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from lora_repro import files, metrics
from lora_repro.config import disk_cache
from lora_repro.config.paths import CACHE

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Kind:
    """A folder of kept arrays: its name below .cache, and the code (files, folders) and packages that decide what is in it."""

    name: str
    code: tuple[Path, ...]
    packages: tuple[str, ...]


RESAMPLES = Kind("resamples", (Path(__file__).with_name("bootstrap.py"), Path(metrics.__path__[0])), ("numpy", "scipy"))


def kept(
    key: Sequence[object], read: Sequence[Path | None], make: Callable[[], Arrays], kind: Kind = RESAMPLES
) -> Arrays:
    """The arrays that `make` computes from the files `read`, now or in an earlier process.

    key: what else tells one computation from another, by its repr. None among `read`: a run that has no file.
    """
    contents = [None if path is None else files.known_sha256(path) for path in read]
    place = _home(kind) / f"{disk_cache.digest(repr([*key, *contents]))}.safetensors"
    with contextlib.suppress(OSError, SafetensorError):
        return load(place.read_bytes())
    arrays = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in make().items()}
    with contextlib.suppress(OSError), files.replacing(place, durable=False) as target:
        save_file(arrays, target)
    return arrays


@cache
def _home(kind: Kind) -> Path:
    code = disk_cache.texts(path for place in kind.code for path in ([place] if place.is_file() else place.rglob("*.py")))
    return disk_cache.folder(CACHE / kind.name, [*map(version, kind.packages), *code])
