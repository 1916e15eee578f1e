"""Reading data files: plain or xz, found under either name, with a one-line error for whatever is wrong with them.

The suite's own data sets, which stand in for the real ones in a first run, are such files beside their task. Files come from
elsewhere, so each has limits: a plain file, of so many bytes when unpacked, of valid text and JSON.

Here is also the content of official splits, by the hash of their rows (each task's own `rows_sha256`): the same for any form of
a file. E2E, WebNLG and DART have theirs beside their readers, which refuse any other content.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import math
import re
from collections.abc import Iterable, Mapping, Sequence, Sized
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
# task -> split -> number of rows -> sha256 of the rows. None: the official split has as many rows, but no copy was at hand.
# Splits that are not listed were never at hand. Smaller numbers are of copies whose captions say so: SAMSum's CSV release,
# WikiSQL's training part as rebuilt from its queries, and a part of MNLI.
ROWS: Mapping[str, Mapping[str, Mapping[int, str | None]]] = {
    "cola": {
        "train": {8551: "35ea7024b9e5430c4b2296619cb776f7f33b8c73ead237d5b7366d0e94b148ee"},
        "dev": {1043: "9c87a672ffe1e9f968cdde073595292da01dd91fcc852a5d29250e3318e55e57"},
    },
    "mrpc": {
        "train": {3668: "df2748660d8605cbbce8fb688a054d8d766ebfca4e8b1ce6925558721077709e"},
        "dev": {408: "40f253fb6c9181dfcc6005cf83334c4d538dcb52fff02452578593ec04bf9b8d"},
    },
    "rte": {
        "train": {2490: "7056c193dabc41f1434664447bdab86d584b481a4bea211e1828c833dcca09da"},
        "dev": {277: "21e637ae325acab8c953a40be8536241291948e5d952366f8ea5e93c2be96caf"},
    },
    "sst2": {
        "train": {67349: "b54f6f4c421291bae351d942847f1fd90d259a3e7687d84a64dca090f6b25efa"},
        "dev": {872: "75226d41bb70a424d57e43fd4c1024548fde9a146627a35a5ac63d4fcddd97c6"},
    },
    "stsb": {
        "train": {5749: "6f2022e280b2a22650f70c3db64309597b90a885dd119715165b1aa7ba05ac49"},
        "dev": {1500: "06fb689aeea50b9ce35c5b6291f239bceba26857ffcad509a7d4b771ac29546a"},
    },
    "mnli_text": {
        "train": {20000: "ae7c2e27db232c542c2ba530cf7d6bb18967dacee3cef84ad22a31bbc7eba12c", 392702: None},
        "matched": {5000: "c63f9afbbcf02be39c9c26e157937b9566628f99e24675f6eb2977d197eac9b4", 9815: None},
    },
    "samsum": {
        "train": {14731: "667acd94ba07bf992daea0804c6ec14444b9f50d0a21de1a677c75fb3c366e4f", 14732: None},
        "dev": {818: "30195b174318ea5788ab417ce6985814657fdab597202f42e6c54b61fdac654c"},
        "test": {819: "93e4fa874853006a5326a0188a1b39979115b807672b097cf7f881be6a8859b8"},
    },
    "wikisql": {
        "train": {56317: "1204005d5a34e7d1e3b5c2dc5b604046f706a4fe04eb865e6317e0216564fac6", 56355: None},
        "dev": {8421: "15e5f3d7b956bc9e74a54522c0c5ebb1fffda3730bf231ef107a8a7c9ea6d848"},
        "test": {15878: "36ac7162bd080be714c8d33fdeaf39670aaa6e1ecc348237e0b1f3f9a57e1b22"},
    },
}


def home(folder: str | None, within: str, title: str, name: str) -> Path:
    """The folder that the user names, else the one where `fetch` puts its data, if that contains `within`.

    Raises UserError if there is neither; its message names the `fetch` command, if that can get the folder.
    """
    if folder:
        return Path(folder).expanduser()
    if any(not path.name.startswith(".") for path in (DATA / within).glob("*")):  # a fetch that failed may leave a dotted file
        return DATA
    source = CONF / "source" / f"{name}.yaml"
    files = yaml.safe_load(source.read_text(encoding="utf-8"))["files"] if source.exists() else ()
    if not any(path.startswith(f"{within}/") for path in files):
        raise UserError(f"{within} is not here, and fetch does not have it: name its parent folder with DATA=/path (paths.data)")
    get = f"lora-repro fetch {name}"
    raise UserError(f"{title} is not here: run {get}, or name the folder that holds {within}/ with DATA=/path (paths.data)")


def own_folder(folder: str | None, within: str, title: str, name: str) -> Path:
    """The folder `within` of `home`; if the user's folder has none, that folder itself. Raises UserError as `home` does."""
    root = home(folder, within, title, name)
    return root / within if (root / within).is_dir() else root


def hub_parts(hub_id: str, revision: str, folder: str, splits: Iterable[str]) -> dict[str, Any]:
    """split -> its rows (a `datasets.Dataset`), from parquet files on the model hub. Raises NotAvailable and UserError."""
    place = hub.dataset(hub_id, revision, folder)
    from datasets import Dataset, disable_progress_bars  # type: ignore[import-untyped]  # slow, and no other source needs it

    disable_progress_bars()
    parts = {}
    for split in splits:
        paths = sorted(map(str, [*place.glob(f"{split}-*.parquet"), *place.glob(f"{split}/*.parquet")]))
        if not paths:
            raise UserError(f"{hub_id} at {revision[:8]} has no {folder}/{split}")
        parts[split] = Dataset.from_parquet(paths)
    return parts


def find(place: Path, names: Sequence[str]) -> Path | None:
    """The first of the files `names`, each plain or with `.xz` appended, that exists in a folder; None if none does."""
    candidates = (place / f"{name}{end}" for name in names for end in ("", ".xz"))
    return next((path for path in candidates if path.is_file()), None)


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
        with path.open("rb") as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()
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
    if half := next((match for match in ESCAPE.finditer(text) if match[1]), None):  # it can be neither encoded nor written
        raise UserError(f"{path}, line {line or line_of(text, half.start())} holds half a character ({half[0]}): {MEND}")
    return value


def is_number(text: str) -> bool:
    """Whether a text is a finite decimal number."""
    try:
        return math.isfinite(float(text)) and "_" not in text  # only Python reads 1_0 as ten
    except ValueError:
        return False


def json_lines_sha256(rows: Iterable[Sequence[object]]) -> str:
    """sha256 over one JSON list per row, each on a line: the same for any form of a file and for any line ends."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8"))
    return digest.hexdigest()


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


def others(task: str, rows: Mapping[str, Sized], hashes: Mapping[str, str]) -> tuple[str, ...]:
    """The splits whose rows are known not to be the official ones. hashes: `<task>/rows/<split>` -> sha256 of the rows."""
    splits = []
    for split, digests in ROWS.get(task, {}).items():
        if split in rows and digests.get(len(rows[split]), "") not in (None, hashes[f"{task}/rows/{split}"]):
            splits.append(split)
    return tuple(splits)


def marked(caption: str, splits: tuple[str, ...]) -> str:
    """A caption, with the splits that are not the official ones in its bracket, if there are any."""
    return f"{caption.removesuffix(')')}; not the official {' and '.join(splits)})" if splits else caption
