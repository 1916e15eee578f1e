"""Data files as they lie: plain or xz, found under either name and read with one line for whatever is wrong with them."""

from __future__ import annotations

import hashlib
import lzma
from collections.abc import Sequence
from pathlib import Path

from lora_repro.errors import UserError


def find(place: Path, names: Sequence[str]) -> Path | None:
    """The first of the files `names`, each plain or with `.xz` behind it, that lies in a folder."""
    tried = (place / f"{name}{end}" for name in names for end in ("", ".xz"))
    return next((path for path in tried if path.is_file()), None)


def read_text(path: Path) -> tuple[str, str]:
    """(a UTF-8 file's text, unpacked where it ends in .xz; the sha256 of the file as it lies). Raises UserError."""
    try:
        content = path.read_bytes()
        plain = lzma.decompress(content) if path.suffix == ".xz" else content
        return plain.decode("utf-8-sig"), hashlib.sha256(content).hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (lzma.LZMAError, EOFError):
        raise UserError(f"{path} is no whole xz file; copy it again") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); take the official file") from None
