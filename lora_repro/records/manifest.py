"""The door to results/: what is read there is compared with its hash, what is written gets one.

results/manifest.sha256 has one line per published file, `<sha256>  <path below results/>`, sorted by path:
`cd results && sha256sum -c manifest.sha256` reads it too. Files and their hashes change together (`changing`), and whatever
reads or writes results/ first finishes what a killed process left there (`transaction.settle`).

git merges the manifests of two branches by keeping both sides' lines, so after a merge a file may have two hashes. `make render`
writes such a file again; any other name with two hashes is refused.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from lora_repro.errors import UserError
from lora_repro.files import sha256, write_text
from lora_repro.records import transaction
from lora_repro.records.transaction import Change

NAME = "manifest.sha256"
EVIDENCE = ("records", "predictions", "updates", "measures", "trials")  # folders of a profile from which everything else is made
SIDES = (("HEAD", "MERGE_HEAD"), ("HEAD^1", "HEAD^2"))  # the two sides of a merge under way, and of one just made
Listed = Mapping[str, frozenset[str]]
Stamp = tuple[int, int, int] | None
T = TypeVar("T")


def read_manifest(results: Path) -> Listed | None:
    """Path below results/ -> its hash, or several after a merge of branches; None if there is no manifest.

    Raises UserError if the manifest is damaged.
    """
    now = stamp(results)
    return None if now is None else _parsed(results / NAME, now)


def stamp(results: Path) -> Stamp:
    """What tells one state of the manifest from the next, since a change replaces the file; None if there is none."""
    try:
        status = (results / NAME).stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


@lru_cache(maxsize=4)
def _parsed(path: Path, now: Stamp) -> Listed:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); {_restore(path)}") from None
    return _listed(text, path)


def _listed(text: str, path: Path) -> Listed:
    hashes: dict[str, frozenset[str]] = {}
    for line in filter(None, text.split("\n")):
        digest, gap, name = line.partition("  ")
        if not gap or len(digest) != 64 or name in ("", NAME):
            raise UserError(f"{path} is damaged ({line[:40]!r}); {_restore(path)}")
        hashes[name] = hashes.get(name, frozenset()) | {digest}
    return hashes


@contextmanager
def changing(results: Path) -> Iterator[Change]:
    """Write files below `Change.staged`, or remove some: they change in results/ with their hashes when the block ends.

    Nothing changes if the block raises. A file that somebody else altered keeps the hash that it had, so that `check` names it.
    Raises UserError if results/ holds files but no manifest, and as `transaction.changing`.
    """
    with transaction.changing(results) as change:
        manifest = read_manifest(results)
        if manifest is None and next(_files(results), None):
            raise UserError(_missing(results))
        yield change
        hashes = dict(manifest or {})
        for name in change.removed:
            hashes.pop(name, None)
        hashes |= {name: frozenset({sha256(path)}) for name, path in change.new().items()}
        for name in [name for name, digests in hashes.items() if len(digests) > 1]:
            if _of_a_merge(results, name, hashes[name]) and (results / name).is_file():
                hashes[name] = hashes[name] & {sha256(results / name)} or hashes[name]
        lines = [f"{digest}  {name}\n" for name, digests in sorted(hashes.items()) for digest in sorted(digests)]
        if manifest is not None or lines:
            write_text(change.staged / NAME, "".join(lines))


@contextmanager
def writing_to(folder: Path, removals: Iterable[Path] = ()) -> Iterator[Path]:
    """Where to write files of `folder`: the folder itself; in a published results/ they change together, with their hashes.

    removals: files of it that are removed when the block ends.
    """
    if (folder.parent / NAME).is_file():
        with changing(folder.parent) as change:
            yield change.staged / folder.name
            for path in removals:
                change.remove(path)
    else:
        yield folder
        for path in removals:
            path.unlink()


def check(results: Path, folders: Iterable[str] = ("",)) -> None:
    """Raise UserError, naming the first wrong file, unless `folders` of results/ hold exactly the published files.

    Where nothing is published there may be neither files nor a manifest.
    """
    folders = tuple(folders)
    if fault := _steady(results, lambda: next(_faults(results, folders), "")):
        raise UserError(fault)


def check_evidence(folder: Path) -> None:
    """`check` the files of results/<profile> from which tables, claims and pages are made."""
    check(folder.parent, [f"{folder.name}/{kind}" for kind in EVIDENCE])


def faults(results: Path) -> list[str]:
    """A line for every wrong file below results/, and for every file with two hashes; a merge that nobody rendered counts too."""
    duplicates = [f"{results / name} has two hashes in {NAME} since a merge: run make render"
                  for name, digests in (read_manifest(results) or {}).items()
                  if len(digests) > 1 and _of_a_merge(results, name, digests)]  # fmt: skip
    lines: list[str] = []

    def look() -> str:
        lines[:] = _faults(results, ("",))
        return "".join(lines)

    _steady(results, look)
    return [*lines, *duplicates]


def read_text(results: Path, name: str) -> str | None:
    """The text of one published file, by its path below results/; None if there is none.

    Raises UserError if it is not what was published.
    """
    data: list[bytes] = []

    def look() -> str:
        try:
            data[:] = [(results / name).read_bytes()]
        except FileNotFoundError:
            data.clear()
        manifest = read_manifest(results)
        if manifest is None:
            return _missing(results) if data else ""
        return _fault(results, name, manifest, hashlib.sha256(data[0]).hexdigest() if data else None)

    if fault := _steady(results, look):
        raise UserError(fault)
    try:
        return data[0].decode() if data else None
    except UnicodeDecodeError as error:
        raise UserError(f"{results / name} cannot be read ({error})") from None


def _steady(results: Path, look: Callable[[], str]) -> str:
    """The fault that `look` finds; empty if it finds none, or only while another process's files take their places."""
    while True:
        transaction.settle(results)
        now = stamp(results)
        fault = look()
        if not fault:
            return ""
        transaction.settle(results)
        if stamp(results) == now:
            return fault


def _faults(results: Path, folders: Iterable[str]) -> Iterator[str]:
    manifest = read_manifest(results)
    for folder in folders:
        files = {path.relative_to(results).as_posix() for path in _files(results / folder)}
        if manifest is None:
            if files:
                yield _missing(results)
                return
            continue
        names = {name for name in manifest if name.startswith(f"{folder}/") or not folder}
        for name in sorted(files | names):
            if fault := _fault(results, name, manifest, sha256(results / name) if name in files else None):
                yield fault


def _fault(results: Path, name: str, listing: Listed, digest: str | None) -> str:
    """What is wrong with a file, by its hash or None if it is not there; empty if nothing is."""
    place, digests = results / name, listing.get(name, frozenset())
    merged = len(digests) > 1 and _of_a_merge(results, name, digests)
    if digest is None:
        return f"{place} is missing; {_restore(place)}" if digests else ""
    if not digests:
        return f"{place} was not published (it is not in {NAME}): delete it, then make publish"
    if len(digests) > 1 and not merged:
        return f"{place} has {len(digests)} hashes in {NAME}, and no merge gave them; {_restore(results / NAME)}"
    if digest not in digests:
        way = "two branches changed it: run make render" if merged and not _is_evidence(name) else _restore(place)
        return f"{place} differs from what was published; {way}"
    return ""


def _is_evidence(name: str) -> bool:
    return name.split("/")[1:2] in [[kind] for kind in EVIDENCE]


def _of_a_merge(results: Path, name: str, digests: frozenset[str]) -> bool:
    """Whether the several hashes of a file are those of the two sides of a merge, under way or just made."""
    now = stamp(results)
    sides = _sides(results, now) if now else ()
    return any(digests <= ours.get(name, frozenset()) | theirs.get(name, frozenset()) for ours, theirs in sides)


@lru_cache(maxsize=4)
def _sides(results: Path, now: Stamp) -> tuple[tuple[Listed, Listed], ...]:
    """The manifests of the two sides of a merge under way, and of one that is the last commit."""
    manifests = []
    for pair in SIDES:
        texts = [_committed(results, commit) for commit in pair]
        if None not in texts:
            manifests.append((_listed(texts[0] or "", results / NAME), _listed(texts[1] or "", results / NAME)))
    return tuple(manifests)


def _committed(results: Path, commit: str) -> str | None:
    """The manifest of a commit; None without git, that commit, or a manifest in it."""
    try:
        process = subprocess.run(["git", "show", f"{commit}:./{NAME}"], cwd=results, capture_output=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout.decode(errors="replace")


def _files(folder: Path) -> Iterator[Path]:
    """Every file below a folder except the manifest and what belongs to a change under way."""
    for path in folder.rglob("*"):
        hidden = path.name in (NAME, transaction.LOCK, transaction.JOURNAL) or path.name.endswith(".tmp")
        if not hidden and transaction.STAGED not in path.parts and path.is_file():
            yield path


def _missing(results: Path) -> str:
    return f"{results / NAME} is missing, so nothing that is published can be checked; {_restore(results / NAME)}"


def _restore(path: Path) -> str:
    return f"restore it: git checkout -- {path}"
