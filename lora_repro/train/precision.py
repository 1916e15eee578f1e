"""Which arithmetic a run uses, and how to stop paying for the same rounding again and again."""

from __future__ import annotations

import torch
from torch import nn

from lora_repro.backbone import weights

FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}


def resolve_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """The autocast dtype for `auto`, `bf16`, `fp16` or `fp32`; None is plain fp32.

    `auto`: bf16 where the device computes in it, fp16 on GPUs that only emulate it (V100, T4), fp32 on other CPUs.
    """
    if precision != "auto":
        return FORMATS[precision]
    if device.type == "cuda":  # torch counts emulation, slower than fp32, as support unless told not to
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    # A private name of torch: where a version lacks it, fp32 is the safe answer.
    cpu_has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.bfloat16 if cpu_has_bf16() else None


def allow_tf32(device: torch.device, dtype: torch.dtype | None) -> None:
    """Have a GPU's float32 products computed from 10 bits of mantissa where it can (from Ampere on), several times as fast."""
    if device.type == "cuda" and dtype is None and torch.cuda.get_device_capability(device) >= (8, 0):
        torch.set_float32_matmul_precision("high")


def loss_scaler(device: torch.device, dtype: torch.dtype | None) -> torch.amp.GradScaler:
    """Multiplies an fp16 loss, so that small gradients are no zeros, and skips steps that overflow; idle in other formats.

    Micikevicius et al. 2018 (arXiv 1710.03740, Section 3.2), with torch's constants: from 65,536, halved after an overflow,
    doubled after 2,000 steps without one.
    """
    return torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)


def autocast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """The context of one forward pass; it does nothing where dtype is None."""
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def round_frozen(model: nn.Module, dtype: torch.dtype | None, embedding: nn.Module) -> None:
    """Keep the frozen weights of matrix products in the autocast dtype.

    Autocast rounds each of them at every call anyway (its cache holds trained weights only), so the results are the same to
    the bit, and 4 of the 6 bytes a weight and call are saved: 0.6 GB a forward pass of SmolLM2-135M. A head that shares the
    embedding's weight is untied, since an embedding is looked up in float32. Call it with everything frozen (before
    decoding) or with the trained parameters marked (before training): those stay as they are.
    """
    if dtype is None:
        return
    for module in filter(weights.is_dense, list(model.modules())):
        weight = weights.read(module)
        if weight.requires_grad or (weight is embedding.weight and any(p.requires_grad for p in embedding.parameters())):
            continue
        weights.narrow(module, dtype)
