"""The weights inside an ONNX file that PyTorch exported, read as bytes; the graph is never executed.

An ONNX file is a protobuf message: pairs of a key (field number << 3 | wire type) and a value, which may itself be a message. The
field numbers are those of onnx.proto (github.com/onnx/onnx, Apache-2.0):

    ModelProto   graph 7
    GraphProto   node 1, initializer 5
    NodeProto    input 1, name 3, op_type 4
    TensorProto  dims 1, data_type 2 (float32: 1), name 8, raw_data 9
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from lora_repro.errors import UserError

BODY = "auto_model"  # sentence-transformers' name for the model inside


def read_onnx(path: Path) -> dict[str, torch.Tensor]:
    """The body's weights under the names of the PyTorch model, float32. Raises UserError if the file is not such an export.

    The exporter keeps the names of parameters, except for the weight of a linear layer: its transpose is stored without a name,
    and the node that multiplies by it has the layer's name.
    """
    tensors: dict[str, torch.Tensor] = {}
    products: dict[str, str] = {}
    try:
        graph = next(value for field, value in _fields(memoryview(path.read_bytes())) if field == 7)
        for field, value in _fields(_message(graph)):
            if field == 5:
                name, tensor = _tensor(_message(value))
                tensors[name] = tensor
            elif field == 1:
                products |= _product(_message(value))
    except (IndexError, KeyError, StopIteration, ValueError, RuntimeError) as error:
        raise UserError(f"{path.name} cannot be read as an ONNX file of float32 weights") from error
    named = {name: tensor for name, tensor in tensors.items() if f".{BODY}." in name}
    named |= {layer: tensors[weight].T.contiguous() for weight, layer in products.items() if weight in tensors}
    return {name.partition(f"{BODY}.")[2]: tensor for name, tensor in named.items()}


def _tensor(message: memoryview) -> tuple[str, torch.Tensor]:
    dims, name, kind, raw = [], "", 0, memoryview(b"")
    for field, value in _fields(message):
        if field == 1:
            dims.append(_number(value))
        elif field == 2:
            kind = _number(value)
        elif field == 8:
            name = bytes(_message(value)).decode()
        elif field == 9:
            raw = _message(value)
    if kind != 1:
        raise ValueError(f"{name} is not float32")
    return name, torch.frombuffer(bytearray(raw), dtype=torch.float32).view(dims)


def _product(message: memoryview) -> dict[str, str]:
    """{the matrix's name in the graph: the name of the layer's weight}, for a node that multiplies by a matrix."""
    texts: dict[int, list[str]] = {1: [], 3: [], 4: []}
    for field, value in _fields(message):
        if field in texts:
            texts[field].append(bytes(_message(value)).decode())
    if texts[4] != ["MatMul"]:
        return {}
    return {texts[1][1]: texts[3][0].removesuffix("/MatMul").replace("/", ".") + ".weight"}


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) in order; a value is an integer, or the bytes of anything else."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key & 7 == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        size, at = _varint(message, at) if key & 7 == 2 else ({1: 8, 5: 4}[key & 7], at)
        if at + size > len(message):
            raise ValueError("cut off")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """An integer, stored as seven bits per byte, lowest first, and where the next value starts."""
    number = shift = 0
    while True:
        number |= (message[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if message[at - 1] < 128:
            return number, at


def _number(value: int | memoryview) -> int:
    if isinstance(value, memoryview):
        raise ValueError("bytes where a number is due")
    return value


def _message(value: int | memoryview) -> memoryview:
    if not isinstance(value, memoryview):
        raise ValueError("a number where bytes are due")
    return value
