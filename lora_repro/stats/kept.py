"""Arrays that are slow to compute from published predictions, kept on disk by the content of these files.

A folder is keyed by the code of the scores and of this package, and by the versions of numpy and scipy; when one changes, the
old folder is deleted. A damaged file is made again. If nothing can be written, everything is computed.
"""

from __future__ import annotations

import contextlib
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lora_repro import files, metrics
from lora_repro.config.paths import CACHE

Arrays = Mapping[str, NDArray[Any]]


def kept(asked: Sequence[object], read: Sequence[Path | None], make: Callable[[], Arrays]) -> Arrays:
    """The arrays that `make` computes from the files `read`, now or in an earlier process.

    asked: what else tells one computation from another. None among `read`: a run that has no file.
    """
    contents = [None if path is None else _content(path, path.stat().st_mtime_ns) for path in read]
    place = _home() / f"{_digest(repr([*asked, *contents]))}.npz"
    try:
        with place.open("rb") as file, np.load(file, allow_pickle=False) as found:
            return {name: found[name] for name in found}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        pass
    arrays = make()
    with contextlib.suppress(OSError), files.replacing(place) as target, target.open("wb") as written:
        np.savez(written, **arrays)  # type: ignore[arg-type]
    return arrays


@cache
def _content(path: Path, changed: int) -> str:
    return files.sha256(path)


@cache
def _home() -> Path:
    code = sorted([*Path(__file__).parent.glob("*.py"), *Path(metrics.__path__[0]).rglob("*.py")])
    parts = [version("numpy"), version("scipy"), *(path.read_text(encoding="utf-8") for path in code)]
    home = CACHE / "resamples" / _digest(repr(parts))
    for old in home.parent.glob("*"):
        if old != home:
            shutil.rmtree(old, ignore_errors=True)
    return home


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:24]
