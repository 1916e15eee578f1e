"""The stages of a run up to its answers, each a function from values to a value: load and apply, read, encode, train, answer.

`lora_repro.run` goes through all of them. A learning-rate trial stops after training; an opened checkpoint only answers.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig
from safetensors import SafetensorError
from safetensors.torch import load_file

from lora_repro import console
from lora_repro.analysis.forgetting import general_loss
from lora_repro.backbone.weights import round_frozen
from lora_repro.config.compose import build, target
from lora_repro.data import DataConfig, Encoded, Rows, dev_subset, subset
from lora_repro.errors import UserError
from lora_repro.methods.base import Shape, require
from lora_repro.records import provenance
from lora_repro.records.run_folder import ADAPTER, CHECKPOINTS
from lora_repro.signals import deferred
from lora_repro.train import resume_files
from lora_repro.train.loop import TrainConfig, epochs, train
from lora_repro.train.precision import allow_tf32, autocast, resolve_precision
from lora_repro.train.ranks import Ranks

if TYPE_CHECKING:
    from lora_repro.analysis.probe import Observer, UpdateProbe
    from lora_repro.backbone.model import Backbone
    from lora_repro.backbone.spec import BackboneSpec
    from lora_repro.methods.base import AbstractMethod, Trainable
    from lora_repro.objectives.base import Objective
    from lora_repro.tasks.base import AbstractTask, Example, Splits
    from lora_repro.tracking.metrics import Metrics
    from lora_repro.train.progress import Trained


def objective_of(config: DictConfig) -> Objective:
    """The objective that the configured task names. Raises UserError if the decoder or `select_by` does not fit it."""
    task, decoder = build(config.task), build(config.decode)
    objective: Objective = target({"_target_": task.objective}).of(task, decoder, config.train.get("select_by", "loss"))
    return objective


def backbone_of(config: DictConfig) -> BackboneSpec:
    """The configured backbone, with the head that the task needs. Raises UserError if backbone and task do not fit."""
    return objective_of(config).fit(build(config.backbone))


def label_of(config: DictConfig) -> str:
    """What a progress bar calls this run."""
    return f"{config.row.name if config.row.table else config.method.name} {config.task.name} seed {config.seed}"


@dataclass(frozen=True)
class Adapted:
    """A backbone with a method applied. `note`: the method's remark about this backbone. `observer`: watches the training.

    counts: its values (`Trainable.counts`) before `round_frozen`, which may untie a head. alone: what was measured on the
    backbone before the method was applied.
    """

    backbone: Backbone
    trainable: Trainable
    counts: dict[str, int]
    note: str
    observer: Observer | None = None
    alone: float | None = None


def adapt(
    spec: BackboneSpec,
    method: AbstractMethod,
    seed: int,
    device: torch.device,
    starts: Sequence[Path] = (),
    probe: UpdateProbe | None = None,
    folder: Path = Path(),
    measure: Callable[[Backbone], float | None] = lambda backbone: None,
) -> Adapted:
    """Load the backbone and apply the method, which then takes over what it needs from the finished runs in `starts`.

    All new values are drawn from the seed. `probe` writes into `folder`. `measure` is called on the backbone before the method
    is applied. Raises UserError.
    """
    backbone = spec.load().to(device)
    baseline = measure(backbone)
    shape = Shape.of(backbone)
    observer = probe.begin(backbone, folder) if probe else None
    torch.manual_seed(seed)
    backbone.reset_head()
    trainable = method.apply(backbone)
    backbone.to(device)  # the parameters that the method created
    if starts:
        try:
            method.begin(trainable, [trained_tensors(start) for start in starts])
        except UserError as error:
            raise UserError(f"cannot start from {', '.join(map(str, starts))}: {error}") from error
    return Adapted(backbone, trainable, trainable.counts(backbone.model), method.note(shape), observer, baseline)


def trained_tensors(run: Path) -> Mapping[str, torch.Tensor]:
    """The trained tensors of a finished run, by name. Raises UserError if they cannot be read."""
    if not (run / ADAPTER).exists():
        raise UserError(f"{run} has no trained weights (launch.keep_gb?): delete it and run it again with launch.keep_gb=null")
    try:
        return load_file(run / ADAPTER)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {run / ADAPTER}: delete {run} and run again") from error


@contextmanager
def _uncollected() -> Iterator[None]:
    """Suspends garbage collection while millions of lasting small objects are made: it would scan them over and over."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@_uncollected()
def read(task: AbstractTask, folder: str | None) -> Splits:
    """The data of a task. Raises UserError if they are missing or not what they should be.

    Warns if they are known not to be the official ones, which a task with an official copy at hand tells apart.
    """
    splits = task.load(folder)
    if splits.others:
        console.warn(f"{task.name}: not the official {' and '.join(splits.others)}: the scores compare with no published one")
    return splits


def met_in_test(task: AbstractTask, train: Sequence[Example], test: Sequence[Example]) -> dict[str, int]:
    """How many training rows have an input that is a test input, for the record, after a warning; empty if none has."""
    test_keys = {example.key for example in test}
    if not (overlap := sum(example.key in test_keys for example in train)):
        return {}
    console.warn(f"{task.name}: {overlap:,} of the training rows have an input that is a test input, too")
    return {"train_rows_in_test": overlap}


@_uncollected()
def encode(splits: Splits, objective: Objective, backbone: Backbone, method: AbstractMethod, data: DataConfig) -> Rows:
    """Encoded training and dev rows, as many of each as `data` asks for."""
    (train_rows, cut), (dev_rows, cut_too) = (
        objective.encode(examples, backbone, method.virtual_tokens, data.max_length)
        for examples in (subset(splits.train, data.n_train, data.subset_seed), dev_subset(splits, data))
    )
    check_room(backbone, method, [*train_rows, *dev_rows])
    return Rows(train_rows, dev_rows, cut + cut_too)


def check_room(
    backbone: Backbone, method: AbstractMethod, rows: Sequence[Encoded], new: int = 0, reach: int | None = None
) -> None:
    """Raise UserError if a row, `new` tokens after it and the method's positions outside it exceed the backbone's positions.

    reach: as many positions as the objective can answer (`Objective.reach`).
    """
    outside = method.positions - sum(method.virtual_tokens)
    longest = max((len(row.ids) for row in rows), default=0)
    parts = [f"{longest} tokens", *([f"{new} new ones"] if new else []), *([f"{outside} of {method.name}"] if outside else [])]
    limits = (backbone.positions, "has {} positions"), (reach, "attends to {} positions in a window, which limits a beam search")
    for most, words in limits:
        require(
            most is None or longest + new + outside <= most,
            f"a row takes {' and '.join(parts)}, but this backbone {words.format(most)}: lower data.max_length"
            f"{' or decode.max_new_tokens' if new else ''}",
        )


def settle(folder: Path, splits: Splits, backbone: Backbone, ranks: Ranks) -> None:
    """Before anything is resumed: look at the code once more, and discard what was made from other data or backbone files."""
    provenance.recheck()
    inputs = {"data": splits.hashes, "backbone": backbone.sha256, "backbone_files": backbone.files_sha256}
    ranks.led(lambda: resume_files.keep_to(folder, inputs))


def learn(
    model: Adapted,
    rows: Rows,
    objective: Objective,
    config: TrainConfig,
    seed: int,
    folder: Path,
    metrics: Metrics,
    label: str,
    ranks: Ranks,
    pause_after: float = 1,
) -> Trained:
    """Train the model's weights, resuming from what `folder` holds: a checkpoint, or the result of this training.

    pause_after: see `train`; what a paused training measured is not kept, since its checkpoint has it.
    """
    backbone, trainable = model.backbone, model.trainable
    dtype = resolve_precision(config.precision, ranks.device)
    round_frozen(backbone.model, dtype, backbone.embedding)
    if config.recompute:  # before a finished training is restored: both decide how answers are batched
        backbone.recompute()
    if config.compile:
        backbone.compile()
    training = resume_files.restore(folder, trainable.saved)
    if training is None:
        if not trainable.method:  # a frozen body computes the same features every epoch
            with autocast(ranks.device, dtype):
                size, passes = config.eval_batch_size, epochs(config, len(rows.train))
                frozen_train, frozen_dev = (objective.frozen(backbone, split, size, passes) for split in (rows.train, rows.dev))
                rows = replace(rows, train=frozen_train, dev=frozen_dev)
        observe = model.observer.observe if model.observer else None
        checkpoints = folder / CHECKPOINTS
        with deferred():  # a signal after the last step waits until the weights are saved
            parts = (backbone, trainable, rows, objective, config, seed, checkpoints, metrics.log, label, observe, ranks)
            training = train(*parts, pause_after)
            if ranks.first and training.status != "paused":
                resume_files.save_trained(folder, trainable.saved, training)
    return training


def all_losses(
    backbone: Backbone,
    method: AbstractMethod,
    objective: Objective,
    dev: Sequence[Encoded],
    batch_size: int,
    dtype: torch.dtype | None,
) -> dict[str, float | None]:
    """What validation says of a model as it is, and its loss on general text as `general_loss`."""
    backbone.model.eval()
    with autocast(backbone.device, dtype):
        losses = objective.validate(backbone, dev, batch_size)
    return {**losses, "general_loss": general_loss(backbone, objective, dtype, method)}


@dataclass(frozen=True)
class Answers:
    """A model's outputs for the test inputs, in order (texts, classes or numbers), and what they cost."""

    outputs: list[str]
    seconds: float
    calls: int
    cut: int  # inputs that were cut to data.max_length
    seen: dict[str, Any] = field(default_factory=dict)  # what the method recorded meanwhile (`AbstractMethod.watch`)
    code: dict[str, Any] = field(default_factory=dict)  # code and machine of the run's attempts up to here


def prompts(
    backbone: Backbone,
    method: AbstractMethod,
    objective: Objective,
    max_length: int,
    examples: Sequence[Example],
    shots: Sequence[Example] = (),
) -> tuple[list[Encoded], int]:
    """The inputs as they are answered, and how many were cut. Raises UserError if one leaves no room for its answer."""
    rows, cut = objective.ask(examples, backbone, method.virtual_tokens, max_length, shots)
    check_room(backbone, method, rows, objective.added(backbone), objective.reach(backbone))
    return rows, cut


def answer(
    backbone: Backbone,
    method: AbstractMethod,
    objective: Objective,
    max_length: int,
    precision: str,
    label: str,
    examples: Sequence[Example],
    shots: Sequence[Example] = (),
) -> Answers:
    """Answer every input once, with `shots` before it, in the precision of training. Raises UserError as `prompts` does."""
    start = time.monotonic()
    dtype = resolve_precision(precision, backbone.device)
    allow_tf32(backbone.device, dtype)
    backbone.model.requires_grad_(False)
    backbone.model.eval()
    round_frozen(backbone.model, dtype, backbone.embedding)
    rows, cut = prompts(backbone, method, objective, max_length, examples, shots)
    observations = method.watch(backbone)
    with console.bar(len(rows), f"{label}: {objective.answering}", "input") as bar, autocast(backbone.device, dtype):
        outputs, calls = objective.answer(backbone, rows, lambda n: bar.update(n) and None)
    return Answers(outputs, round(time.monotonic() - start, 1), calls, cut, observations())
