"""One file over HTTP: resumed after a broken connection, retried if a server is busy, checked before it appears."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lora_repro import console
from lora_repro.errors import NotAvailable, UserError
from lora_repro.files import sha256 as file_sha256
from lora_repro.sources.hub import BUSY, PAUSE, TRIES

TIMEOUT, PIECE = 30, 1 << 16
BROKEN = (OSError, http.client.HTTPException)


def retrieve(url: str, folder: Path, name: str, sha256: str | None = None, blob: str | None = None) -> Path:
    """`folder/name`, downloaded and checked. `blob`: git's hash of the content, if no sha256 is known.

    A partial download stays beside it, and the next try or command resumes there. Raises NotAvailable if the address does not
    answer, UserError if the content is not the expected one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{name}.part"
    for tries_left in reversed(range(TRIES)):
        try:
            _go_on(url, part)
            break
        except BROKEN as error:
            code = getattr(error, "code", None)
            if tries_left and (code is None or code in BUSY):
                time.sleep(PAUSE * (TRIES - tries_left))
                continue
            why = f"HTTP {code}" if code else str(getattr(error, "reason", error))
            raise NotAvailable(f"cannot download {url} ({why}): run the same command again to resume") from error
    if (sha256 and file_sha256(part) != sha256) or (blob and git_blob(part) != blob):
        part.unlink()
        raise UserError(f"{url} is not the file described in conf/source (checksum): run the same command again")
    return part.replace(folder / name)


def git_blob(path: Path) -> str:
    """Git's hash of a file's content."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _go_on(url: str, part: Path) -> None:
    """Append the missing rest of `url` to `part`. Raises OSError or HTTPException if the connection ends early, UserError if
    this machine's disk does not take it.
    """
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the file is complete
            return
        raise
    with answer, _Part(part, "ab" if answer.status == 206 else "wb") as file:
        offset = have if answer.status == 206 else 0
        length = answer.headers.get("Content-Length")
        total = offset + int(length) if length else 0
        with console.bar(total or 1, url.rpartition("/")[2], "B", offset, unit_scale=True) as bar:
            while piece := answer.read(PIECE):
                file.write(piece)
                bar.update(len(piece))
        if total and file.tell() < total:
            raise http.client.IncompleteRead(b"", total - file.tell())


class _Part:
    """A file to write to, whose errors are not taken for the connection's."""

    def __init__(self, path: Path, mode: str) -> None:
        self.path = path
        with self.told():
            self.file = path.open(mode)

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, *error: object) -> None:
        with self.told():
            self.file.close()

    def write(self, piece: bytes) -> None:
        with self.told():
            self.file.write(piece)

    def tell(self) -> int:
        return self.file.tell()

    @contextmanager
    def told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            message = f"cannot write {self.path}: {error.strerror}; mend that, then run the same command again to resume"
            raise UserError(message) from error
