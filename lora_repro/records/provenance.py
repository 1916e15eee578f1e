"""Where a run happened: code, versions, machine, memory."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from lora_repro.config import paths

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "datasets", "evaluate", "hydra-core", "pycocoevalcap")
# The files that can change a number. Changes to results, documents or tests do not make a run dirty.
SCIENCE = ("lora_repro", "conf", "experiments", "pyproject.toml")
CPUINFO = Path("/proc/cpuinfo")
UNITS = {"amx_bf16": "AMX", "avx512_bf16": "BF16"}  # a CPU's units for bf16 products: Linux's name -> the name in `kernels`


def _git(*arguments: str) -> str | None:
    if paths.INSTALLED:  # a repository around it would not be this project's
        return None
    try:
        process = subprocess.run(["git", *arguments], cwd=paths.LIBRARY, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout.strip()


def _look() -> dict[str, Any]:
    sha = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--", *(f":/{name}" for name in SCIENCE))
    return {"git_sha": sha, "dirty": sha is None or changes is None or changes != ""}


# Looked up once, on import: a process runs the code that it imported, whatever is committed or stashed later.
_IMPORTED = _look()


def _changed(sha: str) -> bool:
    """Whether the science files are no longer those of a commit."""
    names = [f":/{name}" for name in SCIENCE]
    if _git("diff", "--quiet", sha, "--", *names) is None:
        return True
    return _git("ls-files", "--others", "--exclude-standard", "--", *names) != ""


def recheck() -> None:
    """Count this process's code as changed if the science files are no longer those of its import.

    To be called once everything that a run names is imported: a run that is forked from a server, as each run of a sweep is,
    imports its method and task, and reads conf/, long after the server looked.
    """
    if not _IMPORTED["dirty"] and _changed(str(_IMPORTED["git_sha"])):
        _IMPORTED["dirty"] = True


def code() -> dict[str, Any]:
    """Commit and whether the science files differ from it. Without git both are unknown, and unknown counts as dirty."""
    return dict(_IMPORTED)


def joined(before: dict[str, Any] | None, now: dict[str, Any]) -> dict[str, Any]:
    """Code and machine of a run that took several attempts.

    It is dirty unless all attempts ran the same clean commit. A device, kernel class or precision that changed is `A, then B`.
    """
    if not before:
        return now
    provenance = {**before, **now}
    if any(before.get(key) != now.get(key) for key in ("git_sha", "dirty")):
        provenance["dirty"] = True
    for key in ("device", "kernels", "precision"):
        first, second = before.get(key), now.get(key)
        if first and second:
            provenance[key] = first if first.split(", then ")[-1] == second else f"{first}, then {second}"
    return provenance


def machine(device: torch.device, autocast: torch.dtype | None) -> dict[str, str]:
    """The device of a run, its kernel class, and its precision."""
    return {"device": device_name(device), "kernels": kernels(device), "precision": precision(device, autocast)}


def attempt(device: torch.device, autocast: torch.dtype | None, before: dict[str, Any] | None = None) -> dict[str, Any]:
    """Code and machine of this attempt at a run, `joined` with those of the attempts `before` it."""
    return joined(before, {**code(), **machine(device, autocast)})


def versions() -> dict[str, str]:
    packages = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    return packages


def device_name(device: torch.device) -> str:
    """GPU name, or CPU model and the number of threads torch uses."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    cpu = _cpu("model name") or platform.processor() or platform.machine()
    return f"{cpu}, {torch.get_num_threads()} threads"


def _cpu(key: str) -> str:
    """An entry of the first CPU in Linux's /proc/cpuinfo; empty on other systems."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")


def kernels(device: torch.device) -> str:
    """The class of a device's arithmetic: between classes bf16 rounds differently, which may move the score of a seed by points.

    A CPU's class is the vector width that torch uses and, for AVX512, its units for bf16 products: `x86_64 AVX512 AMX BF16`,
    `x86_64 AVX512 no BF16`. These units are missing in older records (`x86_64 AVX512`) and on systems other than Linux.
    """
    if device.type == "cuda":
        return "CUDA {}.{}".format(*torch.cuda.get_device_capability(device))
    width, flags = torch.backends.cpu.get_cpu_capability(), _cpu("flags").split()
    units = [name for flag, name in UNITS.items() if flag in flags] or ["no BF16"]
    return " ".join([platform.machine(), width, *(units if flags and width == "AVX512" else [])])


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def where(attempts: dict[str, Any]) -> dict[str, Any]:
    """The provenance in a record: code and machine of all attempts (`joined`), time, versions."""
    return {**attempts, "finished_at": now(), "versions": versions()}


def precision(device: torch.device, autocast: torch.dtype | None) -> str:
    """The arithmetic of matrix products, in words."""
    if autocast is None:
        tf32 = device.type == "cuda" and torch.get_float32_matmul_precision() == "high"
        return "fp32, products in TF32" if tf32 else "fp32"
    return "fp16 autocast, scaled loss" if autocast is torch.float16 else "bf16 autocast"


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peak, so that a run in a sweep does not inherit that of the run before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):  # not Linux: the peak is then that of the whole process
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_mb(device: torch.device) -> int:
    """Peak memory in MiB: of the GPU's allocator, or the resident set of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) // 2**20
    try:
        for line in Path(f"/proc/{os.getpid()}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) // 1024
    except OSError:
        pass
    unit = 2**20 if sys.platform == "darwin" else 1024  # macOS counts bytes, others KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit
