"""A measurement written by hand, for the tests of its tables and figure."""

from __future__ import annotations

import copy
from typing import Any

LABELS = {
    "plain": "Plain model", "plain_again": "Plain model, second copy", "lora_merged": "LoRA, merged",
    "adapter_l_large": "AdapterL, r 224",
}  # fmt: skip
SLOW = {"plain_again": (0.1, -0.4, 0.6), "lora_merged": (-0.2, -0.9, 0.3), "adapter_l_large": (21.5, 19.0, 24.25)}


def entry(row: str, batch: int, length: int, backbone: str = "gpt2_small") -> dict[str, Any]:
    slow = dict(zip(("median", "low", "high"), SLOW[row], strict=True)) if row in SLOW else None
    return {
        "backbone": backbone, "batch": batch, "length": length, "row": row, "label": LABELS[row],
        "parameters": 11_000_000 if row == "adapter_l_large" else 0, "total": 124_439_808, "median_ms": 100.0 * batch,
        "slowdown": slow and {**slow, "n": 3}, "ms": [100.0, 101.0, 99.0],
    }  # fmt: skip


def memory(row: str, label: str, parameters: int, peak: int) -> dict[str, Any]:
    return {
        "backbone": "gpt2_small", "row": row, "label": label, "parameters": parameters, "total": 124_439_808,
        "quantised": 0, "weights_bytes": 4 * 124_439_808,
        "loaded_mib": 800, "peak_mib": peak, "state_bytes": 8 * parameters + 4,
        "gradient_bytes": 4 * parameters, "activation_bytes": 50_000_000, "file_bytes": 4 * parameters + 90,
    }  # fmt: skip


def step(row: str, label: str, ms: list[float], slow: tuple[float, float, float] | None) -> dict[str, Any]:
    slowdown = slow and {**dict(zip(("median", "low", "high"), slow, strict=True)), "n": 3}
    return {"backbone": "gpt2_small", "row": row, "label": label, "tokens": 128, "ms": ms, "slowdown": slowdown}


def measurement(**change: Any) -> dict[str, Any]:
    """Three cells of one backbone, 1 x 128 among them, which the paper prints; two methods' memory."""
    cells = [(1, 64), (1, 128), (2, 128)]
    benchmark = {
        "schema": 1, "name": "latency", "signature": "s", "status": "finished", "profile": "mini",
        "asked": {"overrides": [], "bench": {"rounds": 3, "train_steps": 4, "train_batch": 1, "train_length": 128}},
        "backbones": {"gpt2_small": "GPT-2 small, random weights"},
        "latency": [entry(row, *cell) for cell in cells for row in LABELS],
        "memory": [memory("lora", "LoRA", 147_456, 1000), memory("full", "Full fine-tuning", 124_439_808, 2600)],
        "steps": [
            step("lora", "LoRA", [350.0, 375.0, 360.0], (-25.0, -30.0, -20.0)),
            step("full", "Full fine-tuning", [500.0, 500.0, 450.0], None),
        ],
        "arithmetic": [
            {"label": "GPT-3 175B", "row": "lora", "width": 2, "parameters": 18_874_368, "total": 174_591_683_584},
            {"label": "GPT-3 175B", "row": "full", "width": 2, "parameters": 174_591_683_584, "total": 174_591_683_584},
        ],
        "where": {"device": "Some CPU, 2 threads", "kind": "cpu", "threads": 2, "load_before": 0.1, "dirty": False},
    }  # fmt: skip
    return {**copy.deepcopy(benchmark), **change}
