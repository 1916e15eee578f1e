"""The arithmetic of a run: the format of its matrix products, and what that format needs."""

from __future__ import annotations

import torch

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
