"""Reading data files: plain or xz, found under either name, with a one-line error for whatever is wrong with them.

The suite's own data sets, which stand in for the real ones in a first run, are such files beside their task.
"""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from lora_repro.config.paths import CONF, DATA
from lora_repro.errors import UserError
from lora_repro.sources import hub


def home(given: str | None, within: str, title: str, name: str) -> Path:
    """The folder that the user names, else the one where `fetch` puts its data, if that contains `within`.

    Raises UserError if there is neither; its message names the `fetch` command, if that can get the folder.
    """
    if given:
        return Path(given).expanduser()
    if any(not path.name.startswith(".") for path in (DATA / within).glob("*")):  # a fetch that failed may leave a dotted file
        return DATA
    source = CONF / "source" / f"{name}.yaml"
    files = yaml.safe_load(source.read_text(encoding="utf-8"))["files"] if source.exists() else ()
    if not any(path.startswith(f"{within}/") for path in files):
        raise UserError(f"{within} is not here, and fetch does not have it: name its parent folder with DATA=/path (paths.data)")
    get = f"python -m lora_repro fetch {name}"
    raise UserError(f"{title} is not here: run {get}, or name the folder that holds {within}/ with DATA=/path (paths.data)")


def own_folder(given: str | None, within: str, title: str, name: str) -> Path:
    """The folder `within` of `home`; if the user's folder has none, that folder itself. Raises UserError as `home` does."""
    root = home(given, within, title, name)
    return root / within if (root / within).is_dir() else root


def hub_parts(hub_id: str, revision: str, folder: str, splits: Iterable[str]) -> dict[str, Any]:
    """split -> its rows (a `datasets.Dataset`), from parquet files on the model hub. Raises NotAvailable and UserError."""
    place = hub.dataset(hub_id, revision, folder)
    from datasets import Dataset, disable_progress_bars  # type: ignore[import-untyped]  # slow, and no other source needs it

    disable_progress_bars()
    found = {}
    for split in splits:
        paths = sorted(map(str, [*place.glob(f"{split}-*.parquet"), *place.glob(f"{split}/*.parquet")]))
        if not paths:
            raise UserError(f"{hub_id} at {revision[:8]} has no {folder}/{split}")
        found[split] = Dataset.from_parquet(paths)
    return found


def find(place: Path, names: Sequence[str]) -> Path | None:
    """The first of the files `names`, each plain or with `.xz` appended, that exists in a folder; None if none does."""
    tried = (place / f"{name}{end}" for name in names for end in ("", ".xz"))
    return next((path for path in tried if path.is_file()), None)


def read_text(path: Path) -> tuple[str, str]:
    """(a UTF-8 file's text, unpacked if the name ends in .xz; the sha256 of the file as stored). Raises UserError."""
    try:
        content = path.read_bytes()
        plain = lzma.decompress(content) if path.suffix == ".xz" else content
        return plain.decode("utf-8-sig"), hashlib.sha256(content).hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (lzma.LZMAError, EOFError):
        raise UserError(f"{path} is not a complete xz file: copy it again") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); take the official file") from None


def generated_rows(path: Path) -> dict[str, list[list[Any]]]:
    """split -> the rows of a generated data set: JSON lines, each a list of the split's name and the row's fields.

    Such rows are synthetic (written by the grammars in tests/generators), and what is made from them must say so: its numbers are
    not comparable with the paper's.
    """
    splits: dict[str, list[list[Any]]] = {}
    for line in read_text(path)[0].rstrip("\n").split("\n"):
        split, *row = json.loads(line)
        splits.setdefault(split, []).append(row)
    return splits
