"""Which GPU a run of a sweep computes on: one of its own, or one that it shares with `launch.per_gpu` - 1 others.

A step of GPT-2 medium under LoRA keeps an A100 busy for a third of its time, so that several runs on one card finish sooner, and
each run's numbers are those it would have alone. The cards are those of CUDA_VISIBLE_DEVICES, else all that nvidia-smi lists: the
driver is not touched here, because runs are forked from this process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lora_repro.errors import Busy
from lora_repro.records import record


def listed() -> list[str]:
    """The cards that this process may use, by index or name."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in named.split(",") if name]
    if shutil.which("nvidia-smi") is None:
        return []
    found = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    return [str(n) for n, _ in enumerate(line for line in found.stdout.splitlines() if line.startswith("GPU "))]


@contextmanager
def own_gpu(per_gpu: int = 1) -> Iterator[dict[str, str]]:
    """The environment of a run: a card that fewer than `per_gpu` runs on this machine have, the emptiest first; waits for it."""
    cards = listed()
    if not cards:
        yield {}
        return
    places = [(slot, card) for slot in range(per_gpu) for card in cards]
    with ExitStack() as stack:
        while True:
            for slot, card in places:
                name = f"lora_repro_{os.getuid()}_gpu_{card}{f'_{slot}' if slot else ''}"
                try:
                    stack.enter_context(record.lock(Path(tempfile.gettempdir()) / name))
                except Busy:
                    continue
                yield {"CUDA_VISIBLE_DEVICES": card}
                return
            time.sleep(1)
