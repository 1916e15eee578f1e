"""A sentence task as generation: a decoder is asked in words and answers with a label word (LoRA paper, Section 5.5: MNLI).

The files and readers are those of `Glue`; the answer is a text. The paper gives no prompt for MNLI. That of
conf/task/mnli_text.yaml is the prompt with which GPT-3 was asked for inference with three answers (Brown et al. 2020,
Appendix G, ANLI).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from string import Formatter
from typing import ClassVar

from lora_repro.errors import UserError
from lora_repro.metrics import glue as metrics
from lora_repro.tasks import _files
from lora_repro.tasks.base import AbstractTask, Example, Scores, Splits, check_scorable, example_key
from lora_repro.tasks.glue.files import load_generated, rows_sha256
from lora_repro.tasks.glue.task import ATTRIBUTION, Glue
from lora_repro.tasks.glue.task import examples as sentences

GENERATED_LABELS = ("entailment", "neutral", "contradiction")


@dataclass(frozen=True)
class Asked(Example):
    """A question in words, with its sentences so that one of them can be cut."""

    pair: Example | None = None
    template: str = ""


@dataclass(frozen=True, kw_only=True)
class GlueText(AbstractTask):
    """One sentence task whose answers are the words of `words`: label -> word.

    - `template`: the input text, with {first} and, for pairs, {second}.
    - `scored`: one split. The fields that are not listed here are those of `Glue`.
    - `official`: the number of rows of each split in the whole set; if `rows` asserts fewer, the caption gives both.
    - `whole`: the overrides that read the whole set, for the error if such a part is not at hand.
    - `longest`: rows whose sentences together have more characters are left out, and the caption says how many. In the part of
      MNLI, three rows contain hundreds of others, which a reader that paired quotation marks had merged.

    An answer is right if it is the gold label's word, apart from case and white space at the ends; any other text is wrong.
    Raises UserError on any other value.
    """

    name: str
    label: str
    words: Mapping[str, str]
    template: str
    source: str = "folder"
    folder: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, object] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    official: Mapping[str, int] = field(default_factory=dict)
    whole: str = ""
    longest: int | None = None
    scored: str = "matched"
    hub: Mapping[str, str] = field(default_factory=dict)
    held_out: int = 0
    metrics: Sequence[str] = ("accuracy",)

    attribution: ClassVar[str] = ATTRIBUTION
    directions: ClassVar[dict[str, int]] = {"accuracy": 1}
    cut: ClassVar[str] = "the last words of the first sentence"

    def __post_init__(self) -> None:
        if tuple(self.metrics) != ("accuracy",):
            raise UserError(f"task.metrics={list(self.metrics)}: an answer in words is scored by accuracy alone")
        if bad := [word for word in self.words.values() if not isinstance(word, str)]:
            raise UserError(f"task {self.name}: word {bad[0]!r} is not text; put it in quotes (yaml reads true as a bool)")
        words = [word.strip().lower() for word in self.words.values()]
        if len(words) < 2 or len(set(words)) != len(words) or not all(words):
            raise UserError(f"task {self.name}: task.words needs a different word for each of two labels or more")
        try:
            parts = list(Formatter().parse(self.template))
        except ValueError as error:
            raise UserError(f"task.template: {error}; write {{first}} and {{second}}") from None
        if not {"first"} <= {name for _, name, _, _ in parts if name is not None} <= {"first", "second"}:
            raise UserError("task.template must contain {first}, may contain {second}, and no other field")
        if self.source != "embedded":
            self._sentences()
        elif tuple(self.words) != GENERATED_LABELS:
            raise UserError(f"task.source=embedded needs task.words for {', '.join(GENERATED_LABELS)}, in this order")

    @property
    def answers(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(self.words.values())

    def _sentences(self) -> Glue:
        """The task that reads the files or the hub's rows. Raises UserError on values that it refuses."""
        return Glue(
            name=self.name, label=self.label, labels=tuple(self.words), source=self.source, folder=self.folder, files=self.files,
            columns=self.columns, rows=self.rows, scored=(self.scored,), hub=self.hub, held_out=self.held_out,
        )  # fmt: skip

    def caption(self, left_out: int = 0) -> str:
        """What tables print: task, source, that answers are words, how many rows of a split were read, and rows left out."""
        if self.source == "embedded":
            return f"synthetic sentence pairs answered in words (generated, not {self.label})"
        notes = [self.scored, "local files" if self.source == "folder" else "the hub"]
        notes += [f"{self.rows[split]:,} of {self.official[split]:,} {split} rows" for split in self._parts()]
        if left_out:
            notes.append(f"{left_out} of more than {self.longest:,} characters left out")
        return f"answered in words: {self.label} ({'; '.join(notes)})"

    def _parts(self) -> list[str]:
        """The splits of which only a part is read."""
        return [split for split, n in self.official.items() if self.rows.get(split, n) != n]

    def load(self, folder: str | None) -> Splits:
        """As `Glue.load`: train without the held-out rows; these, or else the scored rows, as dev; the scored rows as test."""
        left_out, others = 0, tuple[str, ...]()
        if self.source == "embedded":
            rows = load_generated("inference")
            hashes = {f"{self.name}/rows/{split}": rows_sha256(split_rows) for split, split_rows in rows.items()}
            parts = [sentences(rows[split], scored=split == "test") for split in ("train", "dev", "test")]
        else:
            self.ready(folder)
            read = self._sentences().load(folder)
            splits, hashes, others = [read.train, read.dev, read.test], read.hashes, read.others
            parts = [[pair for pair in part if self._is_whole(pair)] for part in splits]
            drops = [len(part) - len(rest) for part, rest in zip(splits, parts, strict=True)]
            left_out = sum(drops) if self.held_out else drops[0] + drops[2]  # without held-out rows dev and test are the same
        train, dev, test = ([self._asked(example) for example in part] for part in parts)
        return Splits(train, dev, test, _files.marked(self.caption(left_out), others), hashes, others)

    def _is_whole(self, pair: Example) -> bool:
        return self.longest is None or len(pair.input) + len(pair.second or "") <= self.longest

    def _asked(self, pair: Example) -> Example:
        """The example in words, with its label as the label's word."""
        text = self.template.format(first=pair.input, second=pair.second or "")
        target = self.words[pair.target] if pair.target else ""
        references = tuple(self.words[label] for label in pair.references)
        return Asked(example_key(text), text, target, references, pair=pair, template=self.template)

    def ready(self, folder: str | None) -> None:
        if self.source == "embedded":
            return
        try:
            self._sentences().ready(folder)
        except UserError as error:
            if not (self._parts() and self.whole):
                raise
            # `fetch` gets only the whole set, so the inner error, which points to it, would lead back to this error.
            raise UserError(
                f"{folder or 'the data folder'} has no {self.folder}/ with {' and '.join(self.files.values())}, a part of "
                f"{self.label} that fetch does not have: run lora-repro fetch glue, and read the whole set with "
                f"task={self.name} {self.whole}"
            ) from error

    def ask(self, text: str) -> Example:
        """The example for one sentence or, if the task compares two, for `first || second`."""
        pairs = "{second}" in self.template
        first, _, second = (part.strip() for part in text.partition("||" if pairs else "\0"))
        if not first or pairs != bool(second):
            raise UserError(f"{self.label} takes {'two sentences: FIRST || SECOND' if pairs else 'one sentence'}")
        return self._asked(Example("", first, "", second=second or None))

    def remark(self, example: Example, output: str) -> str:
        """The label that the output names, or that it names none."""
        return self.label_of(output) or f"none of {', '.join(self.words.values())}"

    def label_of(self, output: str) -> str | None:
        """The label whose word the output is; None if it is not a label's word."""
        return {word.strip().lower(): label for label, word in self.words.items()}.get(output.strip().lower())

    def shorter(self, example: Example) -> Iterator[Example]:
        """With fewer and fewer words of the first sentence, cut from its end down to one; the second sentence is never cut."""
        if isinstance(example, Asked) and example.pair is not None:
            words = example.pair.input.split(" ")
            for n in range(len(words) - 1, 0, -1):
                pair = replace(example.pair, input=" ".join(words[:n]))
                text = example.template.format(first=pair.input, second=pair.second or "")
                yield replace(example, input=text, pair=pair)

    def quality(self, answers: list[str], gold: list[str]) -> float:
        """Accuracy of texts against gold label words. Raises UserError if a gold text is not a label's word."""
        return metrics.accuracy(*self._labels(answers, gold))

    def _labels(self, answers: Sequence[str], gold: Sequence[str]) -> tuple[list[str], list[str]]:
        """(labels of the answers, labels of the gold words); "none" for an answer that is not a label's word."""
        right = [self.label_of(word) for word in gold]
        if None in right:
            raise UserError(f"{gold[right.index(None)]!r} is not a label's word; the words are {', '.join(self.words.values())}")
        return [self.label_of(text) or "none" for text in answers], [str(label) for label in right]

    def score(self, outputs: list[str], examples: list[Example]) -> Scores:
        """The share of right answers. Raises UserError when the lengths differ or an example has no label."""
        check_scorable(outputs, examples, "label")
        answers, gold = self._labels(outputs, [example.references[0] for example in examples])
        return Scores(metrics.score(("accuracy",), answers, gold), metrics.per_input_statistics(answers, gold))
