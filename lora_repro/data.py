"""What an objective makes of an example, and rows of that to padded batches. Knows no tokenizer and no task.

Masks come from lengths and never from `ids != pad`: a backbone may use one id for EOS and padding. Padding goes to the longest
sequence of the batch; the authors pad everything to 512, which gives the same loss for 7.7 times the FLOPs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated

import torch

from lora_repro.config.kinds import Range, check
from lora_repro.errors import UserError

if TYPE_CHECKING:
    from lora_repro.tasks.base import Example, Splits


@dataclass(frozen=True)
class Encoded:
    """One sequence: `ids`, `virtual` (slot index, or -1 at a real token) and `segments`, of equal length.

    `segments`: which part of the sequence a position is of (0 the prompt, 1 the completion; 0 and 1 two sentences).
    `prompt_length`: how many ids come before the first that is scored; all of them where a text is asked for, or a label.
    `label`: index of the class, or the number itself (a float). `features` (d): what a frozen body says of the row, once known;
    (n, d) of each of its n positions that are scored, where a text is.
    """

    ids: list[int]
    virtual: list[int]
    segments: list[int]
    prompt_length: int
    label: float = 0
    features: torch.Tensor | None = None


def moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A host's tensor on the device; to a GPU from pinned memory, whose copy waits for nothing."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


@dataclass(frozen=True)
class Batch:
    """Right-padded tensors: ids, attention (1 at real positions), virtual, segments, all (B, T); and what is asked of them.

    `targets[b, t]` (B, T) is the token that position t must predict (the shift is done here, once), -100 where nothing is
    scored; `scored` (N) the flat places, row by row, where something is. `labels` (B): classes or numbers. `lengths` (B).
    `features` where every row has them: (B, d), or (N, d) of all scored positions. `slots`: whether any position is virtual.
    What a step asks of its batch is found here, on the host: to ask a GPU's tensor would be to wait for the GPU.
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
        del tensors["virtual"]  # its slots are sought on the host
        return replace(self, **{name: moved(value, device) for name, value in tensors.items()})  # type: ignore[arg-type]

    @property
    def tokens(self) -> int:
        """Positions of the padded batch: what a step costs where it is not packed."""
        return self.ids.numel()


@dataclass(frozen=True)
class Rows:
    """What a run trains on and is validated on, and how many of both were cut to `data.max_length`."""

    train: Sequence[Encoded]
    dev: Sequence[Encoded]
    cut: int = 0


@dataclass(frozen=True)
class DataConfig:
    """How much of each split a profile uses: None is all of it. The first n after one shuffle that no run seed changes.

    `n_train` pairs are the same for every method and every run seed; `n_dev` pairs measure the validation loss (`dev_subset`);
    `n_test` distinct inputs are decoded (0: none, the run ends with its dev loss). `max_length`: a longer input is cut and
    counted, sentences at their ends, a text by its task's rule; an error where that has none. `shots`: training pairs, drawn by
    the run's seed, that stand before every input in a prompt. `n_train_scored` training pairs are answered and scored like the
    test's, at the end: what a record has as `train_scores`; their most frequent answer, given to every test input, scores
    `one_answer_scores`.
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
    """A fixed random sample of n examples in their file order: the first of one shuffle, or its last.

    Raises UserError if there are fewer than n.
    """
    if n is None:
        return list(examples)
    if n > len(examples):
        raise UserError(
            f"{n} examples asked for, but the split has {len(examples)}: lower data.n_train, n_dev, n_test or shots"
        )
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(examples), generator=generator)
    chosen = (shuffled[len(examples) - n :] if last else shuffled[:n]).sort().values.tolist()
    return [examples[i] for i in chosen]


def dev_subset(splits: Splits, data: DataConfig) -> list[Example]:
    """The `n_dev` examples that choose. Where a task's dev set is what it is scored on, they are the last of the shuffle.

    Its first `n_test` are answered: as long as both fit, nothing is chosen on what is reported, whatever `n_test` a search has.
    """
    shared = [example.key for example in splits.dev] == [example.key for example in splits.test]
    return subset(splits.dev, data.n_dev, data.subset_seed, last=shared)


def collate(rows: Sequence[Encoded], pad: int, multiple: int = 1) -> Batch:
    """Pad to the longest row, or the next `multiple` of positions, and shift the targets."""
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
    known = [row.features for row in rows if row.features is not None]
    features = (torch.stack if known[0].dim() == 1 else torch.cat)(known) if len(known) == len(rows) else None
    labels = torch.tensor([row.label for row in rows])  # whole numbers are classes
    scored = (targets.flatten() != -100).nonzero().flatten()
    slots = bool((virtual >= 0).any())
    return Batch(ids, attention, virtual, segments, targets, scored, labels, attention.sum(1), features, slots)


def epoch_order(
    n: int, batch_size: int, seed: int, epoch: int, lengths: Sequence[int] | None = None
) -> list[list[int]]:
    """Indices of each batch of one epoch; a pure function of (seed, epoch), so a resumed run finds its place.

    As in the authors' loader the last batch is filled up with random other items instead of being short, so that every
    step has the same batch size. With `lengths` the shuffled items are sorted by length within every 16 batches, and these
    batches shuffled again: less padding, at the price of batches that are alike in length.
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


def batches(rows: Sequence[Encoded], batch_size: int, pad: int, device: torch.device) -> Iterator[tuple[list[int], Batch]]:
    """(indices, batch) of every row once, sorted by length so that little is padding."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        yield chosen, collate([rows[i] for i in chosen], pad).to(device)
