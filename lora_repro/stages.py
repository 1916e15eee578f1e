"""The stages of a run up to its answers, each a function from values to a value: load and apply, read, encode, train, answer.

`lora_repro.run` goes through all of them; a learning-rate trial trains and answers nothing, an opened checkpoint only answers.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from omegaconf import DictConfig
from safetensors import SafetensorError
from safetensors.torch import load_file

from lora_repro import cli
from lora_repro.config.compose import build, target
from lora_repro.data import DataConfig, Encoded, Rows, dev_subset, subset
from lora_repro.errors import UserError
from lora_repro.methods.base import Shape, require
from lora_repro.methods.update import share
from lora_repro.signals import deferred
from lora_repro.train import kept
from lora_repro.train.loop import TrainConfig, epochs, train
from lora_repro.train.pack import Joint
from lora_repro.train.precision import allow_tf32, autocast, resolve_precision, round_frozen
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
    """What the configured task asks of a model; the task names it. Raises UserError where decoder or selection do not fit it."""
    task, decoder = build(config.task), build(config.decode)
    made: Objective = target({"_target_": task.objective}).of(task, decoder, config.train.get("select_by", "loss"))
    return made


def backbone_of(config: DictConfig) -> BackboneSpec:
    """The configured backbone, with the head that the task needs. Raises UserError where they do not go together."""
    return objective_of(config).fit(build(config.backbone))


def label_of(config: DictConfig) -> str:
    """What a progress bar calls this run."""
    return f"{config.row.name if config.row.table else config.method.name} {config.task.name} seed {config.seed}"


@dataclass(frozen=True)
class Adapted:
    """A backbone with a method in it. `note`: what the method says of itself there. `observer`: looks at its training.

    alone: what was measured of the backbone before the method.
    """

    backbone: Backbone
    trainable: Trainable
    note: str
    observer: Observer | None = None
    alone: float | None = None


class Loadable(Protocol):
    """A `BackboneSpec`, or what stands for it."""

    def load(self) -> Backbone: ...


def adapt(
    spec: Loadable,
    method: AbstractMethod,
    seed: int,
    device: torch.device,
    starts: Sequence[Path] = (),
    probe: UpdateProbe | None = None,
    folder: Path = Path(),
    measure: Callable[[Backbone], float | None] = lambda backbone: None,
) -> Adapted:
    """Load the backbone and apply the method, which takes what it wants of the finished runs in the folders `starts`.

    All that is new is drawn from the seed. `probe` observes into `folder`, `measure` is of the backbone alone. Raises UserError.
    """
    backbone = spec.load().to(device)
    alone = measure(backbone)
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
    return Adapted(backbone, trainable, method.note(shape), observer, alone)


@dataclass(frozen=True)
class Pack:
    """Stands for a backbone that several runs share: each `load` gives a model of the same tensors (`Backbone.sharing`)."""

    whole: Backbone

    @classmethod
    def of(cls, spec: BackboneSpec, dtype: torch.dtype | None, device: torch.device) -> Pack:
        """Loaded, and frozen as `learn` would have it."""
        backbone = spec.load().to(device)
        for module in backbone.classifier:
            module.requires_grad_(True)  # it will be trained, and stays as it is
        round_frozen(backbone.model, dtype, backbone.embedding)
        return cls(backbone)

    def load(self) -> Backbone:
        return self.whole.sharing()

    def joined(self, backbones: Sequence[Backbone]) -> Joint:
        """The model through which all their batches go; to be made last, since it is `whole`, changed."""
        return Joint(self.whole, share([backbone.model for backbone in backbones], self.whole.model))


def trained_tensors(run: Path) -> Mapping[str, torch.Tensor]:
    """What a finished run trained, by name. Raises UserError if it cannot be read."""
    try:
        return load_file(run / kept.ADAPTER)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {run / kept.ADAPTER}: delete {run} and run again") from error


@contextmanager
def _uncollected() -> Iterator[None]:
    """While millions of small objects are made that stay: the collector would look at all of them again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@_uncollected()
def read(task: AbstractTask, folder: str | None) -> Splits:
    """The data of a task. Raises UserError where they are not at hand or not what they should be."""
    return task.load(folder)


@_uncollected()
def encode(splits: Splits, objective: Objective, backbone: Backbone, method: AbstractMethod, data: DataConfig) -> Rows:
    """Training and dev rows, as many of each as asked for."""
    (train_rows, cut), (dev_rows, cut_too) = (
        objective.encode(examples, backbone, method.virtual_tokens, data.max_length)
        for examples in (subset(splits.train, data.n_train, data.subset_seed), dev_subset(splits, data))
    )
    check_room(backbone, method, [*train_rows, *dev_rows])
    return Rows(train_rows, dev_rows, cut + cut_too)


def check_room(backbone: Backbone, method: AbstractMethod, rows: Sequence[Encoded], new: int = 0) -> None:
    """Raise UserError where a row, `new` tokens after it and what the method takes beside it exceed the backbone's positions."""
    outside = method.positions - sum(method.virtual_tokens)
    longest = max((len(row.ids) for row in rows), default=0)
    taken = [f"{longest} tokens", *([f"{new} new ones"] if new else []), *([f"{outside} of {method.name}"] if outside else [])]
    require(
        backbone.positions is None or longest + new + outside <= backbone.positions,
        f"a row takes {' and '.join(taken)}, but this backbone has {backbone.positions} positions: lower data.max_length"
        f"{' or decode.max_new_tokens' if new else ''}",
    )


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
) -> Trained:
    """Train the model's weights, going on from whatever `folder` holds: a checkpoint, or the end of this very training."""
    backbone, trainable = model.backbone, model.trainable
    dtype = resolve_precision(config.precision, ranks.device)
    round_frozen(backbone.model, dtype, backbone.embedding)
    trained = kept.restore(folder, trainable.saved)
    if trained is None:
        if not trainable.method:  # a frozen body says the same every epoch
            with autocast(ranks.device, dtype):
                size, passes = config.eval_batch_size, epochs(config, len(rows.train))
                train_rows, dev_rows = (objective.frozen(backbone, each, size, passes) for each in (rows.train, rows.dev))
                rows = replace(rows, train=train_rows, dev=dev_rows)
        observe = model.observer.observe if model.observer else None
        checkpoints = folder / "checkpoints"
        with deferred():  # a signal after the last step
            trained = train(backbone, trainable, rows, objective, config, seed, checkpoints, metrics.log, label, observe, ranks)
            if ranks.first:
                kept.keep(folder, trainable.saved, trained)
    if model.observer and trained.status == "finished" and ranks.first:
        model.observer.finish(trained.steps)
    return trained


@dataclass(frozen=True)
class Answers:
    """What a model says to each test input, in order: a text, a class or a number; and what that took."""

    outputs: list[str]
    seconds: float
    calls: int
    cut: int  # inputs that were cut to data.max_length
    seen: dict[str, Any] = field(default_factory=dict)  # by the method, while they were given


def answer(
    backbone: Backbone,
    method: AbstractMethod,
    objective: Objective,
    examples: Sequence[Example],
    max_length: int,
    precision: str,
    label: str,
    shots: Sequence[Example] = (),
) -> Answers:
    """Every input once, after `shots`, in the precision of training."""
    started = time.monotonic()
    dtype = resolve_precision(precision, backbone.device)
    allow_tf32(backbone.device, dtype)
    backbone.model.requires_grad_(False)
    backbone.model.eval()
    round_frozen(backbone.model, dtype, backbone.embedding)
    rows, cut = objective.ask(examples, backbone, method.virtual_tokens, max_length, shots)
    check_room(backbone, method, rows, objective.added(backbone))
    seen = method.watch(backbone)
    with cli.bar(len(rows), f"{label}: {objective.answering}", "input") as bar, autocast(backbone.device, dtype):
        outputs, calls = objective.answer(backbone, rows, lambda n: bar.update(n) and None)
    return Answers(outputs, round(time.monotonic() - started, 1), calls, cut, seen())
