"""A completion for a prompt, or an answer in a chat, from the user's own files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from lora_repro.errors import UserError
from lora_repro.metrics import bleu, chrf, rouge
from lora_repro.tasks.base import Example, Scores, check_scorable, example_key
from lora_repro.tasks.own.columns import Row
from lora_repro.tasks.own.task import OwnTask

ROUGE = ("rouge1_rouge_score", "rouge2_rouge_score", "rougeL_rouge_score")
STEPS = 32  # lengths that are tried between a whole prompt and none of it


@dataclass(frozen=True, kw_only=True)
class OwnTexts(OwnTask):
    """Prompts with a completion, or chats whose last message answers the others. Fields: `OwnTask`.

    Test rows with the same input are one input with several references. Metrics: `exact_match` (apart from white space at the
    ends), `bleu` (mteval's tokens, case ignored; next to 0 where no output has four tokens), `chrf`, and ROUGE as rouge_score
    computes it, of words in any script (`rouge.words`); with several references the best counts.
    Of a prompt that is too long the first words are cut, of a chat the first messages. Raises UserError on other values.
    """

    name: str = "own_texts"
    label: str = "own data"
    train: str | None = None
    dev: str | None = None
    test: str | None = None
    columns: Mapping[str, str | None] = field(default_factory=dict)
    metrics: Sequence[str] = ("rougeL_rouge_score",)
    held_out: int = 200
    max_train: int | None = None
    max_test: int | None = None
    function: str | None = None
    with_texts: bool = False
    sha256: Mapping[str, str | None] = field(default_factory=dict)

    scores: ClassVar[tuple[str, ...]] = ("exact_match", "bleu", "chrf", *ROUGE)
    cut: ClassVar[str] = "the first words of a prompt or messages of a chat"

    def __post_init__(self) -> None:
        self.check()

    @property
    def chats(self) -> bool:
        """Whether inputs are chats. Without files, as `columns` says."""
        return bool(self.columns.get("messages")) if self.train is None else self.data().columns.kind == "chat"

    @property
    def objective(self) -> str:  # type: ignore[override]
        return "lora_repro.objectives.chat.Chat" if self.chats else "lora_repro.objectives.completion.Completion"

    @property
    def keeps_outputs(self) -> bool:  # type: ignore[override]
        return self.with_texts

    @property
    def found(self) -> dict[str, Any]:
        return {} if self.train is None else {"columns": self.data().columns.roles}

    def example(self, row: Row, scored: bool) -> Example:
        answer = "" if scored else row.answer
        return Example(example_key(row.input), row.input, answer, (row.answer,) if scored else ())

    def tested(self, rows: Sequence[Row]) -> list[Example]:
        texts: dict[str, list[str]] = {}
        for row in rows:
            texts.setdefault(row.input, []).append(row.answer)
        return [Example(example_key(prompt), prompt, "", tuple(answers)) for prompt, answers in texts.items()]

    def ask(self, text: str) -> Example:
        """The example for a prompt; in a chat it is the user's first message."""
        if not text.strip():
            raise UserError("write a prompt")
        prompt = json.dumps([{"role": "user", "content": text.strip()}], ensure_ascii=False) if self.chats else text.strip()
        return Example(example_key(prompt), prompt, "")

    def shorter(self, example: Example) -> Iterator[Example]:
        """Without more and more of the first words; of a chat, without the first messages after the system's.

        What is left of a chat begins with a message of the same role, since many templates want roles to alternate.
        """
        if self.chats:
            turns = json.loads(example.input)
            system = turns[:1] if turns[0]["role"] == "system" else []
            rest = turns[len(system) :]
            for n in range(1, len(rest)):
                if rest[n]["role"] == rest[0]["role"]:
                    yield replace(example, input=json.dumps([*system, *rest[n:]], ensure_ascii=False))
            return
        words = example.input.split(" ")
        for start in sorted({len(words) * step // STEPS for step in range(1, STEPS)} - {0}):
            yield replace(example, input=" ".join(words[start:]))

    def too_long(self, example: Example) -> str:
        begins = " ".join((example.target or example.input).split())[:40]
        way = "raise data.max_length, or leave that row out"
        return f"the row whose text begins {begins!r} is too long, and only {self.cut} may be cut: {way}"

    def score(self, outputs: list[str], examples: list[Example]) -> Scores:
        """Corpus scores of one output per example, and each input's statistics. Raises UserError when lengths differ."""
        check_scorable(outputs, examples)
        references = [example.references for example in examples]
        statistics: list[dict[str, object]] = [{} for _ in examples]
        values: dict[str, float] = {}
        if "exact_match" in self.metrics:
            for line, output, group in zip(statistics, outputs, references, strict=True):
                line["exact_match"] = int(output.strip() in {text.strip() for text in group})
            values["exact_match"] = _mean(statistics, "exact_match")
        if "bleu" in self.metrics:
            counts = [bleu.without_negatives(bleu.bleu_counts(*pair)) for pair in zip(outputs, references, strict=True)]
            for line, of_text in zip(statistics, counts, strict=True):
                line |= {
                    "matches": list(of_text.matches), "totals": list(of_text.totals),
                    "hyp_len": of_text.hyp_len, "ref_len": of_text.ref_len,
                }  # fmt: skip
            values["bleu"] = bleu.bleu(counts)
        if "chrf" in self.metrics:
            chrf_counts = [chrf.counts(output, group) for output, group in zip(outputs, references, strict=True)]
            for line, numbers in zip(statistics, chrf_counts, strict=True):
                line["chrf"] = numbers
            values["chrf"] = chrf.corpus(chrf_counts)
        for metric in [metric for metric in ROUGE if metric in self.metrics]:
            for line, best in zip(statistics, rouge.best(metric, outputs, references), strict=True):
                line[metric] = best
            values[metric] = _mean(statistics, metric)
        values |= self.told(statistics, outputs, examples)
        return Scores({metric: values[metric] for metric in self.metrics}, statistics)


def _mean(statistics: Sequence[Mapping[str, object]], key: str) -> float:
    return sum(float(str(line[key])) for line in statistics) / len(statistics)
