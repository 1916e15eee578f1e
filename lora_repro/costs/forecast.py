"""What one run would cost, on this machine or on a named GPU: trained parameters, tokens, operations, time, memory and disk."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from omegaconf import DictConfig

from lora_repro.config.compose import build
from lora_repro.costs import arithmetic
from lora_repro.costs.arithmetic import Outline, Work
from lora_repro.costs.calibrate import speed
from lora_repro.costs.hardware import Card
from lora_repro.costs.meta_model import build_meta_model
from lora_repro.costs.workload import rows, workload
from lora_repro.errors import UserError
from lora_repro.run.stages import backbone_of
from lora_repro.tasks.base import Splits
from lora_repro.train.precision import resolve_precision
from lora_repro.train.ranks import Ranks


@dataclass(frozen=True)
class Forecast:
    """`trained`, `total`: parameters. `tokens`: training positions, padding included. `seconds`: of the whole run.

    In bytes: `memory` at the peak, `kept` on disk afterwards, `used` on disk meanwhile. `lengths`: where the token counts come
    from, `counted`, `documented` or `guessed`. `train_seconds`: of the training alone, the time of a learning-rate trial.
    """

    trained: int
    total: int
    tokens: int
    flops: float
    seconds: float
    memory: int
    kept: int
    used: int
    lengths: str
    train_seconds: float = 0.0
    test_rows: int = 0


def memory(config: DictConfig) -> int:
    """Peak bytes of one run on this machine, from documented or else counted lengths. Raises UserError if neither is known."""
    method, ranks = build(config.method), Ranks.here(config.device)
    if not method.needs_model:
        return arithmetic.PROCESS
    found = build_meta_model(backbone_of(config), method)
    try:
        work, _ = workload(config, found, None)
    except UserError:
        work, _ = workload(config, found, data_of(config))
    dtype = resolve_precision(config.train.precision, ranks.device)
    return _memory(dtype, ranks.device.type, found.outline, work)


def data_of(config: DictConfig) -> Splits | None:
    """The task's data if they are here: generated, the user's own, or in a folder that was named. The hub is not asked."""
    task, folder = build(config.task), config.paths.data
    source = getattr(task, "source", "folder")
    return task.load(folder) if source in ("embedded", "own") or (source == "folder" and folder) else None


def _memory(dtype: torch.dtype | None, device: str, outline: Outline, work: Work) -> int:
    process = 0 if device == "cuda" else arithmetic.PROCESS  # a GPU's peak is that of its tensors
    return arithmetic.memory(outline, work, 4 if dtype is None else 2, process)


def forecast(config: DictConfig, splits: Splits | None = None, card: Card | None = None) -> Forecast:
    """The forecast of one run. `splits`: its data, if at hand. `card`: a GPU to price it for, instead of this machine.

    Raises UserError if a size is not known.
    """
    method, precision = build(config.method), config.train.precision
    if not method.needs_model:
        texts = rows(config, splits)[2]
        return Forecast(0, 0, 0, 0.0, arithmetic.LOADING + arithmetic.SCORING * texts, arithmetic.PROCESS, 0, 0, "counted")
    found = build_meta_model(backbone_of(config), method)
    work, lengths = workload(config, found, splits)
    if card:
        ranks = Ranks(torch.device("cuda"))
        dtype = card.dtype(precision)
        rate = card.speed(found.outline, work, dtype)
    else:
        ranks = Ranks.here(config.device)
        dtype = resolve_precision(precision, ranks.device)
        rate = speed(found.shape, found.outline, work, ranks.device, dtype)
    counted = arithmetic.flops(found.outline, work)
    kept, used = arithmetic.disk(found.outline, config.launch.keep_gb)
    trained = arithmetic.flops(found.outline, replace(work, test_rows=0))
    return Forecast(
        trained=found.outline.trained,
        total=found.outline.parameters,
        tokens=work.train_tokens,
        flops=counted.total,
        # The ranks share the batches; only the first decodes.
        seconds=arithmetic.seconds(counted, rate.rows * ranks.size, rate.tokens, work.test_rows if work.new else 0),
        memory=_memory(dtype, ranks.device.type, found.outline, work),
        kept=kept,
        used=used,
        lengths=lengths,
        train_seconds=arithmetic.seconds(trained, rate.rows * ranks.size, rate.tokens, 0),
        test_rows=work.test_rows,
    )
