"""The machines on which runs were computed, as far as records tell them apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def machine(where: Mapping[str, Any]) -> str:
    """Processor without its thread count, and its instruction set: `AMD EPYC, x86_64 AVX512 BF16`. where: from a record."""
    processor, _, threads = str(where.get("device", "")).rpartition(", ")
    parts = [processor or threads, str(where.get("kernels") or "")]
    return ", ".join(filter(None, parts)) or "an unknown device"


def alike(one: str, other: str) -> bool:
    """Whether two descriptions may be the same machine: older records do not say which units multiply bf16."""
    return one == other or one.startswith(f"{other} ") or other.startswith(f"{one} ")


def machines(places: Iterable[Mapping[str, Any]]) -> list[str]:
    """Each machine once. A description is dropped if a longer one that begins with it is listed."""
    names = sorted({machine(where) for where in places})
    return [one for one in names if not any(other.startswith(f"{one} ") for other in names)]
