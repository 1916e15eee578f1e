"""A text after a prompt: label-smoothed cross-entropy on its tokens and EOS (paper, Table 11; Section 2), beam search to answer.

One training sequence, as in the authors' code (its separator is GPT-2's token 50256):

    [BOS] [prefix slots] input [infix slots] separator " completion" EOS
    ----------------- prompt: not scored -------------  -- scored ---

BOS is there only for a model whose tokenizer opens every text with one.

The loss is taken where the *next* token is a completion token or EOS, so from the separator's position on. With V vocabulary
entries, target y and smoothing eps it is  (1 - eps) * -log p(y) + eps * (1/V) * sum_v -log p(v).  The smoothing mass is spread
over the full vocabulary, target included, as in the authors' code.

If the answer is one of a few given texts, nothing is generated: `likeliest` compares their probabilities. Shots, solved examples
before an input, are  input separator " completion" blank line  each; a generated answer ends at a blank line too, unless
`decode.blank_line` is false.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch.nn import functional as F

from lora_repro.data import Batch, Encoded, batches, collate
from lora_repro.decode.beam import BeamSearch
from lora_repro.decode.cache import window
from lora_repro.errors import UserError
from lora_repro.objectives.base import Objective, position_keywords
from lora_repro.objectives.classification import Labeller

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone
    from lora_repro.backbone.spec import BackboneSpec
    from lora_repro.tasks.base import AbstractTask, Example

MOST = 2**31  # bytes of hidden states to keep, at most


def parts_of(text: str, ids: Sequence[int], backbone: Backbone, task: AbstractTask | None) -> list[int]:
    """The segment of each token of an input: 0 or, for part k of the task, 2 + k; a token belongs to its last letter's part.

    Raises UserError if a method distinguishes parts and the task names another number of them.
    """
    n = len(task.parts) if task else 0
    if not backbone.reads_parts:
        return [0] * len(ids)
    if backbone.reads_parts != n or task is None:
        problem = f"names {n} parts of an input" if n else "names no parts of an input"
        raise UserError(f"task {task.name if task else ''} {problem}: set method.parts=false, or method.n={n + 1} with parts")
    starts, numbers = zip(*task.parted(text), strict=True)
    ends = backbone.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return [2 + numbers[max(0, bisect_right(starts, end - 1) - 1)] for _, end in ends]


def encode_prompt(
    text: str, backbone: Backbone, slots: tuple[int, int] = (0, 0), task: AbstractTask | None = None
) -> Encoded:
    """Input text to prompt ids: BOS, prefix slots, input tokens, infix slots, separator. `task`: names parts with segments."""
    prefix, infix = slots
    context: list[int] = backbone.tokenizer.encode(text, add_special_tokens=False)
    ids = backbone.cls + [backbone.pad] * prefix + context + [backbone.pad] * infix + backbone.separator
    virtual = [
        *[-1] * len(backbone.cls),
        *range(prefix),
        *[-1] * len(context),
        *range(prefix, prefix + infix),
        *[-1] * len(backbone.separator),
    ]
    parts = parts_of(text, context, backbone, task)
    segments = [*[0] * (len(backbone.cls) + prefix), *parts, *[0] * (infix + len(backbone.separator))]
    return Encoded(ids, virtual, segments, len(ids))


def completed(prompt: Encoded, text: str, backbone: Backbone) -> Encoded:
    """The prompt followed by " text" and EOS."""
    ids = [*backbone.tokenizer.encode(" " + text, add_special_tokens=False), backbone.eos]
    virtual, segments = prompt.virtual + [-1] * len(ids), prompt.segments + [1] * len(ids)
    return Encoded(prompt.ids + ids, virtual, segments, prompt.prompt_length)


def after(shots: Sequence[int], prompt: Encoded, opening: int = 0) -> Encoded:
    """The prompt with the tokens of `shots` before it, but after its first `opening` ones: no slots, in segment 0."""
    n, first, rest = len(shots), prompt.ids[:opening], prompt.ids[opening:]
    return Encoded([*first, *shots, *rest], [-1] * n + prompt.virtual, [0] * n + prompt.segments, n + prompt.prompt_length)


def encode(
    examples: Sequence[Example], backbone: Backbone, slots: tuple[int, int], max_length: int, task: AbstractTask | None = None
) -> list[Encoded]:
    """(input, target) pairs to training sequences. Raises UserError on an empty target or one that does not fit."""
    rows = []
    for example in examples:
        prompt = encode_prompt(example.input, backbone, slots, task)
        if not example.target.strip():
            raise UserError(f"training text of input {example.key} is empty")
        row = completed(prompt, example.target, backbone)
        if len(row.ids) > max_length:
            raise UserError(f"a sequence of {len(row.ids)} tokens exceeds data.max_length={max_length}: raise it")
        rows.append(row)
    return rows


def fitting(
    task: AbstractTask | None, examples: Sequence[Example], tokens: Callable[[Example], int], most: int
) -> tuple[list[Example], int]:
    """The examples, those of more than `most` tokens cut by the task's own rule (`AbstractTask.fit`), and how many were cut.

    Without a rule none is cut. Raises UserError if the rule leaves nothing that fits.
    """
    if task is None or not task.cut:
        return list(examples), 0
    short_examples = [task.fit(example, lambda text: tokens(text) <= most) for example in examples]
    return short_examples, sum(cut is not original for cut, original in zip(short_examples, examples, strict=True))


def scored_logits(backbone: Backbone, batch: Batch) -> torch.Tensor:
    """Logits (N, V) of the scored positions, row by row."""
    hidden = scored_hidden(backbone, batch) if batch.features is None else batch.features
    return backbone.logits(hidden).float()


def scored_hidden(backbone: Backbone, batch: Batch) -> torch.Tensor:
    """The body's last hidden states (N, d) at the scored positions, row by row."""
    hidden = backbone.hidden(batch.ids, batch.attention, **position_keywords(backbone, batch))
    return hidden.flatten(0, 1)[batch.scored]


def summed_loss(backbone: Backbone, batch: Batch, label_smoothing: float) -> tuple[torch.Tensor, int]:
    """Sum of the loss over scored positions, and their number.

    Only scored positions (about 40 % of an E2E sequence) go through the LM head, which is a fifth of SmolLM2's FLOPs and
    nearly all of its activation memory: N x 49,152 floats.
    """
    targets = batch.targets.flatten()[batch.scored]
    loss = F.cross_entropy(scored_logits(backbone, batch), targets, label_smoothing=label_smoothing, reduction="sum")
    return loss, len(targets)


@torch.no_grad()
def likeliest(
    backbone: Backbone, prompts: Sequence[Encoded], answers: Sequence[str], batch_size: int, progress: Callable[[int], None]
) -> tuple[list[str], int]:
    """For each prompt the answer with the largest log p, the first of equal ones; and the number of model calls.

    log p(answer) = sum_t log p(token t | prompt, tokens before t), its EOS included. Each prompt with each answer is a row as in
    training, so a batch of prompts takes one forward pass. Beam search restricted to the answers, with a beam for each, finds the
    same.
    """
    best_answers, calls = [""] * len(prompts), 0
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].ids))
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        rows = [completed(prompts[i], answer, backbone) for i in indices for answer in answers]
        batch = collate(rows, backbone.pad).to(backbone.device)
        losses = F.cross_entropy(scored_logits(backbone, batch), batch.targets.flatten()[batch.scored], reduction="none")
        of_row = batch.scored // batch.ids.shape[1]
        sums = losses.new_zeros(len(rows)).index_add(0, of_row, losses).view(-1, len(answers))
        for i, least in zip(indices, sums.argmin(dim=1).tolist(), strict=True):
            best_answers[i] = answers[least]
        calls += 1
        progress(len(indices))
    return best_answers, calls


@dataclass(frozen=True)
class Completion(Objective):
    """The objective described above: selected by validation loss, answered by `decoder`; `task`'s rule cuts what does not fit.

    With a `Labeller` as decoder the answer is the likeliest of the task's `answers`.
    """

    decoder: BeamSearch | Labeller = field(default_factory=BeamSearch)
    task: AbstractTask | None = None
    answering: ClassVar[str] = "decode"

    @classmethod
    def of(cls, task: AbstractTask, decoder: object, select_by: str) -> Self:
        if not isinstance(decoder, BeamSearch) and not (isinstance(decoder, Labeller) and task.answers):
            raise UserError(f"task {task.name} answers with text, which {type(decoder).__name__} does not give: set decode=beam")
        if select_by == "score":
            raise UserError("a text has no single gold answer to select by: set train.select_by=loss")
        return cls(decoder, task)

    @property
    def decoding(self) -> BeamSearch | Labeller:
        return self.decoder

    def fit(self, spec: BackboneSpec) -> BackboneSpec:
        if spec.head == "classification":
            raise UserError("backbone.head=classification, but this task is answered with text: leave backbone.head out")
        return spec

    def encode(
        self, examples: Sequence[Example], backbone: Backbone, slots: tuple[int, int], max_length: int
    ) -> tuple[list[Encoded], int]:
        def tokens(example: Example) -> int:
            return len(completed(encode_prompt(example.input, backbone, slots), example.target, backbone).ids)

        fit, cut = fitting(self.task, examples, tokens, max_length)
        return encode(fit, backbone, slots, max_length, self.task), cut

    def ask(
        self,
        examples: Sequence[Example],
        backbone: Backbone,
        slots: tuple[int, int],
        max_length: int,
        shots: Sequence[Example] = (),
    ) -> tuple[list[Encoded], int]:
        """The prompts, cut to leave room for the longest answer in `max_length`; without a rule of the task none is cut.

        Raises UserError for a beam wider than the vocabulary, and for `Cosine`, which writes nothing.
        """
        if backbone.compares:
            raise UserError("method=cosine says how alike two sentences are and writes no text: leave it out")
        shape: Any = backbone.model.config
        vocabulary = shape.vocab_size
        if isinstance(self.decoder, BeamSearch) and self.decoder.beam > vocabulary:
            raise UserError(f"decode.beam={self.decoder.beam} exceeds the vocabulary of {vocabulary} tokens: use a smaller beam")
        shot_ids = self._shown(shots, backbone)

        def tokens(example: Example) -> int:
            return len(shot_ids) + len(encode_prompt(example.input, backbone, slots).ids)

        fit, cut = fitting(self.task, examples, tokens, max_length - self._longest(backbone))
        prompts = (encode_prompt(example.input, backbone, slots, self.task) for example in fit)
        return [after(shot_ids, prompt, len(backbone.cls)) for prompt in prompts], cut

    def _longest(self, backbone: Backbone) -> int:
        """Tokens of the longest answer."""
        if isinstance(self.decoder, BeamSearch) or self.task is None:
            return self.decoder.max_new_tokens
        return max(len(completed(Encoded([], [], [], 0), text, backbone).ids) for text in self.task.answers)

    def added(self, backbone: Backbone) -> int:
        """All tokens of a given answer; of a generated one all but the last, which is never fed back."""
        longest = self._longest(backbone)
        return longest - 1 if isinstance(self.decoder, BeamSearch) else longest

    def reach(self, backbone: Backbone) -> int | None:
        """What is generated stays within the narrowest window of the backbone's attention."""
        return window(backbone.model.config) if isinstance(self.decoder, BeamSearch) else None

    def _shown(self, shots: Sequence[Example], backbone: Backbone) -> list[int]:
        """The tokens of solved examples."""
        ids: list[int] = []
        for shot in shots:
            prompt = encode_prompt(shot.input, backbone)
            ids += completed(prompt, shot.target, backbone).ids[len(backbone.cls) : -1]
            ids += backbone.tokenizer.encode("\n\n", add_special_tokens=False)
        return ids

    def plain(self, texts: Sequence[str], backbone: Backbone, slots: tuple[int, int], outside: int = 0) -> list[Encoded]:
        """[BOS] [slots] text, scored from its second token on and cut to the model's positions."""
        rows, slot = [], sum(slots)
        opening = len(backbone.cls)
        n = opening + slot
        room = None if backbone.positions is None else backbone.positions - n - outside
        for text in texts:
            ids = backbone.tokenizer.encode(text, add_special_tokens=False)[:room]
            virtual = [*[-1] * opening, *range(slot), *[-1] * len(ids)]
            rows.append(Encoded([*backbone.cls, *[backbone.pad] * slot, *ids], virtual, [0] * (n + len(ids)), n + 1))
        return rows

    def count(self, row: Encoded) -> int:
        return len(row.ids) - row.prompt_length

    def summed(self, backbone: Backbone, batch: Batch, label_smoothing: float) -> torch.Tensor:
        return summed_loss(backbone, batch, label_smoothing)[0]

    @torch.no_grad()
    def validate(self, backbone: Backbone, rows: Sequence[Encoded], batch_size: int) -> dict[str, float]:
        """Mean negative log-likelihood per scored token, nats, without smoothing.

        This is the mean over all tokens; the authors average the per-batch means, which gives short batches more weight.
        """
        total, count = 0.0, 0
        for _, batch in batches(rows, batch_size, backbone.pad, backbone.device):
            loss, n = summed_loss(backbone, batch, 0.0)
            total, count = total + float(loss), count + n
        return {"dev_loss": total / count}

    @torch.no_grad()
    def frozen(self, backbone: Backbone, rows: Sequence[Encoded], batch_size: int, passes: float) -> Sequence[Encoded]:
        """The rows with the body's hidden states at scored positions, in the dtype in which the head uses them.

        Otherwise the rows as they are: if the body has dropout, rows are seen only once, or the states exceed `MOST` bytes. Which
        rows share a batch changes the last bits.
        """
        kind = backbone.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
        size = sum(map(self.count, rows)) * backbone.hidden_size * dtype.itemsize
        if passes <= 1 or backbone.drops or size > MOST:
            return rows
        backbone.model.eval()
        feature_rows = list(rows)
        for order, batch in batches(rows, batch_size, backbone.pad, backbone.device):
            hidden: Any = scored_hidden(backbone, batch).to(dtype).cpu()
            for index, states in zip(order, hidden.split([self.count(rows[i]) for i in order]), strict=True):
                feature_rows[index] = replace(rows[index], features=states)
        return feature_rows

    def answer(
        self, backbone: Backbone, rows: Sequence[Encoded], progress: Callable[[int], None]
    ) -> tuple[list[str], int]:
        if isinstance(self.decoder, Labeller):
            answers = self.task.answers if self.task else ()
            return likeliest(backbone, rows, answers, self.decoder.batch_size, progress)
        generation = self.decoder.decode(
            backbone.model,
            backbone.tokenizer,
            rows,
            backbone.eos,
            backbone.pad,
            progress,
            backbone.reads_segments,
        )
        return generation.outputs, generation.forward_calls
