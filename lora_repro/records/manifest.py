"""results/manifest.sha256: the hash of every published file, so that none changes unnoticed.

One line per file, `<sha256>  <path below results/>`, sorted by path: `cd results && sha256sum -c manifest.sha256` reads it too.
Code that writes below results/ notes the files that it wrote and no others; code that reads records there checks them first.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock

from lora_repro.errors import UserError
from lora_repro.records.disk import sha256, write_text

NAME, LOCK = "manifest.sha256", ".manifest.lock"
EVIDENCE = ("records", "predictions", "updates", "measures", "trials")  # folders of a profile from which everything else is made


def read_manifest(results: Path) -> dict[str, set[str]] | None:
    """Path below results/ -> its hash, or several after a merge of branches; None if nothing has been published there.

    Raises UserError if the manifest is damaged.
    """
    try:
        lines = (results / NAME).read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{results / NAME} cannot be read ({error}); {_restore(results / NAME)}") from None
    found: dict[str, set[str]] = {}
    for line in filter(None, lines):
        digest, gap, path = line.partition("  ")
        if not gap or len(digest) != 64 or path in ("", NAME):
            raise UserError(f"{results / NAME} is damaged ({line[:40]!r}); {_restore(results / NAME)}")
        found.setdefault(path, set()).add(digest)
    return found


def record_files(results: Path, written: Iterable[Path], removed: Iterable[Path] = ()) -> None:
    """Record the hashes of files just written below results/, and drop files that were removed on purpose.

    Any other missing file stays listed, so `check` reports it. Of several hashes, which a merge may leave, only the file's
    current one is kept. Does nothing without a manifest: `begin` makes one.
    """
    if read_manifest(results) is None:
        return
    with FileLock(results / LOCK):  # two searches may end at the same time
        listed = read_manifest(results) or {}
        for path in removed:
            listed.pop(path.relative_to(results).as_posix(), None)
        for path in written:
            listed[path.relative_to(results).as_posix()] = {sha256(path)}
        for name, digests in listed.items():
            if len(digests) > 1 and (results / name).is_file():
                listed[name] = digests & {sha256(results / name)} or digests
        lines = [f"{digest}  {path}\n" for path, digests in sorted(listed.items()) for digest in sorted(digests)]
        write_text(results / NAME, "".join(lines))


def begin(results: Path) -> None:
    """Make the manifest of all that results/ holds, unless there is one."""
    if not (results / NAME).exists():
        write_text(results / NAME, "")
        record_files(results, _files(results))


def check(results: Path, folders: Iterable[str] = ("",)) -> None:
    """Raise UserError, naming the first wrong file, unless `folders` of results/ hold exactly the published files."""
    listed = read_manifest(results)
    if listed is None:
        return
    for folder in folders:
        here = {path.relative_to(results).as_posix() for path in _files(results / folder)}
        wanted = {path for path in listed if path.startswith(f"{folder}/") or not folder}
        for path in sorted(here | wanted):
            place = results / path
            if path not in here:
                raise UserError(f"{place} is missing; {_restore(place)}")
            if path not in wanted:
                raise UserError(f"{place} was not published (it is not in {NAME}): delete it, then make publish")
            if sha256(place) not in listed[path]:
                raise UserError(f"{place} differs from what was published; {_restore(place)}")


def check_evidence(folder: Path) -> None:
    """`check` the files of results/<profile> from which tables, claims and pages are made."""
    check(folder.parent, [f"{folder.name}/{kind}" for kind in EVIDENCE])


def _files(folder: Path) -> list[Path]:
    """Every file below a folder except the manifest, its lock, and temporary files of killed processes."""
    hidden = (NAME, ".tmp", LOCK)
    return [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(hidden)]


def _restore(path: Path) -> str:
    return f"restore it: git checkout -- {path}"
