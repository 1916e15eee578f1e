"""The training loop. It knows no method and no task: trainable tensors, rows and an objective in, a `Trained` out."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from torch import nn

from lora_repro import console
from lora_repro.backbone import nf4
from lora_repro.config.validation import Range, check
from lora_repro.data import Encoded, Rows, collate, training_batches
from lora_repro.errors import Preempted, UserError
from lora_repro.records import provenance
from lora_repro.signals import collected
from lora_repro.train import checkpoint
from lora_repro.train.optimizer import adamw, set_rate
from lora_repro.train.precision import allow_tf32, autocast, loss_scaler, resolve_precision
from lora_repro.train.progress import (
    State,
    Trained,
    best_path,
    pause_step,
    restore_best,
    restore_state,
    save_state,
)
from lora_repro.train.ranks import Ranks

if TYPE_CHECKING:
    from tqdm import tqdm

    from lora_repro.backbone.model import Backbone
    from lora_repro.methods.base import Trainable
    from lora_repro.objectives.base import Objective

MEASURED = 10  # steps between two measurements of the gradient norm, which takes a kernel per tensor
READ = {"cpu": 1}  # steps between two readings of the losses, by device (else MEASURED): reading one waits for a GPU


@dataclass(frozen=True)
class TrainConfig:
    """Hyper-parameters of one training; defaults are the paper's Table 11 and, where it is silent, the authors' E2E code.

    `batch_size`: always the global batch, at most as many as there are training rows. `micro_batch_size` only splits it: the
    loss stays the mean over all scored tokens of the global batch; dropout masks differ.
    `weight_decay`: applies to every trained tensor, biases and norms too.
    `epochs`: may be fractional; `steps`, if given, sets the length instead.
    `warmup`: below 1 a share of all steps, otherwise a number of steps.
    `select`: `best` keeps the weights with the lowest dev loss (`select_by: loss`) or the highest dev score (`select_by: score`,
    for tasks that have one), the later of equal ones; `last` keeps the final ones.
    `group_by_length`: batches rows of similar length, the same ones for every method unless rows are cut.
    `precision`: `auto` is bf16 autocast if the device computes in bf16, scaled fp16 on GPUs that emulate it, else fp32.
    `eval_every`, `checkpoint_every`: in steps; null is once per epoch.
    `compile`, `recompute`: see `Backbone`. `paged`: see `adamw`.
    """

    lr: Annotated[float, Range(0, above=True)]
    epochs: Annotated[float, Range(0, 1000000, above=True)] = 5
    batch_size: Annotated[int, Range(1)] = 8
    micro_batch_size: Annotated[int, Range(1)] | None = None
    warmup: Annotated[float, Range(0)] = 500
    weight_decay: Annotated[float, Range(0)] = 0.01
    beta1: Annotated[float, Range(0, 1, below=True)] = 0.9
    beta2: Annotated[float, Range(0, 1, above=True, below=True)] = 0.999
    eps: Annotated[float, Range(0)] = 1e-6
    label_smoothing: Annotated[float, Range(0, 1, below=True)] = 0.1
    clip: Annotated[float, Range(0, above=True)] | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    select: Literal["best", "last"] = "best"
    eval_every: Annotated[int, Range(1)] | None = None
    checkpoint_every: Annotated[int, Range(1)] | None = None
    eval_batch_size: Annotated[int, Range(1)] = 32
    select_by: Literal["loss", "score"] = "loss"
    group_by_length: bool = False
    steps: Annotated[int, Range(1)] | None = None
    compile: bool = False
    recompute: bool = False
    paged: bool = False

    def __post_init__(self) -> None:
        check(f"{__name__}.TrainConfig", vars(self), "train")

    def ready(self) -> None:
        """Raise NotAvailable if a package that this training needs is not installed."""
        if self.paged and (absent := nf4.missing_package_error("train.paged")):
            raise absent


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """Linear warm-up from 0 and linear decay to 0 (Table 11): the rate of update `step`, counted from 1.

    With T updates, W of them warm-up, the first update has 1 / W of the highest rate and the last one 0. The released code's
    scheduler counts from 0: there the first update has the rate 0 and the last one 1 / (T - W) of the highest.
    """
    warmup = config.warmup * total if config.warmup < 1 else config.warmup
    if step < warmup:
        return config.lr * step / warmup
    return config.lr * max(0.0, (total - step) / max(1.0, total - warmup))


def gradient_norm(tensors: Sequence[torch.Tensor]) -> float:
    """The Euclidean norm of all gradients together."""
    return float(torch.stack([torch.linalg.vector_norm(t.grad) for t in tensors if t.grad is not None]).norm())


def epochs(config: TrainConfig, rows: int) -> float:
    """The number of epochs of a training on `rows` rows."""
    return config.steps / math.ceil(rows / config.batch_size) if config.steps else config.epochs


def silent(step: int, values: dict[str, float]) -> None:
    """Logs nothing."""


Log = Callable[[int, dict[str, float]], None]


def train(
    backbone: Backbone,
    trainable: Trainable,
    rows: Rows,
    objective: Objective,
    config: TrainConfig,
    seed: int,
    folder: Path,
    log: Log = silent,
    label: str = "train",
    observe: Callable[[int, int], None] | None = None,
    ranks: Ranks | None = None,
    pause_after: float = 1,
) -> Trained:
    """Train `trainable` in place and leave the selected weights in it; with several `ranks`, in the first rank's copy.

    Resumes from `folder` if it holds a checkpoint. The order of the data is a function of (seed, epoch) and all random
    state is saved, so on CPU a resumed run ends with the bits of an uninterrupted one. After SIGTERM or Ctrl-C it writes a
    checkpoint and raises Preempted; a signal after the last step is raised once the selected weights are in place.
    `observe`(step, total) may read the weights after each step. `pause_after`: the share of the schedule after which a checkpoint
    is written and the training returns, to be resumed or given up; 1 trains to the end.
    """
    ranks = ranks or Ranks(trainable.parameters()[0].device)
    with collected() as signals:
        parameters = trainable.named
        tensors = list(parameters.values())
        device = tensors[0].device
        check_ranks(ranks, config)
        if config.batch_size > (n := len(rows.train)):
            raise UserError(f"train.batch_size={config.batch_size} exceeds the {n} training rows: choose at most {n}")
        dtype = resolve_precision(config.precision, device)
        allow_tf32(device, dtype)
        scaler = loss_scaler(device, dtype)
        optimizer = adamw(parameters, trainable.rates, config)
        per_epoch = math.ceil(len(rows.train) / config.batch_size)
        total = config.steps or max(1, round(per_epoch * config.epochs))
        eval_every = config.eval_every or per_epoch
        checkpoint_every = config.checkpoint_every or per_epoch
        ran = provenance.attempt(device, dtype)
        state = State(dev_losses=[], tokens=0, seconds=0.0, best_step=0, best_loss=math.inf, code=ran)
        with ranks.in_turn():
            start = restore_state(folder, parameters, optimizer, state)
        if state.scaler:
            scaler.load_state_dict(state.scaler)
        note = log if ranks.first else silent
        bar = console.bar(total, label, "step", start, **({} if ranks.first else {"disable": True}))
        losses = Losses(state, total, ranks, note, bar)
        batches = training_batches(rows.train, config.batch_size, seed, config.group_by_length, start)
        last = pause_step(total, pause_after)
        with bar:
            for step in range(start + 1, last + 1):
                ranks.seed(seed, step)
                backbone.model.train()
                loss, tokens = own_gradients(backbone, trainable, next(batches), objective, config, scaler, ranks)
                ranks.add_gradients(tensors)
                rate, measured = learning_rate(step, total, config), ranks.first and (step - 1) % MEASURED == 0
                size = update(optimizer, scaler, tensors, rate, config.clip, measured)
                losses.add(step, loss, tokens, {"lr": rate, "epoch": step / per_epoch, **size})
                if observe and ranks.first:
                    observe(step, total)
                looks, saves = step % eval_every == 0 or step == total, step % checkpoint_every == 0 or step == last
                if (looks or saves or step % losses.every == 0) and (bad := losses.read()):
                    return state.result("diverged", bad - 1)
                bar.update()
                if looks:
                    with autocast(device, dtype):
                        backbone.model.eval()
                        validation = ranks.led(lambda: objective.validate(backbone, rows.dev, config.eval_batch_size))
                    note(step, validation)
                    if not math.isfinite(validation["dev_loss"]):
                        return state.result("diverged", step)
                    best = state.looked(step, validation, objective.figure(validation))
                    if best and config.select == "best" and step < total and ranks.first:  # the last step's weights are in place
                        state.best_sha256 = checkpoint.save_tensors(best_path(folder, step), dict(parameters))
                (stops,) = ranks.total(len(signals))  # a signal may reach the ranks at different steps
                if stops and (bad := losses.read()):
                    return state.result("diverged", bad - 1)
                if ranks.first and (stops or (step < total and saves)):
                    state.weigh(device)
                    state.scaler = scaler.state_dict()
                    save_state(folder, step, parameters, optimizer, state)
                if stops:
                    number = signals[0] if signals else signal.SIGTERM
                    raise Preempted(f"stopped at step {step} of {total}; run the same command again to resume", number)
        if last < total:
            return state.result("paused", last)
        if config.select == "best" and state.best_step < total and ranks.first:
            restore_best(folder, parameters, state)
        backbone.model.eval()
        state.weigh(device)
        return state.result("finished", total, last=config.select == "last")


class Losses:
    """The training losses of the steps since the last reading, still on the device. `every`: steps between two readings."""

    def __init__(self, state: State, total: int, ranks: Ranks, note: Log, bar: tqdm) -> None:
        self.state, self.total, self.ranks, self.note, self.bar = state, total, ranks, note, bar
        self.started = time.monotonic() - state.seconds
        self.every = READ.get(ranks.device.type, MEASURED)
        self.unread: list[tuple[int, torch.Tensor, int, dict[str, float]]] = []

    def add(self, step: int, loss: torch.Tensor, tokens: int, values: dict[str, float]) -> None:
        """Keep this rank's part of a step's loss and of its padded positions, and what else is logged with them."""
        self.unread.append((step, loss, tokens, values))

    def read(self) -> int:
        """Read and log the kept losses; returns the first step whose loss is not finite, or 0."""
        state = self.state
        for step, loss, tokens, values in self.unread:
            value, tokens_of_all = self.ranks.total(float(loss), tokens)
            if not math.isfinite(value):
                return step
            state.tokens, state.seconds = state.tokens + int(tokens_of_all), time.monotonic() - self.started
            state.saw(step, value, self.total)
            self.note(step, {"train_loss": value, **values, "tokens": state.tokens})
            dev = {"dev": f"{state.dev_losses[-1][1]:.3f}"} if state.dev_losses else {}
            self.bar.set_postfix(loss=f"{value:.3f}", **dev, refresh=False)
        self.unread.clear()
        return 0


def update(
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    tensors: Sequence[torch.Tensor],
    rate: float,
    clip: float | None,
    measured: bool,
) -> dict[str, float]:
    """One step of the optimizer. Returns the norm of the gradients before the clip, if `measured` and the step is not skipped."""
    scaler.unscale_(optimizer)
    norm = gradient_norm(tensors) if measured else math.nan
    if clip is not None:
        nn.utils.clip_grad_norm_(tensors, clip)
    set_rate(optimizer, rate)
    scaler.step(optimizer)  # skips a step whose gradients overflow
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return {"grad_norm": norm} if math.isfinite(norm) else {}


def check_ranks(ranks: Ranks, config: TrainConfig) -> None:
    """Have each of several ranks print its share of a batch. Raises UserError if a batch has fewer rows than there are ranks.

    Raises it also for compiled micro-batches on a GPU: a CUDA graph would overwrite the first one's gradients with the second's.
    """
    if config.compile and config.micro_batch_size and ranks.device.type == "cuda":
        raise UserError("train.compile and train.micro_batch_size cannot be combined on a GPU: leave one of them out")
    if ranks.size > config.batch_size:
        raise UserError(f"{ranks.size} processes share train.batch_size={config.batch_size} rows; start fewer of them")
    if ranks.size > 1:
        rows = len(ranks.share([0] * config.batch_size))
        print(
            f"rank {ranks.rank} of {ranks.size} on {ranks.device}: {rows} of {config.batch_size} rows per batch",
            file=sys.stderr,
            flush=True,
        )


def _penalise(penalty: torch.Tensor, scaler: torch.amp.GradScaler) -> torch.Tensor:
    """Add the gradients of a penalty to those of the loss; returns its value."""
    scaler.scale(penalty).backward()  # type: ignore[no-untyped-call]
    return penalty.detach().double()


def own_gradients(
    backbone: Backbone,
    trainable: Trainable,
    rows: Sequence[Encoded],
    objective: Objective,
    config: TrainConfig,
    scaler: torch.amp.GradScaler,
    ranks: Ranks,
) -> tuple[torch.Tensor, int]:
    """Compute this rank's part of the gradients of one global batch's mean loss over all scored terms, and of the penalty.

    Returns this part of the loss, in double precision and still on the device, and the positions of its padded rows.
    """
    with autocast(backbone.device, resolve_precision(config.precision, backbone.device)):
        loss, tokens = _backward(backbone, objective, rows, config, scaler, ranks)
        if trainable.penalty is not None and ranks.first:  # on one rank only: gradients are summed over ranks
            loss = loss + _penalise(trainable.penalty(), scaler)
    return loss, tokens


def _backward(
    backbone: Backbone,
    objective: Objective,
    rows: Sequence[Encoded],
    config: TrainConfig,
    scaler: torch.amp.GradScaler,
    ranks: Ranks,
) -> tuple[torch.Tensor, int]:
    # The divisor is the count of the whole batch, so splitting the batch changes nothing but the order of additions.
    count = sum(objective.count(row) for row in rows)
    share = ranks.share(list(rows))
    micro = config.micro_batch_size or len(share)
    value, tokens = torch.zeros((), dtype=torch.float64, device=backbone.device), 0
    for start in range(0, len(share), micro):
        batch = collate(share[start : start + micro], backbone.pad, backbone.lengths).to(backbone.device)
        loss = objective.summed(backbone, batch, config.label_smoothing)
        scaler.scale(loss / count).backward()  # type: ignore[no-untyped-call]
        value, tokens = value + loss.detach().double() / count, tokens + batch.tokens
    return value, tokens
