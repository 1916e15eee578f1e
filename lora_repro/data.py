"""Encoded examples and the padded batches made of them. Nothing here knows a tokenizer or a task.

Masks come from lengths, never from `ids != pad`: a backbone may use one id for EOS and padding. A batch is padded to its
longest sequence; the authors pad everything to 512, which gives the same loss for 7.7 times the FLOPs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated

import torch

from lora_repro.config.validation import Range, check
from lora_repro.errors import UserError

if TYPE_CHECKING:
    from lora_repro.tasks.base import Example, Splits


@dataclass(frozen=True)
class Encoded:
    """One sequence: `ids`, `virtual` (slot index, or -1 at a real token) and `segments`, of equal length.

    `segments`: the part of the sequence that each position belongs to (0 the prompt, 1 the completion; 0 and 1 two sentences).
    `prompt_length`: number of ids before the first scored one; all of them where a text or a label is to be predicted.
    `label`: index of the class, or the number itself (a float).
    `features`: the frozen body's features of the row, once computed: (d), or (n, d) for the n scored positions of a text.
    """

    ids: list[int]
    virtual: list[int]
    segments: list[int]
    prompt_length: int
    label: float = 0
    features: torch.Tensor | None = None


def moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A host tensor on the device; to a GPU by an asynchronous copy from pinned memory."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


@dataclass(frozen=True)
class Batch:
    """Right-padded inputs, all (B, T): ids, attention (1 at real positions), virtual, segments; and what to predict from them.

    `targets[b, t]` (B, T): the token that position t must predict (the shift is done here, once), -100 where nothing is scored.
    `scored` (N): the flat indices, row by row, of the scored positions. `labels` (B): classes or numbers. `lengths` (B).
    `features`, if every row has them: (B, d), or (N, d) for all scored positions. `slots`: whether any position is virtual.
    All of this is computed on the host: reading it from a GPU tensor would make a step wait for the GPU.
    """

    ids: torch.Tensor
    attention: torch.Tensor
    virtual: torch.Tensor
    segments: torch.Tensor
    targets: torch.Tensor
    scored: torch.Tensor
    labels: torch.Tensor
    lengths: torch.Tensor
    features: torch.Tensor | None = None
    slots: bool = False

    def to(self, device: torch.device) -> Batch:
        tensors = {field.name: value for field in fields(self) if isinstance(value := getattr(self, field.name), torch.Tensor)}
        del tensors["virtual"]  # stays on the host, where its slots are looked up
        return replace(self, **{name: moved(value, device) for name, value in tensors.items()})  # type: ignore[arg-type]

    @property
    def tokens(self) -> int:
        """Number of positions in the padded batch: what a step computes unless rows are packed."""
        return self.ids.numel()


@dataclass(frozen=True)
class Rows:
    """Training and dev rows of a run, and how many of both together were cut to `data.max_length`."""

    train: Sequence[Encoded]
    dev: Sequence[Encoded]
    cut: int = 0


@dataclass(frozen=True)
class DataConfig:
    """How much of each split a profile uses; None is all of it. A subset is the first n of one shuffle that no run seed changes.

    `n_train`: training pairs, the same for every method and every run seed.
    `n_dev`: pairs that measure the validation loss (`dev_subset`).
    `n_test`: distinct inputs that are decoded (0: none, the run ends with its dev loss).
    `max_length`: longer inputs are cut and counted: sentences at their ends, a text by its task's rule; without a rule, an error.
    `shots`: training pairs, drawn by the run's seed, that precede every input in a prompt.
    `n_train_scored`: training pairs that are answered and scored like test inputs at the end of the run (`train_scores` of its
    record). Their most frequent target, as a constant prediction for every test input, gives `one_answer_scores`.
    """

    n_train: Annotated[int, Range(1)] | None = None
    n_dev: Annotated[int, Range(1)] | None = None
    n_test: Annotated[int, Range(0)] | None = None
    max_length: Annotated[int, Range(1)] = 512
    subset_seed: int = 0
    shots: int = 0
    n_train_scored: Annotated[int, Range(0)] = 0

    def __post_init__(self) -> None:
        check(f"{__name__}.DataConfig", vars(self), "data")


def subset(examples: Sequence[Example], n: int | None, seed: int, last: bool = False) -> list[Example]:
    """A fixed random sample of n examples, in file order: the first n of one shuffle or, if `last`, its last n.

    Raises UserError if there are fewer than n.
    """
    if n is None:
        return list(examples)
    if n > len(examples):
        raise UserError(
            f"{n} examples asked for, but the split has {len(examples)}: lower data.n_train, n_dev, n_test or shots"
        )
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(examples), generator=generator)
    indices = (order[len(examples) - n :] if last else order[:n]).sort().values.tolist()
    return [examples[i] for i in indices]


def dev_subset(splits: Splits, data: DataConfig) -> list[Example]:
    """The `n_dev` examples that choose the checkpoint and the learning rate.

    Where a task is scored on its dev set, the first `n_test` examples of the shuffle are answered and the last `n_dev` choose. As
    long as both fit, nothing is chosen on reported rows, whatever `n_test` a search has.
    """
    shared = [example.key for example in splits.dev] == [example.key for example in splits.test]
    return subset(splits.dev, data.n_dev, data.subset_seed, last=shared)


def collate(rows: Sequence[Encoded], pad: int, multiple: int = 1) -> Batch:
    """Pad the rows to the longest one, rounded up to a multiple of `multiple`, and shift the targets."""
    longest = max(len(row.ids) for row in rows)
    shape = (len(rows), longest + -longest % multiple)
    ids, virtual, targets = torch.full(shape, pad), torch.full(shape, -1), torch.full(shape, -100)
    attention, segments = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    for b, row in enumerate(rows):
        n = len(row.ids)
        ids[b, :n] = torch.tensor(row.ids)
        virtual[b, :n] = torch.tensor(row.virtual)
        segments[b, :n] = torch.tensor(row.segments)
        attention[b, :n] = 1
        # Position t predicts token t + 1, so the separator (prompt_length - 1) predicts the first completion token.
        targets[b, row.prompt_length - 1 : n - 1] = ids[b, row.prompt_length : n]
    tensors = [row.features for row in rows if row.features is not None]
    features = (torch.stack if tensors[0].dim() == 1 else torch.cat)(tensors) if len(tensors) == len(rows) else None
    labels = torch.tensor([row.label for row in rows])  # ints are classes
    scored = (targets.flatten() != -100).nonzero().flatten()
    slots = bool((virtual >= 0).any())
    return Batch(ids, attention, virtual, segments, targets, scored, labels, attention.sum(1), features, slots)


def epoch_order(
    n: int, batch_size: int, seed: int, epoch: int, lengths: Sequence[int] | None = None
) -> list[list[int]]:
    """Indices of each batch of one epoch. They depend on (seed, epoch) alone, so a resumed run finds its place.

    As in the authors' loader, a short last batch is filled up with random items, so that every step has the same batch size.
    With `lengths` the shuffled items are sorted by length within every 16 batches, and the batches are shuffled again: less
    padding, but the rows of a batch are of similar length.
    """
    generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
    order = torch.randperm(n, generator=generator).tolist()
    if short := -n % batch_size:
        order += torch.randint(n, (short,), generator=generator).tolist()
    if lengths is not None:
        pool = 16 * batch_size
        order = [
            i
            for start in range(0, len(order), pool)
            for i in sorted(order[start : start + pool], key=lengths.__getitem__)
        ]
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    if lengths is not None:
        batches = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
    return batches


def training_batches(
    rows: Sequence[Encoded], batch_size: int, seed: int, by_length: bool, start: int
) -> Iterator[list[Encoded]]:
    """The global batches of all steps after the first `start`, without end. `by_length`: `epoch_order` with the rows' lengths."""
    lengths = [len(row.ids) for row in rows] if by_length else None
    epoch, position = divmod(start, math.ceil(len(rows) / batch_size))
    for number in itertools.count(epoch):
        for indices in epoch_order(len(rows), batch_size, seed, number, lengths)[position:]:
            yield [rows[i] for i in indices]
        position = 0


def batches(rows: Sequence[Encoded], batch_size: int, pad: int, device: torch.device) -> Iterator[tuple[list[int], Batch]]:
    """(indices, batch) for every row once, sorted by length so that there is little padding."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        yield indices, collate([rows[i] for i in indices], pad).to(device)
