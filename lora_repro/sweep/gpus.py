"""Which GPU a run of a sweep computes on: its own, or one that it shares with up to `launch.per_gpu` - 1 other runs.

A step of GPT-2 medium under LoRA keeps an A100 busy for a third of its time, so several runs on one card finish sooner. Each
run gives the same numbers as it would alone. The cards are those of CUDA_VISIBLE_DEVICES, else all that nvidia-smi lists, else
(in containers without it) those that torch counts by NVML, which starts nothing on a card.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import takewhile
from pathlib import Path

from lora_repro import console
from lora_repro.errors import Busy
from lora_repro.records import record

# Makes torch.cuda.is_available ask NVML: its default check initialises CUDA, and then no forked run could use it.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")


def visible_gpus() -> list[str]:
    """The cards that this process may use, by index or name. As for CUDA, an index of -1 hides itself and all after it."""
    if (devices := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in takewhile(lambda name: name != "-1", map(str.strip, devices.split(","))) if name]
    if shutil.which("nvidia-smi") is None:
        import torch  # slow to import, here and below

        return [str(n) for n in range(torch.cuda.device_count())]
    process = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    return [str(n) for n, _ in enumerate(line for line in process.stdout.splitlines() if line.startswith("GPU "))]


def usable_gpus(device: str) -> list[str]:
    """The cards that runs of `device` (auto, cpu, cuda, cuda:1) are distributed over; empty if torch uses none."""
    if device == "cpu":
        return []
    import torch

    if not torch.cuda.is_available():
        return []
    place = device.partition(":")[2]
    return [name for n, name in enumerate(visible_gpus()) if place in ("", str(n))]


def cpu_fallback_warning(device: str, profile: str) -> str | None:
    """The warning if `auto` takes the CPU though a GPU was to be expected; None otherwise."""
    if device != "auto":
        return None
    import torch

    if torch.cuda.is_available():
        return None
    if cards := visible_gpus():
        return f"device=auto takes the CPU: {len(cards)} GPUs are here, but torch {torch.__version__} can use none"
    return "device=auto takes the CPU: torch finds no GPU, and profile paper is meant for one" if profile == "paper" else None


def say_if_cpu(device: str, profile: str) -> None:
    """Print `cpu_fallback_warning`."""
    if warning := cpu_fallback_warning(device, profile):
        console.say(warning)


@contextmanager
def own_gpu(
    per_gpu: int = 1, device: str = "auto", stopping: Callable[[], bool] = lambda: False
) -> Iterator[dict[str, str]]:
    """The environment of a run with a card that fewer than `per_gpu` runs on this machine use, the least used first.

    Waits until there is one. Raises Busy if `stopping` says so meanwhile.
    """
    cards = usable_gpus(device)
    if not cards:
        yield {}
        return
    places = [(slot, card) for slot in range(per_gpu) for card in cards]
    with ExitStack() as stack:
        while not stopping():
            for slot, card in places:
                name = f"lora_repro_{os.getuid()}_gpu_{card}{f'_{slot}' if slot else ''}"
                try:
                    stack.enter_context(record.lock(Path(tempfile.gettempdir()) / name))
                except Busy:
                    continue
                yield {} if ":" in device else {"CUDA_VISIBLE_DEVICES": card}  # cuda:1 is an index into the visible cards
                return
            time.sleep(1)
        raise Busy("stopped while other runs had all GPUs")
