"""A class or a number from a sentence or a pair: how it becomes tokens, the head's loss, validation and answers.

    [cls] [prefix slots] first ([separator] second) [infix slots] eos

is BERT's "[CLS] A [SEP] B [SEP]" and RoBERTa's "<s> A </s></s> B </s>"; a decoder has no cls, or its BOS, and is read at eos. The
placeholder of a slot is eos, not pad: RoBERTa counts positions over real tokens only. The loss for classes is cross-entropy over
the labels (label-smoothed if asked), for a number the squared error of the single output, as in the authors' GLUE code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Self, final

import torch
from torch.nn import functional as F

from lora_repro.config.validation import Range, check
from lora_repro.data import Batch, Encoded, batches
from lora_repro.errors import UserError
from lora_repro.objectives.base import Objective, position_keywords
from lora_repro.objectives.tokens import token_ids

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone
    from lora_repro.backbone.spec import BackboneSpec
    from lora_repro.tasks.base import AbstractTask, Example


HALVES = ("dev_score_even", "dev_score_odd")


def encode_sentence(
    first: list[int], second: list[int] | None, label: float, backbone: Backbone, slots: tuple[int, int], max_length: int
) -> tuple[Encoded, int]:
    """The row of one or two sentences, given as ids, and how many ids were cut: one at a time, from the longer sentence."""
    prefix, infix = slots
    pair, second = second is not None, second or []
    between, start, eos = backbone.separator if pair else [], len(backbone.cls), backbone.eos
    room = max_length - start - prefix - infix - len(between) - 1
    if room < 2:
        raise UserError(
            f"data.max_length={max_length} leaves no room for text beside {prefix + infix} virtual tokens: raise it"
        )
    cut = len(first) + len(second) - room
    if cut > 0:
        first, second = list(first), list(second)
        for _ in range(cut):
            (first if len(first) > len(second) else second).pop()
    slots_before, slots_after = [eos] * prefix, [eos] * infix
    ids = [*backbone.cls, *slots_before, *first, *between, *second, *slots_after, eos]
    n, opening = len(ids), start + prefix + len(first) + len(between)
    virtual = [-1] * n
    if prefix or infix:
        virtual[start : start + prefix] = range(prefix)
        virtual[n - 1 - infix : n - 1] = range(prefix, prefix + infix)
    segments = [0] * opening + [int(pair)] * (n - opening)
    return Encoded(ids, virtual, segments, n, label), max(0, cut)


def features_of(backbone: Backbone, batch: Batch) -> torch.Tensor:
    """(B, d): the body's features of each row, pooled as `backbone.pooling` says.

    `first`: the first position, through the body's pretrained pooler if it has one; `last`: the last real position, the only one
    in a decoder that has seen the whole row; `mean`: the mean over all real positions.
    """
    keywords = position_keywords(backbone, batch)
    if getattr(backbone.model.config, "type_vocab_size", 0) == 2:
        keywords["token_type_ids"] = batch.segments
    hidden = backbone.hidden(batch.ids, batch.attention, **keywords)  # (B, T, d)
    if backbone.pooling == "mean":
        real = batch.attention.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
        return (hidden * real).sum(1) / real.sum(1)
    if backbone.pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), batch.lengths - 1]
    first: torch.Tensor = hidden[:, 0] if backbone.pooler is None else backbone.pooler(hidden)
    return first


def sentences_of(row: Encoded, backbone: Backbone) -> tuple[Encoded, Encoded]:
    """The two sentences of a pair, each as a row of its own: [cls] sentence eos."""
    opening = row.segments.index(1)
    first = [*row.ids[: opening - len(backbone.separator)], backbone.eos]
    second = [*backbone.cls, *row.ids[opening:]]
    one, other = (Encoded(ids, [-1] * len(ids), [0] * len(ids), len(ids), row.label) for ids in (first, second))
    return one, other


def logits_of(backbone: Backbone, features: torch.Tensor) -> torch.Tensor:
    """Class scores (B, n_labels), or a number (B, 1), from features (B, d)."""
    x = features.unsqueeze(1) if backbone.picks_first else features
    for module in backbone.classifier:
        x = module(x)
    return x


@dataclass(frozen=True)
class Labeller:
    """Answers by a trained classifier, or by a decoder's probability of each label's text: nothing is searched or written.

    `batch_size` changes speed and memory only.
    """

    batch_size: Annotated[int, Range(1)] = 64
    beam: ClassVar[int] = 1
    max_new_tokens: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check(f"{__name__}.Labeller", vars(self), "decode")


@final
@dataclass(frozen=True)
class Classification(Objective):
    """`labels`: the classes, in the order of the head's outputs; empty if the task asks for a number.

    `score(answers, gold)`, higher is better; if given, it selects the checkpoint in place of the validation loss. `digits`: how a
    number is written; of the user's own data, whose scale is unknown, by its significant digits.
    """

    labels: tuple[str, ...]
    score: Callable[[list[str], list[str]], float] | None = None
    decoder: Labeller = Labeller()
    digits: str = ".4f"
    answering: ClassVar[str] = "predict"
    freezes: ClassVar[bool] = True

    @classmethod
    def of(cls, task: AbstractTask, decoder: object, select_by: str) -> Self:
        if not isinstance(decoder, Labeller):
            answer_form = f"a {task.kind}, which {type(decoder).__name__} does not give"
            raise UserError(f"task {task.name} answers with {answer_form}: set decode=labels")
        digits = ".5g" if getattr(task, "source", "") == "own" else ".4f"
        return cls(tuple(task.labels), task.quality if select_by == "score" else None, decoder, digits)

    @property
    def decoding(self) -> Labeller:
        return self.decoder

    def fit(self, spec: BackboneSpec) -> BackboneSpec:
        outputs = len(self.labels) or 1
        if spec.n_labels is not None and spec.n_labels != outputs:
            answer_form = "one number" if self.regression else f"{outputs} classes"
            raise UserError(f"backbone.n_labels={spec.n_labels}, but this task has {answer_form}: leave backbone.n_labels out")
        return replace(spec, head="classification", n_labels=outputs)

    @property
    def regression(self) -> bool:
        return not self.labels

    def encode(
        self, examples: Sequence[Example], backbone: Backbone, slots: tuple[int, int], max_length: int
    ) -> tuple[list[Encoded], int]:
        """Rows in order, and how many of them were cut to `max_length`. An example without a target has label 0."""
        if backbone.reads_parts:
            raise UserError("method.parts=true needs a task whose texts have named parts, such as e2e: set method.parts=false")
        limit = backbone.positions
        if limit is not None and max_length > limit:
            raise UserError(
                f"data.max_length={max_length}, but this backbone has {limit} positions: lower it"
            )
        first = token_ids([e.input for e in examples], backbone.tokenizer)
        seconds = iter(token_ids([e.second for e in examples if e.second is not None], backbone.tokenizer))
        labels = {target: self._label(target) for target in {e.target for e in examples}}
        encodings = [
            encode_sentence(ids, None if e.second is None else next(seconds), labels[e.target], backbone, slots, max_length)
            for ids, e in zip(first, examples, strict=True)
        ]
        return [row for row, _ in encodings], sum(cut > 0 for _, cut in encodings)

    def ask(
        self,
        examples: Sequence[Example],
        backbone: Backbone,
        slots: tuple[int, int],
        max_length: int,
        shots: Sequence[Example] = (),
    ) -> tuple[list[Encoded], int]:
        if shots:
            raise UserError(f"data.shots={len(shots)}: a classification head takes no examples in its input; set data.shots=0")
        if backbone.compares and not (self.regression and all(e.second is not None for e in examples)):
            raise UserError("method=cosine says how alike two sentences are: choose a task that asks for it, such as task=stsb")
        return self.encode(examples, backbone, slots, max_length)

    def _label(self, text: str) -> float:
        if self.regression:
            return float(text or 0)
        return self.labels.index(text) if text else 0

    def count(self, row: Encoded) -> int:
        return 1

    def summed(self, backbone: Backbone, batch: Batch, label_smoothing: float) -> torch.Tensor:
        return self._loss(self._logits(backbone, batch), batch.labels, label_smoothing)

    def _logits(self, backbone: Backbone, batch: Batch) -> torch.Tensor:
        features = features_of(backbone, batch) if batch.features is None else batch.features
        return logits_of(backbone, features).float()

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float) -> torch.Tensor:
        if self.regression:
            return F.mse_loss(logits[:, 0], labels, reduction="sum")
        return F.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="sum")

    @torch.no_grad()
    def validate(self, backbone: Backbone, rows: Sequence[Encoded], batch_size: int) -> dict[str, float]:
        """`dev_loss`: mean loss per row, without smoothing. If there is a score, also `dev_score` and the scores of two halves.

        `dev_score_even` and `dev_score_odd` are of every other row, from the first and from the second: they tell how much
        selection on the reported rows adds to a score.
        """
        total, answers = 0.0, [""] * len(rows)
        for order, batch in batches(rows, batch_size, backbone.pad, backbone.device):
            logits = self._logits(backbone, batch)
            total += float(self._loss(logits, batch.labels, 0.0))
            for index, text in zip(order, self._texts(logits), strict=True):
                answers[index] = text
        metrics = {"dev_loss": total / len(rows)}
        if self.score is not None and math.isfinite(total):  # a value that is not a number has no score: the run has diverged
            gold = [f"{row.label}" if self.regression else self.labels[int(row.label)] for row in rows]
            metrics["dev_score"] = self.score(answers, gold)
            for half, name in enumerate(HALVES):
                metrics[name] = self.score(answers[half::2], gold[half::2]) if gold[half:] else math.nan
        return metrics

    def figure(self, validation: dict[str, float]) -> float:
        """The number that the best checkpoint minimises. An undefined score (constant predictions) counts as the worst."""
        if self.score is None:
            return validation["dev_loss"]
        score = validation["dev_score"]
        return -score if score == score else float("inf")

    @torch.no_grad()
    def answer(
        self, backbone: Backbone, rows: Sequence[Encoded], progress: Callable[[int], None]
    ) -> tuple[list[str], int]:
        """The class (or the number, by `digits`) of each row."""
        if backbone.compares:
            return self._cosines(backbone, rows, progress)
        answers, calls = [""] * len(rows), 0
        for order, batch in batches(rows, self.decoder.batch_size, backbone.pad, backbone.device):
            for index, text in zip(order, self._texts(self._logits(backbone, batch)), strict=True):
                answers[index] = text
            calls += 1
            progress(len(order))
        return answers, calls

    def _cosines(
        self, backbone: Backbone, rows: Sequence[Encoded], progress: Callable[[int], None]
    ) -> tuple[list[str], int]:
        """As `answer`, by the cosine of the vectors of each row's two sentences."""
        sides = [side for row in rows for side in sentences_of(row, backbone)]
        vectors, calls = torch.empty(len(sides), backbone.hidden_size), 0
        for order, batch in batches(sides, self.decoder.batch_size, backbone.pad, backbone.device):
            vectors[order] = features_of(backbone, batch).float().cpu()
            calls += 1
        progress(len(rows))
        return self._texts(F.cosine_similarity(vectors[::2], vectors[1::2]).unsqueeze(1)), calls

    def _texts(self, logits: torch.Tensor) -> list[str]:
        if self.regression:
            return [f"{value:{self.digits}}" for value in logits[:, 0].tolist()]
        return [self.labels[index] for index in logits.argmax(dim=1).tolist()]

    @torch.no_grad()
    def frozen(self, backbone: Backbone, rows: Sequence[Encoded], batch_size: int, passes: float) -> list[Encoded]:
        """The rows with the features of the frozen body, which then runs once instead of once per epoch.

        Without dropout in the body (backbone.dropout 0) this equals running it every time, but for the last bits, which padding
        to other lengths changes. With dropout it is the usual feature-based transfer: one noiseless pass.
        """
        body_was_training = backbone.model.training
        backbone.model.eval()
        feature_rows = list(rows)
        for order, batch in batches(rows, batch_size, backbone.pad, backbone.device):
            for index, vector in zip(order, features_of(backbone, batch).float().cpu(), strict=True):
                feature_rows[index] = replace(rows[index], features=vector)
        backbone.model.train(body_was_training)
        return feature_rows
