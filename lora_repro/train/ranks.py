"""The processes that share one run's batches: a single one, unless torchrun started more.

Each rank computes the gradients of its rows of every global batch; these are summed over the ranks, so the weights are those
of a single process. Only the first rank validates, writes and answers; the others receive its results.
"""

from __future__ import annotations

import atexit
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
from torch import nn

from lora_repro.errors import UserError

T = TypeVar("T")
PATIENCE = timedelta(days=7)  # how long the others wait for the first, which validates and decodes alone


def world_size() -> int:
    """How many processes torchrun started for this run; 1 without it."""
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"WORLD_SIZE={text!r} is not a number of processes: start them with torchrun, or unset it")
    return int(text)


@cache
def _join(cpu: bool) -> Any:
    """Join the other processes (gloo on CPU, nccl on GPUs). Imported here: one process needs no accelerate."""
    from accelerate import PartialState

    try:
        state = PartialState(cpu=cpu, timeout=PATIENCE)
    except (ValueError, KeyError, RuntimeError, OSError) as error:
        why = str(error).partition("\n")[0][:150]
        raise UserError(f"WORLD_SIZE={world_size()}: the processes did not connect ({why}); start them with torchrun") from error
    atexit.register(state.destroy_process_group)
    return state


@dataclass(frozen=True)
class Ranks:
    """Rank `rank` of `size`, on `device`. With one process every method returns its input."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls, device: str) -> Ranks:
        """This process's place. `device`: cpu, cuda, or auto: cuda where there is one.

        Raises UserError for any other, for a GPU that is not there, or if the processes that torchrun started cannot work
        together on it.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
            raise UserError(f"device must be auto, cpu or cuda, not {device}")
        if device != "cpu" and int(device.partition(":")[2] or 0) >= torch.cuda.device_count():
            raise UserError(f"device={device}: torch finds {torch.cuda.device_count()} GPUs here; use device=cpu or auto")
        if world_size() == 1:
            return cls(torch.device(device))
        state = _join(cpu=device == "cpu")
        if state.num_processes != world_size():
            raise UserError(f"{world_size()} processes cannot share device={device}: use torchrun, and no GPU number")
        # accelerate says cpu:0, which is the same device as cpu.
        place = torch.device("cpu") if device == "cpu" else state.device
        return cls(place, state.process_index, state.num_processes)

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, rows: list[T]) -> list[T]:
        """This rank's rows of a global batch: every `size`-th one."""
        return rows if self.size == 1 else rows[self.rank :: self.size]

    def seed(self, seed: int, step: int) -> None:
        """Give each of several ranks its own dropout masks at `step` (from 1), which a resumed run repeats."""
        if self.size > 1:
            torch.manual_seed((seed * 1_000_003 + step - 1) * self.size + self.rank)

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the ranks, in one transfer. A gradient that no rank has stays None."""
        if self.size == 1:
            return
        from accelerate.utils import reduce

        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = reduce(torch.cat([gradient.flatten() for gradient in gradients]), "sum")
        for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))

    def total(self, *values: float) -> tuple[float, ...]:
        """Each value's sum over the ranks."""
        if self.size == 1:
            return values
        from accelerate.utils import reduce

        return tuple(reduce(torch.tensor(values, dtype=torch.float64, device=self.device), "sum").tolist())

    def led(self, compute: Callable[[], T]) -> T:
        """Call `compute` on the first rank only and return its result on every rank."""
        if self.size == 1:
            return compute()
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([compute() if self.first else None])[0]  # type: ignore[no-any-return]

    @contextmanager
    def hold(self, lock: AbstractContextManager[None]) -> Iterator[None]:
        """Have the first rank hold a lock for all ranks. A UserError from the lock is raised on every rank."""
        with ExitStack() as stack:

            def enter() -> UserError | None:
                try:
                    stack.enter_context(lock)
                except UserError as error:
                    return error
                return None

            if refusal := self.led(enter):
                raise refusal
            yield

    def in_turn(self) -> AbstractContextManager[None]:
        """A block that the first rank runs before the others."""
        return nullcontext() if self.size == 1 else _join(self.device.type == "cpu").main_process_first()
