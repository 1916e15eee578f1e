"""The arithmetic of a run, and rounding the frozen weights once instead of at every call."""

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
    if device.type == "cuda":  # by default torch counts emulation, which is slower than fp32, as support
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    # A private name of torch; if a version lacks it, fp32 is the safe choice.
    cpu_has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.bfloat16 if cpu_has_bf16() else None


def allow_tf32(device: torch.device, dtype: torch.dtype | None) -> None:
    """Let a GPU that has TF32 (Ampere or newer) compute float32 products from 10-bit mantissas, several times as fast."""
    if device.type == "cuda" and dtype is None and torch.cuda.get_device_capability(device) >= (8, 0):
        torch.set_float32_matmul_precision("high")


def loss_scaler(device: torch.device, dtype: torch.dtype | None) -> torch.amp.GradScaler:
    """Loss scaling for fp16, so that small gradients do not become zero; skips steps that overflow. Idle in other formats.

    Micikevicius et al. 2018 (arXiv 1710.03740, Section 3.2), with torch's constants: the factor starts at 65,536, is halved after
    an overflow and doubled after 2,000 steps without one.
    """
    return torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)


def autocast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """The context of one forward pass; it does nothing if dtype is None."""
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def round_frozen(model: nn.Module, dtype: torch.dtype | None, embedding: nn.Module) -> None:
    """Keep the frozen weights of matrix products in the autocast dtype.

    Autocast rounds each of them at every call anyway (its cache holds trained weights only), so results stay bit-identical, and
    4 of the 6 bytes per weight and call are saved: 0.6 GB per forward pass of SmolLM2-135M. A head that shares the embedding's
    weight is untied, since an embedding is looked up in float32. Call this with everything frozen (before decoding) or with the
    trained parameters marked by requires_grad (before training): those stay as they are.
    """
    if dtype is None:
        return
    for module in filter(weights.is_dense, list(model.modules())):
        weight = weights.read(module)
        if weight.requires_grad or (weight is embedding.weight and any(p.requires_grad for p in embedding.parameters())):
            continue
        weights.narrow(module, dtype)
