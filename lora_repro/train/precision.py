"""Which arithmetic a run uses, and how to stop paying for the same rounding again and again."""

from __future__ import annotations

import torch
from torch import nn

from lora_repro.backbone import weights


def resolve_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """The autocast dtype for `auto`, `bf16` or `fp32`; None is plain fp32. `auto`: bf16 where the device computes in it."""
    if precision == "fp32":
        return None
    # A private name of torch: where a version lacks it, fp32 is the safe answer.
    cpu_has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    # Older GPUs (V100, T4) only emulate it, slower than fp32; torch counts that as support unless told not to.
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else bool(cpu_has_bf16())
    return torch.bfloat16 if precision == "bf16" or fast else None


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
