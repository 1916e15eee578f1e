"""Choosing a label by the sum of its tokens' log-probabilities is what beam search restricted to labels finds.

First tokens alone do not decide this, even where they all differ: the later tokens count too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from conftest import tiny_backbone

from lora_repro.backbone.model import Backbone
from lora_repro.data import Encoded
from lora_repro.decode.beam import BeamSearch
from lora_repro.errors import UserError
from lora_repro.methods.base import AbstractMethod
from lora_repro.methods.lora import Lora
from lora_repro.methods.prompt_tuning import PromptTuning
from lora_repro.methods.untuned import Untuned
from lora_repro.objectives.classification import Classification, Labeller
from lora_repro.objectives.completion import Completion, encode_prompt, likeliest
from lora_repro.run.stages import answer
from lora_repro.tasks.base import Example
from lora_repro.tasks.glue.text import GlueText

Tokens = tuple[int, ...]
NextLogP = Callable[[Tokens], Sequence[float]]  # what has been written -> log p of each next token


def restricted(next_log_p: NextLogP, labels: Sequence[Tokens], end: int) -> int:
    """Beam search in the tree of labels, all of which fit into the beams: the label of the largest sum, the first of equals."""
    sequences = [(*label, end) for label in labels]
    alive: list[tuple[float, Tokens]] = [(0.0, ())]
    scores: list[tuple[float, int]] = []
    while alive:
        extensions = {}
        for total, prefix in alive:
            for label in sequences:
                if label[: len(prefix)] == prefix:
                    token = label[len(prefix)]
                    extensions[(*prefix, token)] = total + next_log_p(prefix)[token]
        scores += [(total, sequences.index(prefix)) for prefix, total in extensions.items() if prefix in sequences]
        alive = [(total, prefix) for prefix, total in extensions.items() if prefix not in sequences]
    return min((-total, index) for total, index in scores)[1]


ANSWERS = ("aye", "nay", "may", "mayb")  # one the start of another
WORDS = {"entailment": "True", "neutral": "Neither", "contradiction": "False"}
TASK = GlueText(name="m", label="M", words=WORDS, template="{first} {second}?", source="embedded")


def loud(architecture: str, method: AbstractMethod) -> Backbone:
    """A backbone with opinions."""
    backbone = tiny_backbone(architecture)
    method.apply(backbone)
    with torch.no_grad():
        for parameter in backbone.model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return backbone


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("method", [Lora(rank=2), PromptTuning(prefix=2, infix=1)], ids=lambda method: method.name)
def test_one_forward_pass_finds_what_restricted_decoding_does(architecture: str, method: AbstractMethod) -> None:
    backbone = loud(architecture, method)
    texts = ("a", "It rains.", "xy" * 9, "q? A:", "?!", "zz z")
    prompts = [encode_prompt(text, backbone, method.virtual_tokens) for text in texts]
    counts: list[int] = []
    answers, calls = likeliest(backbone, prompts, ANSWERS, 4, counts.append)
    assert (calls, sum(counts)) == (2, 6)
    tokens = [tuple(backbone.tokenizer.encode(f" {answer}")) for answer in ANSWERS]

    def after(prompt: Encoded) -> NextLogP:
        def next_log_p(written: Tokens) -> list[float]:
            inputs = {"input_ids": torch.tensor([[*prompt.ids, *written]])}
            if sum(method.virtual_tokens):
                inputs["virtual"] = torch.tensor([[*prompt.virtual, *[-1] * len(written)]])
            with torch.no_grad():
                logits = backbone.model(**inputs).logits[0, -1]
            return logits.log_softmax(-1).tolist()  # type: ignore[no-any-return]

        return next_log_p

    assert answers == [ANSWERS[restricted(after(prompt), tokens, backbone.eos)] for prompt in prompts]
    assert len(set(answers)) > 1


def test_a_task_with_given_answers_may_be_answered_so_and_others_not() -> None:
    objective = Completion.of(TASK, Labeller(batch_size=2), "loss")
    backbone = loud("gpt2", Lora(rank=2))
    examples = [TASK.ask(f"{text} || b") for text in ("a", "cc", "ddd")]
    rows, cut = objective.ask(examples, backbone, (0, 0), 30)
    outputs, calls = objective.answer(backbone, rows, lambda n: None)
    assert (cut, calls, len(outputs)) == (0, 2, 3) and set(outputs) <= set(WORDS.values())
    longest = len(" Neither") + 1  # one token a byte, and EOS
    assert objective.ask(examples, backbone, (0, 0), len(rows[2].ids) + longest)[1] == 0
    with pytest.raises(UserError, match=r"nothing of it|only"):
        objective.ask(examples[:1], backbone, (0, 0), len(rows[0].ids) + longest - 1)
    with pytest.raises(UserError, match="task e2e answers with text"):
        Completion.of(type("Text", (), {"name": "e2e", "answers": ()})(), Labeller(), "loss")


def test_an_answer_that_the_backbone_has_no_positions_for_is_refused() -> None:
    """GPT-2 looks positions up in a table, and a given answer is read with its prompt."""
    objective, backbone, method = Completion.of(TASK, Labeller(), "loss"), tiny_backbone("gpt2"), Untuned()
    longest = len(" Neither") + 1  # one token a byte, and EOS
    assert backbone.positions == 256
    around = len(encode_prompt(TASK.ask("a || b").input, backbone).ids) - 1
    fitting, larger = (TASK.ask(f"{'a' * (256 - longest - around + more)} || b") for more in (0, 1))
    assert len(answer(backbone, method, objective, 999, "fp32", "test", [fitting]).outputs) == 1
    with pytest.raises(UserError, match=r"248 tokens and 9 new ones, but this backbone has 256 positions: lower data.max_length"):
        answer(backbone, method, objective, 999, "fp32", "test", [larger])


def test_shots_stand_before_each_input_with_their_texts() -> None:
    backbone, shots = tiny_backbone("gpt2"), [Example("k", "in", "out"), Example("l", "more", "text")]
    rows, _ = Completion(BeamSearch(max_new_tokens=2)).ask([Example("t", "asked", "")], backbone, (1, 1), 99, shots)
    before = backbone.tokenizer.encode("in\n out\n\nmore\n text\n\n")
    (plain,), _ = Completion(BeamSearch(max_new_tokens=2)).ask([Example("t", "asked", "")], backbone, (1, 1), 99)
    assert rows[0].ids == [*before, *plain.ids] and rows[0].virtual == [-1] * len(before) + plain.virtual
    assert rows[0].prompt_length == len(rows[0].ids) and set(rows[0].segments) == {0}
    with pytest.raises(UserError, match=r"set data\.shots=0"):
        Classification(("a", "b")).ask([], backbone, (0, 0), 9, shots)
