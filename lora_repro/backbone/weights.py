"""A weight matrix of the backbone: read it, write it, get its sizes. Only this module knows how it is stored.

    nn.Linear        `weight` (out, in)
    Conv1D, GPT-2's  `weight` (in, out)
    StoredMatrix     codes of its own, such as four bits per value: one file of this folder; methods need no change

A method may wrap a matrix; the wrapper keeps it as `base`, and every function here looks through wrappers.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from lora_repro.errors import UserError


class StoredMatrix(nn.Module, abc.ABC):
    """x W^T + b with a frozen W that is not kept as floats. A subclass keeps its codes in buffers and implements `forward`.

    `bias` (out) is a parameter as in a linear layer, or None; a method may train or add one. `transposed`: whether the original
    weight was (in, out).
    """

    bias: nn.Parameter | None
    transposed: bool = False

    @property
    @abc.abstractmethod
    def sizes(self) -> tuple[int, int]:
        """(in, out)."""

    @abc.abstractmethod
    def read(self) -> torch.Tensor:
        """A copy of W (out, in) as floats."""

    def write(self, weight: torch.Tensor) -> None:
        """Store another W. Raises UserError if rounding to the codes would lose what was added."""
        raise UserError("cannot merge into a quantised backbone: dequantise it first (export --dequantise)")


class HeadwiseMatrix(nn.Module):
    """A fused matrix as [query; key; value], for a model that reads its output head by head: [q_1; k_1; v_1; q_2; ...].

    `matrix` is the model's own linear layer with its rows in the new order. `state_dict` gives and takes the model's names and
    order, so that files stay as transformers writes them.
    """

    def __init__(self, matrix: nn.Linear, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.matrix = matrix
        for tensor in (parameter for parameter in matrix.parameters() if not parameter.is_meta):
            tensor.data = self.together(tensor.data)
        self.register_state_dict_post_hook(_as_written)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_as_read)  # type: ignore[no-untyped-call]

    def together(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows (3 d, ...) grouped by head, regrouped as [query; key; value]."""
        return rows.reshape(self.heads, 3, -1, *rows.shape[1:]).transpose(0, 1).reshape(rows.shape)

    def by_head(self, rows: torch.Tensor) -> torch.Tensor:
        """The inverse of `together`."""
        return rows.reshape(3, self.heads, -1, *rows.shape[1:]).transpose(0, 1).reshape(rows.shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.matrix(x)  # (..., 3 d)
        return out.reshape(*out.shape[:-1], 3, self.heads, -1).transpose(-3, -2).reshape(out.shape)


def _as_written(module: nn.Module, state: dict[str, torch.Tensor], prefix: str, metadata: object) -> None:
    assert isinstance(module, HeadwiseMatrix)
    for name in ("weight", "bias"):
        if f"{prefix}matrix.{name}" in state:
            state[f"{prefix}{name}"] = module.by_head(state.pop(f"{prefix}matrix.{name}"))


def _as_read(module: nn.Module, state: dict[str, torch.Tensor], prefix: str, *_: object) -> None:
    assert isinstance(module, HeadwiseMatrix)
    for name in ("weight", "bias"):
        if f"{prefix}{name}" in state:
            state[f"{prefix}matrix.{name}"] = module.together(state.pop(f"{prefix}{name}"))


def chain(module: nn.Module) -> Iterator[nn.Module]:
    """The module, the module that it wraps, and so on to the plain matrix."""
    while True:
        yield module
        inner = getattr(module, "base", None)
        if not isinstance(inner, nn.Module):
            return
        module = inner


def bare(module: nn.Module) -> nn.Module:
    """The plain matrix itself."""
    return list(chain(module))[-1]


def is_dense(module: nn.Module) -> bool:
    """Whether the matrix has a float weight tensor of its own; one that is computed at each call has none."""
    return isinstance(module, nn.Linear | Conv1D) and "weight" in dict(module.named_parameters(recurse=False))


def is_matrix(module: nn.Module) -> bool:
    return is_dense(module) or isinstance(module, StoredMatrix)


def transposed(module: nn.Module) -> bool:
    """Whether the weight is kept as (in, out)."""
    return isinstance(bare(module), Conv1D)


def sizes(module: nn.Module) -> tuple[int, int]:
    """(in, out)."""
    plain = bare(module)
    if isinstance(plain, StoredMatrix):
        return plain.sizes
    out, inputs = read(plain).shape
    return inputs, out


def read(module: nn.Module) -> torch.Tensor:
    """W (out, in): a view of a dense weight, in its own dtype; a copy for any other storage."""
    plain = bare(module)
    if isinstance(plain, StoredMatrix):
        return plain.read()
    weight = plain.weight
    assert isinstance(weight, torch.Tensor)
    return weight.T if isinstance(plain, Conv1D) else weight


@torch.no_grad()
def write(module: nn.Module, weight: torch.Tensor) -> None:
    """W <- weight (out, in), rounded to the matrix's dtype. Raises UserError if the matrix cannot be written."""
    plain = bare(module)
    if isinstance(plain, StoredMatrix):
        plain.write(weight)
    elif not is_dense(plain):
        raise UserError("cannot merge into a weight that another method computes at each call: remove that method first (strip)")
    else:
        read(plain).copy_(weight)


def round_frozen(model: nn.Module, dtype: torch.dtype | None, embedding: nn.Module) -> None:
    """Keep the frozen weights of matrix products in the autocast dtype.

    Autocast rounds each of them at every call anyway (its cache holds trained weights only), so results stay bit-identical, and
    4 of the 6 bytes per weight and call are saved: 0.6 GB per forward pass of SmolLM2-135M. A head that shares the embedding's
    weight is untied, since an embedding is looked up in float32. Call this with everything frozen (before decoding) or with the
    trained parameters marked by requires_grad (before training): those stay as they are.
    """
    if dtype is None:
        return
    for module in filter(is_dense, list(model.modules())):
        weight = read(module)
        if weight.requires_grad or (weight is embedding.weight and any(p.requires_grad for p in embedding.parameters())):
            continue
        assert isinstance(module.weight, torch.Tensor)
        module.weight = nn.Parameter(module.weight.detach().to(dtype), requires_grad=False)


def count_values(module: nn.Module) -> int:
    """Number of values in all weights inside `module`, tied ones once, however they are stored."""
    n_codes = sum(part.sizes[0] * part.sizes[1] for part in module.modules() if isinstance(part, StoredMatrix))
    return n_codes + sum(parameter.numel() for parameter in module.parameters())


def stored_bytes(model: nn.Module) -> int:
    """Bytes of a model's parameters and buffers, tied ones once."""
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def dequantise(model: nn.Module) -> int:
    """Replace every stored matrix by a plain float32 one of the same values and bias. Returns how many.

    This loses the memory that the codes saved. An update merged into the floats may be lost when the sum is quantised again: the
    levels may be further apart than the update is large.
    """
    count = 0
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, StoredMatrix):
                setattr(parent, name, _dense(module))
                count += 1
    return count


def _dense(matrix: StoredMatrix) -> nn.Module:
    inputs, out = matrix.sizes
    with torch.device("meta"):
        plain: nn.Module = nn.Linear(inputs, out, bias=matrix.bias is not None)
        if matrix.transposed:
            plain = Conv1D(out, inputs)  # type: ignore[no-untyped-call]
    weight = matrix.read()
    plain.weight = nn.Parameter(weight.T.contiguous() if matrix.transposed else weight, requires_grad=False)
    if matrix.bias is not None:
        plain.bias = matrix.bias
    return plain.train(matrix.training)


def refuse_stored(modules: Iterable[nn.Module], method: str) -> None:
    """Raise UserError if a matrix inside `modules`, whose weights the method changes, is not stored as floats."""
    if any(isinstance(part, StoredMatrix) for module in modules for part in module.modules()):
        raise UserError(f"{method} trains the backbone's own weights, which are quantised here: set backbone.quantise=null")
