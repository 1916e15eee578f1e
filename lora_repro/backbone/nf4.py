"""Matrices in NF4 (QLoRA, Dettmers et al. 2023, arXiv 2305.14314, Section 3), quantised and dequantised by bitsandbytes.

    code    which of 16 quantiles of the normal distribution is nearest to w / scale       4 bits a value
    scale   the largest |w| of 64 values: a float32                                        0.5 bits a value
            or, quantised again in blocks of 256 less their mean, 8 bits and a float32     0.127 bits a value
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from lora_repro.backbone import weights
from lora_repro.backbone.addressed import AddressedModel
from lora_repro.backbone.architecture import KINDS
from lora_repro.errors import NotAvailable

BLOCK = 64  # values that share a scale
SCALES = 256  # scales that share a scale of their own, with double quantisation


def missing_package_error(feature: str) -> NotAvailable | None:
    """The error for a feature that needs bitsandbytes; None if that is installed."""
    if importlib.util.find_spec("bitsandbytes"):
        return None
    return NotAvailable(f"{feature} needs bitsandbytes: pip install -e '.[qlora]'")


@cache
def bitsandbytes() -> Any:
    """The package, imported without its log messages about optional kernels."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        import bitsandbytes
        import bitsandbytes.functional
    finally:
        logging.disable(before)
    return bitsandbytes


class Nf4Matrix(weights.StoredMatrix):
    """x W^T + b, W (out, in) in NF4. Codes are computed on `weight`'s device and move with the module.

    W is dequantised for each product, forward and backward, and never kept: the backward pass, too, stores only the 4-bit codes.
    """

    codes: torch.Tensor
    scales: torch.Tensor
    outer: torch.Tensor | None  # the scales' scales
    mean: torch.Tensor | None

    def __init__(
        self, weight: torch.Tensor, bias: nn.Parameter | None = None, double: bool = True, transposed: bool = False
    ) -> None:
        super().__init__()
        library = bitsandbytes().functional
        codes, state = library.quantize_4bit(
            weight.detach().float().contiguous(), blocksize=BLOCK, compress_statistics=double, quant_type="nf4"
        )
        self._sizes = (weight.shape[1], weight.shape[0])
        self.transposed = transposed
        self.bias = bias
        self.register_buffer("codes", codes)
        self.register_buffer("scales", state.absmax)
        self.register_buffer("outer", state.state2.absmax if double else None)
        self.register_buffer("mean", state.offset if double else None)

    @property
    def sizes(self) -> tuple[int, int]:
        return self._sizes

    @property
    def state(self) -> Any:
        """The scales in bitsandbytes' form. Its tables are shared: a copy per matrix would take more than small scales do.

        W is given as flat: the CPU kernel of version 0.50 starts a new scale at every row, which is wrong if `in` is no multiple
        of 64.
        """
        library, device = bitsandbytes().functional, self.codes.device
        normal, dynamic = _tables(device)
        flat = torch.Size((self.sizes[0] * self.sizes[1],))
        fields = {"absmax": self.scales, "code": normal, "shape": flat, "dtype": torch.float32, "blocksize": BLOCK}
        if self.outer is None:
            return library.QuantState(quant_type="nf4", **fields)
        outer = library.QuantState(absmax=self.outer, code=dynamic, blocksize=SCALES, dtype=torch.float32)
        return library.QuantState(quant_type="nf4", offset=self.mean, state2=outer, **fields)

    def read(self) -> torch.Tensor:
        flat = cast(torch.Tensor, bitsandbytes().functional.dequantize_4bit(self.codes, self.state))
        return flat.reshape(self.sizes[1], self.sizes[0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        out = cast(torch.Tensor, _Product.apply(x, self))  # type: ignore[no-untyped-call]
        return out if self.bias is None else out + self.bias.to(out.dtype)


class _Product(torch.autograd.Function):
    """x W^T, and g W for the gradient g; W is dequantised again for each."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, matrix: Nf4Matrix) -> torch.Tensor:
        ctx.matrix = matrix
        return F.linear(x, matrix.read().to(x.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient @ ctx.matrix.read().to(gradient.dtype), None


@cache
def _tables(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The 16 levels of a weight and the 256 of a scale."""
    library = bitsandbytes().functional
    return library.get_4bit_type("nf4", device=device), library.create_dynamic_map().to(device)


def quantise(model: AddressedModel, double: bool = True) -> None:
    """Keep every matrix of the blocks in NF4. Embeddings, LayerNorms, biases and the head stay as they are, as in the paper.

    Raises NotAvailable without bitsandbytes.
    """
    replace_matrices(model, lambda weight, bias, transposed: Nf4Matrix(weight, bias, double, transposed))
    for tensor in (*model.model.parameters(), *model.model.buffers()):
        tensor.data = tensor.data.clone()  # a checkpoint's whole file stays in memory as long as one tensor is a view of it


def replace_matrices(
    model: AddressedModel, make: Callable[[torch.Tensor, nn.Parameter | None, bool], weights.StoredMatrix]
) -> None:
    """Replace every matrix of the blocks by what `make` returns for its weight (out, in), its bias and `transposed`."""
    for layer in range(model.n_layers):
        for place in (place for kind in KINDS for place in model.projections(layer, kind)):
            module = place.module
            if isinstance(module, weights.StoredMatrix):
                continue  # part of a fused matrix that is already quantised
            bias: Any = module.bias
            place.replace(make(weights.read(module), bias, weights.transposed(module)))
