"""The data sets of conf/source: fetches their files below one folder, complete and checked as conf/ says."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

from lora_repro import console
from lora_repro.config import yaml_file
from lora_repro.config.paths import CONF, DATA
from lora_repro.errors import UserError
from lora_repro.files import replacing, write_json, write_text
from lora_repro.files import sha256 as file_sha256
from lora_repro.sources.download import retrieve

RECEIPTS = ".fetched"  # folder of <data set>.json, what was fetched: {file: sha256}


@dataclass(frozen=True)
class Source:
    """conf/source/<name>.yaml. files: path below the data folder -> {url, sha256 or blob, and member if it is in an archive}."""

    name: str
    title: str
    licence: str
    files: Mapping[str, Mapping[str, Any]]


def known() -> dict[str, Source]:
    paths = sorted((CONF / "source").glob("*.yaml"))
    return {path.stem: Source(path.stem, **yaml_file.values(path)) for path in paths}


def name_of(task: Any) -> str:
    """The name by which `fetch` knows a task's data."""
    first = getattr(task, "folder", "") or task.name
    holds = (name for name, source in known().items() if any(path.startswith(f"{first}/") for path in source.files))
    return next(holds, str(task.name))


def fetch(source: Source, folder: Path = DATA) -> None:
    """Fetch the missing files of one data set; a second process waits. Raises NotAvailable and UserError as `retrieve` does."""
    (folder / RECEIPTS).mkdir(parents=True, exist_ok=True)
    with FileLock(folder / RECEIPTS / f"{source.name}.lock"):
        _fetch(source, folder)


def _fetch(source: Source, folder: Path) -> None:
    receipt = folder / RECEIPTS / f"{source.name}.json"
    got = _received(receipt)
    sums = {path: about.get("sha256") or got.get(path) for path, about in source.files.items()}
    downloads = {path: about for path, about in source.files.items() if not _right(folder / path, sums[path])}
    console.say(f"{source.name}: {source.title}; licence: {source.licence}")
    for file in (receipt, *(folder / path for path in source.files)):
        for leftover in file.parent.glob(f".{file.name}.*.tmp"):  # by a killed process
            leftover.unlink()
    archives: dict[str, Path] = {}
    for path, about in downloads.items():
        target = folder / path
        if "member" not in about:
            retrieve(about["url"], target.parent, target.name, about.get("sha256"), about.get("blob"))
        else:
            if (url := about["url"]) not in archives:
                archives[url] = retrieve(url, folder, _archive(url), blob=about.get("archive_blob"))
            unpack(archives[url], about["member"], target, about.get("sha256"))
        got[path] = file_sha256(target)
        write_json(receipt, got)
    for url in {about["url"] for about in source.files.values() if "member" in about}:
        (folder / _archive(url)).unlink(missing_ok=True)  # that of a killed process, too
    if source.name == "glue":
        split_mrpc(folder / "MRPC")
    console.say(f"{source.name}: {len(source.files)} files in {folder} ({len(downloads)} new)")


def _archive(url: str) -> str:
    """The name of a downloaded archive until its members are unpacked."""
    return f".{hashlib.sha256(url.encode()).hexdigest()[:16]}-{url.rpartition('/')[2]}"


def _received(receipt: Path) -> dict[str, str]:
    """The hashes of files fetched earlier; empty if unreadable: files without a checksum in conf/ are then fetched again."""
    try:
        return dict(json.loads(receipt.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _right(path: Path, sha256: str | None) -> bool:
    return path.is_file() and sha256 is not None and file_sha256(path) == sha256


def unpack(archive: Path, member: str, target: Path, sha256: str | None) -> None:
    """Extract one member of a zip or tar, atomically. Raises UserError if it is missing or has another hash."""
    with replacing(target) as new:
        with _member(archive, member) as content, new.open("wb") as file:
            shutil.copyfileobj(content, file)
        if sha256 and file_sha256(new) != sha256:
            raise UserError(f"{member} of {archive.name} is not the file described in conf/source (checksum)")


@contextmanager
def _member(archive: Path, member: str) -> Iterator[IO[bytes]]:
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zip_file, zip_file.open(member) as content:
                yield content
            return
        with tarfile.open(archive) as tar_file:
            stream = tar_file.extractfile(member)
            if stream is None:
                raise KeyError(member)
            yield stream
    except (KeyError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile) as error:
        archive.unlink(missing_ok=True)
        raise UserError(f"{archive.name} is damaged or lacks {member}; run the same command again") from error


def split_mrpc(folder: Path) -> None:
    """Write GLUE's train.tsv and dev.tsv of MRPC, from Microsoft's training file and GLUE's list of the dev pairs."""
    corpus, ids = folder / "msr_paraphrase_train.txt", folder / "mrpc_dev_ids.tsv"
    lines, id_lines = (list(filter(str.strip, path.read_text("utf-8-sig", "replace").splitlines())) for path in (corpus, ids))
    for path, right in (
        (corpus, bool(lines) and lines[0].count("\t") == 4),
        (ids, bool(id_lines) and all(re.fullmatch(r"\d+\t\d+", line) for line in id_lines)),
    ):
        if not right:
            path.unlink()  # it has no published checksum, so the next run would accept it
            raise UserError(f"the server's {path} is not the file that GLUE is made from: run the same command again")
    dev = {tuple(line.split("\t")) for line in id_lines}
    head, *rows = lines
    for name, required in (("train", False), ("dev", True)):
        split_rows = [row for row in rows if (tuple(row.split("\t")[1:3]) in dev) is required]
        write_text(folder / f"{name}.tsv", "\n".join([head, *split_rows]) + "\n")
