"""What one run would cost, on this machine or on a named GPU: trained parameters, tokens, operations, time, memory and disk.

Its tokens are counted on a sample of its data, or come from documented mean lengths.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from omegaconf import DictConfig

from lora_repro.config import yaml_file
from lora_repro.config.compose import CONF, build
from lora_repro.costs import arithmetic
from lora_repro.costs.arithmetic import Outline, Work
from lora_repro.costs.hardware import Card, speed
from lora_repro.costs.meta_model import MetaModel, build_meta_model
from lora_repro.data import Encoded, epoch_order, subset
from lora_repro.errors import UserError
from lora_repro.run.stages import backbone_of, objective_of
from lora_repro.tasks.base import Example, Splits
from lora_repro.train.precision import resolve_precision
from lora_repro.train.ranks import Ranks

SAMPLE = 512
# A beam search continues while a longer text could still win: in published records about a quarter beyond the texts' length.
SEARCHED = 1.25
UNKNOWN = {"mean": 64.0, "padded": 96.0, "grouped": 68.0, "longest": 256, "scored": 32.0, "prompt": 48.0}


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
    frame = build_meta_model(backbone_of(config), method)
    try:
        work, _ = workload(config, frame, None)
    except UserError:
        work, _ = workload(config, frame, data_of(config))
    dtype = resolve_precision(config.train.precision, ranks.device)
    return _memory(dtype, ranks.device.type, frame.outline, work)


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
    frame = build_meta_model(backbone_of(config), method)
    work, lengths = workload(config, frame, splits)
    if card:
        ranks = Ranks(torch.device("cuda"))
        dtype = card.dtype(precision)
        rate = card.speed(frame.outline, work, dtype)
    else:
        ranks = Ranks.here(config.device)
        dtype = resolve_precision(precision, ranks.device)
        rate = speed(frame.shape, frame.outline, work, ranks.device, dtype)
    flops = arithmetic.flops(frame.outline, work)
    final_disk, peak_disk = arithmetic.disk(frame.outline, config.launch.keep_gb)
    train_flops = arithmetic.flops(frame.outline, replace(work, test_rows=0))
    return Forecast(
        trained=frame.outline.trained,
        total=frame.outline.parameters,
        tokens=work.train_tokens,
        flops=flops.total,
        # The ranks share the batches; only the first decodes.
        seconds=arithmetic.seconds(flops, rate.rows * ranks.size, rate.tokens, work.test_rows if work.new else 0),
        memory=_memory(dtype, ranks.device.type, frame.outline, work),
        kept=final_disk,
        used=peak_disk,
        lengths=lengths,
        train_seconds=arithmetic.seconds(train_flops, rate.rows * ranks.size, rate.tokens, 0),
        test_rows=work.test_rows,
    )


@dataclass(frozen=True)
class Lengths:
    """Mean positions per row, as in `arithmetic.Work`. `source`: `counted`, `documented` or `guessed`."""

    length: float
    dev: float
    scored: float
    longest: int
    prompt: float
    source: str


def workload(config: DictConfig, frame: MetaModel, splits: Splits | None) -> tuple[Work, str]:
    """(the work of a run, where its lengths come from). `splits`: its data, None if not at hand.

    Raises UserError if neither the data nor conf/ say how many rows the task has.
    """
    train, objective = build(config.train), objective_of(config)
    decoder = objective.decoding
    n_train, n_dev, n_test = rows(config, splits)
    can_count = splits is not None and frame.tokenizer_here
    lengths = counted(config, frame, splits) if can_count and splits else documented(config)
    per_epoch = math.ceil(n_train / train.batch_size)
    steps = train.steps or max(1, round(per_epoch * train.epochs))
    outline = frame.outline
    work = Work(
        steps=steps if outline.trained else 0,
        batch=train.batch_size,
        micro=min(train.micro_batch_size or train.batch_size, train.batch_size),
        length=lengths.length,
        scored=lengths.scored,
        longest=min(lengths.longest, config.data.max_length),
        train_rows=n_train,
        dev_rows=n_dev,
        dev_length=lengths.dev,
        evaluations=math.ceil(steps / (train.eval_every or per_epoch)),
        test_rows=n_test,
        prompt=lengths.prompt,
        new=min(decoder.max_new_tokens, SEARCHED * lengths.scored),
        most_new=decoder.max_new_tokens,
        beam=decoder.beam,
        test_batch=decoder.batch_size,
        recompute=train.recompute,
        features=objective.freezes and not outline.method and outline.head > 0,
    )
    return work, lengths.source


def rows(config: DictConfig, splits: Splits | None) -> tuple[int, int, int]:
    """(training, dev, test) rows of a run: all of them, or as many as `data.n_*` asks for; at most all if the data are not here.

    Raises UserError if the data are here and have fewer.
    """
    if splits is not None:
        counts = {"train": len(splits.train), "dev": len(splits.dev), "test": len(splits.test)}
    else:
        counts = _declared(build(config.task))
    limits = {split: config.data[f"n_{split}"] for split in counts}
    if splits is not None and (short := [split for split in counts if (limits[split] or 0) > counts[split]]):
        split = short[0]
        raise UserError(f"data.n_{split}={limits[split]}, but the split has {counts[split]} examples: lower it")
    n = {split: all_ if (limit := limits[split]) is None else min(all_, limit) for split, all_ in counts.items()}
    return n["train"], n["dev"], n["test"]


def _declared(task: Any) -> dict[str, int]:
    """A task's row counts from conf/: conf/plan.yaml, or those that a GLUE task asserts."""
    amounts = dict(getattr(task, "rows", None) or {})
    counts = _documented().get(task.name, {}).get("rows")
    if counts and amounts.get("train", 0) < 2 * counts["train"]:  # else the task reads more rows than conf/plan.yaml covers
        trained_on = _documented()[getattr(task, "train_from", task.name)]["rows"]
        return {**trained_on, "test": counts["test"]}
    names = getattr(task, "scored", ())
    test_counts = [amounts.get(split) for split in ([names] if isinstance(names, str) else names)]
    if "train" not in amounts or None in test_counts or not test_counts:
        raise UserError(f"the number of rows of task {task.name} is unknown: name its data with paths.data=/path (make: DATA=)")
    test = sum(int(n or 0) for n in test_counts)
    held_out = int(getattr(task, "held_out", 0))
    return {"train": int(amounts["train"]) - held_out, "dev": held_out or test, "test": test}


def _documented() -> dict[str, Any]:
    return yaml_file.values(CONF / "plan.yaml")["lengths"]  # type: ignore[no-any-return]


def documented(config: DictConfig) -> Lengths:
    """Mean lengths from conf/plan.yaml; a guess for a task that it does not list."""
    lengths, slots = _documented().get(config.task.name), sum(build(config.method).virtual_tokens)
    mean, most = lengths or UNKNOWN, config.data.max_length
    return Lengths(
        length=min(most, mean["grouped" if build(config.train).group_by_length else "padded"] + slots),
        dev=min(most, mean["mean"] + slots),
        scored=mean["scored"],
        longest=int(mean["longest"]) + slots,
        prompt=min(most, mean["prompt"] + slots + config.data.shots * mean["mean"]),
        source="documented" if lengths else "guessed",
    )


def counted(config: DictConfig, frame: MetaModel, splits: Splits) -> Lengths:
    """Mean lengths of a sample of each split, encoded and batched as the run will."""
    objective, settings = objective_of(config), build(config.train)
    encoding = (frame.backbone, build(config.method).virtual_tokens, config.data.max_length)
    train, dev = (objective.encode(_sample(examples), *encoding)[0] for examples in (splits.train, splits.dev))
    shots = subset(splits.train, config.data.shots, config.seed)
    prompts: list[Encoded] = objective.ask(_sample(splits.test), *encoding, shots)[0]
    lengths = [len(row.ids) for row in train]
    order = epoch_order(len(train), settings.batch_size, 0, 0, lengths if settings.group_by_length else None)
    positions = sum(len(places) * max(lengths[i] for i in places) for places in order)
    return Lengths(
        length=positions / sum(map(len, order)),
        dev=sum(len(row.ids) for row in dev) / len(dev),
        scored=sum(objective.count(row) for row in train) / len(train),
        longest=max(lengths),
        prompt=sum(len(row.ids) for row in prompts) / len(prompts),
        source="counted",
    )


def _sample(examples: Sequence[Example]) -> list[Example]:
    """A random sample of a split: neighbours in a file are similar in length."""
    return random.Random(0).sample(list(examples), min(SAMPLE, len(examples)))
