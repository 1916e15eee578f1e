"""On which machines runs were computed, as far as their records tell them apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def machine(where: Mapping[str, Any]) -> str:
    """Processor, without its threads, and class of arithmetic: `AMD EPYC, x86_64 AVX512 BF16`. where: of a record."""
    processor, _, threads = str(where.get("device", "")).rpartition(", ")
    found = [processor or threads, str(where.get("kernels") or "")]
    return ", ".join(filter(None, found)) or "an unknown device"


def alike(one: str, other: str) -> bool:
    """Whether two may be one machine: an older record does not say by which units its CPU multiplies bf16."""
    return one == other or one.startswith(f"{other} ") or other.startswith(f"{one} ")


def machines(places: Iterable[Mapping[str, Any]]) -> list[str]:
    """Each machine once; what may be one that is told more closely is not told again."""
    found = sorted({machine(where) for where in places})
    return [one for one in found if not any(other.startswith(f"{one} ") for other in found)]
