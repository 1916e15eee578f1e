"""Reading data files: plain or xz, found under either name, with a one-line error for whatever is wrong with them.

The suite's own data sets, which stand in for the real ones in a first run, are such files beside their task. Files come from
elsewhere, so each has limits: a plain file, of so many bytes when unpacked, of valid text and JSON.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from lora_repro.config.paths import CONF, DATA
from lora_repro.errors import UserError
from lora_repro.sources import hub

LARGEST, PIECE = 1 << 29, 1 << 20  # bytes of a file when unpacked (the largest official one has 80 MB), and of one read
MEND = "take the official file"
# An escape in JSON; the group is half of a surrogate pair without its other half.
ESCAPE = re.compile(r"\\(?:[^u]|u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|u)", re.DOTALL)


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
    get = f"lora-repro fetch {name}"
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


def read_bytes(path: Path) -> tuple[bytes, str]:
    """(a file's content, unpacked if the name ends in .xz; the sha256 of the file as stored).

    Raises UserError if it is no plain file, cannot be read, or holds more than `LARGEST` bytes, packed or unpacked: an archive of
    a few kilobytes can unpack to more than a machine has.
    """
    if not path.is_file():  # reading a pipe would wait for ever
        raise UserError(f"cannot read {path}: it is not a file; put the official one there")
    pieces, size, large = [], 0, f"{path} holds more than {LARGEST >> 20} MiB, as no data set here does: {MEND}"
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(large)
        with path.open("rb") as stored:
            digest = hashlib.file_digest(stored, "sha256").hexdigest()
        with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as file:
            while piece := file.read(PIECE):
                pieces.append(piece)
                if (size := size + len(piece)) > LARGEST:
                    raise UserError(large)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (lzma.LZMAError, EOFError):
        raise UserError(f"{path} is not a complete xz file: copy it again") from None
    except MemoryError:  # its header may ask for gigabytes to unpack it
        raise UserError(f"{path} needs more memory than there is: free some, or {MEND}") from None
    return b"".join(pieces), digest


def read_text(path: Path) -> tuple[str, str]:
    """(a UTF-8 file's text without a byte-order mark; the sha256 of the file as stored). Raises UserError as `read_bytes` does,
    and for text that is not UTF-8 or holds a NUL.
    """
    content, digest = read_bytes(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}): {MEND}") from None
    if (nul := text.find("\0")) >= 0:
        raise UserError(f"{path}, line {line_of(text, nul)} holds a NUL character: {MEND}")
    return text, digest


def line_of(text: str, place: int) -> int:
    """The number of the line that holds the character at `place`, from 1."""
    return text.count("\n", 0, place) + 1


def load_json(text: str, path: Path | str, line: int | None = None) -> Any:
    """The value of a JSON text: a whole file, or one `line` of it.

    Raises UserError, which names file and line, for text that is no JSON, is nested too deep, or holds half a character.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {line or error.lineno} is not JSON ({error.msg}): {MEND}") from None
    except ValueError:
        raise UserError(f"{path}, line {line or 1} has a number of too many digits: {MEND}") from None
    except RecursionError:
        raise UserError(f"{path}, line {line or 1} is nested too deep: {MEND}") from None
    if half := next((found for found in ESCAPE.finditer(text) if found[1]), None):  # it can be neither encoded nor written
        raise UserError(f"{path}, line {line or line_of(text, half.start())} holds half a character ({half[0]}): {MEND}")
    return value


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
