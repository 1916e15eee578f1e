"""Runs of a sweep side by side, where Hydra's basic launcher would make them one by one.

- On a CPU: one thread each, as many runs as there are cores and as memory allows. Two threads make a run faster, but not twice
  as fast: two runs of one thread each end 1.15 to 1.28 times sooner than one after the other on two threads (two cores).
- On GPUs: as many runs as there are cards, times `launch.per_gpu`; `gpus` gives each run its card.
"""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from omegaconf import OmegaConf

from lora_repro import console
from lora_repro.errors import Terminated, UserError
from lora_repro.planning.cells import Cell
from lora_repro.sweep import gpus, supervise

SPARE = 0.9  # the share of free memory to use: forecasts cover the runs, not what else this machine will do
CGROUP = Path("/sys/fs/cgroup")  # in a container its own limits stand here
# By version 2 and version 1: quota and period of time; limit and use of memory, and what it is used for.
CPU = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
MEMORY = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)

_pool: ThreadPoolExecutor | None = None
_begun: list[Future[object]] = []


def at_once(missing: Sequence[Cell]) -> int:
    """How many of these runs to make at a time: `launch.together`, or if that is 0 as many as cards, or cores and memory, allow.

    A run of several processes uses all cards. Runs whose memory cannot be forecast are made one after another.
    """
    if len(missing) < 2:
        return 1
    launch = missing[0].asked["launch"]
    if launch["together"]:
        return min(int(launch["together"]), len(missing))
    from lora_repro.costs.forecast import (
        memory,  # here: they import torch, and a sweep whose runs are all there needs none
    )
    from lora_repro.train.ranks import Ranks

    device = missing[0].asked["device"]
    if Ranks.here(device).device.type != "cpu":
        places = len(gpus.usable_gpus(device)) * int(launch["per_gpu"])
        return max(1, min(places, len(missing))) if int(launch["processes"]) == 1 else 1
    omp_threads = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # one number per level of nesting: 2,1
    threads = (int(omp_threads) if omp_threads.isdecimal() else 1) * int(launch["processes"])
    most = min(cores() // max(1, threads), len(missing))
    if most < 2:
        return 1
    try:
        largest = max(memory(OmegaConf.create(config)) for config in _different(missing))
    except UserError:
        return 1
    return max(1, min(most, int(SPARE * free_memory() / (largest * int(launch["processes"])))))


def cores() -> int:
    """The cores that this process may use, by its affinity and its container's share of time."""
    number = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for files in CPU:
        with suppress(OSError, ValueError):  # no such file; no limit
            quota, period = map(int, _words(files))
            number = min(number, math.ceil(quota / period)) if quota > 0 else number
    return number


def free_memory() -> int:
    """The bytes that this machine has free, or its container if that has less. Files kept in memory give way: they are free."""
    free = int(psutil.virtual_memory().available)
    for files in MEMORY:
        with suppress(OSError, ValueError):
            limit, used, *facts = _words(files)
            cache = "total_inactive_file" if "total_inactive_file" in facts else "inactive_file"
            free = min(free, int(limit) - int(used) + int(facts[facts.index(cache) + 1]))
    return free


def _words(files: Sequence[str]) -> list[str]:
    return " ".join((CGROUP / name).read_text() for name in files).split()


def _different(missing: Sequence[Cell]) -> list[dict[str, object]]:
    """The configurations of these cells, once for all seeds."""
    alike = dict.fromkeys(("seed", "starts_from", "row"))
    return list({json.dumps({**cell.asked, **alike}, sort_keys=True): cell.asked for cell in missing}.values())


@contextmanager
def side_by_side(runs: int) -> Iterator[None]:
    """Let `submit` run this many at once; on exit all of them have ended. Ctrl-C stops the current runs and starts no more."""
    global _pool
    if runs < 2:
        yield
        return
    os.environ[console.TOGETHER] = "1"
    with ThreadPoolExecutor(runs) as _pool:
        try:
            yield
            _pool.shutdown()
            for run in _begun:
                run.result()  # raises the run's exception
        except KeyboardInterrupt as error:
            supervise.stop(signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
            raise
        finally:
            _pool = None
            _begun.clear()
            os.environ.pop(console.TOGETHER)


def submit(start: Callable[[], object]) -> None:
    """Start a run and wait for its end; inside `side_by_side` do not wait."""
    if _pool is None:
        start()
    else:
        _begun.append(_pool.submit(start))
