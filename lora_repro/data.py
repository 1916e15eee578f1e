"""Examples to token ids, and token ids to padded batches. Knows tokenizers, not tasks.

One training sequence, as in the authors' code (its separator is GPT-2's token 50256):

    [prefix slots] input [infix slots] separator " completion" EOS
     -------------- prompt: not scored ------------  -- scored ---

The loss is taken where the *next* token is a completion token or EOS, so from the separator's position on. Masks come
from lengths and never from `ids != pad`: a backbone may use one id for EOS and padding. Padding goes to the longest
sequence of the batch; the authors pad everything to 512, which gives the same loss for 7.7 times the FLOPs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lora_repro.errors import UserError

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone
    from lora_repro.tasks.base import Example


@dataclass(frozen=True)
class Encoded:
    """One sequence: `ids`, `virtual` (slot index, or -1 at a real token) of equal length, and where scoring starts."""

    ids: list[int]
    virtual: list[int]
    prompt_length: int


@dataclass(frozen=True)
class Batch:
    """Right-padded tensors: ids, attention (1 at real positions), virtual, all (B, T); targets (B, T), -100 where unscored.

    `targets[b, t]` is the token that position t must predict (the shift is done here, once).
    """

    ids: torch.Tensor
    attention: torch.Tensor
    virtual: torch.Tensor
    targets: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(x.to(device) for x in (self.ids, self.attention, self.virtual, self.targets)))

    @property
    def tokens(self) -> int:
        """Positions computed, padding included: what a step costs."""
        return self.ids.numel()


@dataclass(frozen=True)
class DataConfig:
    """How much of each split a profile uses: None is all of it. The first n after one shuffle that no run seed changes.

    `n_train` pairs are the same for every method and every run seed; `n_dev` pairs measure the validation loss; `n_test`
    distinct inputs are decoded (0: none, the run ends with its dev loss). `max_length`: a longer sequence is an error, not a
    silent cut.
    """

    n_train: int | None = None
    n_dev: int | None = None
    n_test: int | None = None
    max_length: int = 512
    subset_seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_train", "n_dev", "n_test"):
            value, least = getattr(self, name), 0 if name == "n_test" else 1
            if value is not None and (not isinstance(value, int) or value < least):
                raise UserError(f"data.{name} must be a whole number of at least {least}, or null, not {value!r}")


def subset(examples: Sequence[Example], n: int | None, seed: int) -> list[Example]:
    """A fixed random sample of n examples in their file order. Raises UserError if there are fewer than n."""
    if n is None:
        return list(examples)
    if n > len(examples):
        raise UserError(
            f"{n} examples asked for, but the split has {len(examples)}; lower data.n_train/n_dev/n_test"
        )
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(examples), generator=generator)[:n].sort().values.tolist()
    return [examples[i] for i in chosen]


def encode_prompt(text: str, backbone: Backbone, slots: tuple[int, int] = (0, 0)) -> Encoded:
    """Input text to prompt ids: prefix slots, input tokens, infix slots, separator."""
    prefix, infix = slots
    context: list[int] = backbone.tokenizer.encode(text, add_special_tokens=False)
    ids = [backbone.pad] * prefix + context + [backbone.pad] * infix + backbone.separator
    virtual = [
        *range(prefix),
        *[-1] * len(context),
        *range(prefix, prefix + infix),
        *[-1] * len(backbone.separator),
    ]
    return Encoded(ids, virtual, len(ids))


def encode(
    examples: Sequence[Example], backbone: Backbone, slots: tuple[int, int], max_length: int
) -> list[Encoded]:
    """(input, target) pairs to training sequences. Raises UserError on an empty target or one that does not fit."""
    encoded = []
    for example in examples:
        prompt = encode_prompt(example.input, backbone, slots)
        completion = backbone.tokenizer.encode(" " + example.target, add_special_tokens=False)
        if not example.target.strip():
            raise UserError(f"training text of input {example.key} is empty")
        ids = prompt.ids + completion + [backbone.eos]
        if len(ids) > max_length:
            raise UserError(f"a sequence has {len(ids)} tokens and data.max_length is {max_length}; raise it")
        encoded.append(
            Encoded(ids, prompt.virtual + [-1] * (len(ids) - len(prompt.ids)), prompt.prompt_length)
        )
    return encoded


def collate(rows: Sequence[Encoded], pad: int) -> Batch:
    """Pad to the longest row and shift the targets."""
    longest = max(len(row.ids) for row in rows)
    shape = (len(rows), longest)
    ids, virtual = torch.full(shape, pad), torch.full(shape, -1)
    attention, targets = torch.zeros(shape, dtype=torch.long), torch.full(shape, -100)
    for b, row in enumerate(rows):
        n = len(row.ids)
        ids[b, :n] = torch.tensor(row.ids)
        virtual[b, :n] = torch.tensor(row.virtual)
        attention[b, :n] = 1
        # Position t predicts token t + 1, so the separator (prompt_length - 1) predicts the first completion token.
        targets[b, row.prompt_length - 1 : n - 1] = ids[b, row.prompt_length : n]
    return Batch(ids, attention, virtual, targets)


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


def evaluation_batches(rows: Sequence[Encoded], batch_size: int, pad: int) -> Iterator[Batch]:
    """Every row once, sorted by length so that little is padding."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    for start in range(0, len(order), batch_size):
        yield collate([rows[i] for i in order[start : start + batch_size]], pad)
