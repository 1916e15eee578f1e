"""The last message of a chat: `Completion` with the tokenizer's own chat template in place of input, separator and completion.

    template(messages so far, with the opening of an answer)  template's text of the answer, to its end-of-turn token
    ------------- prompt: not scored -----------------------  -------------- scored ---------------------------------

An example's input is JSON: a list of {"role", "content"}. The answer ends at the backbone's eos, which is put there if the
template writes another end.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from lora_repro.data import Encoded
from lora_repro.errors import UserError
from lora_repro.objectives.completion import Completion, fitting, parts_of

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone
    from lora_repro.tasks.base import AbstractTask, Example


@dataclass(frozen=True)
class Chat(Completion):
    """The objective described above. Raises UserError, when rows are made, for a tokenizer without a chat template."""

    def encode(
        self, examples: Sequence[Example], backbone: Backbone, slots: tuple[int, int], max_length: int
    ) -> tuple[list[Encoded], int]:
        def row(example: Example) -> Encoded:
            return answered(example, backbone, slots, self.task)

        fit, cut = fitting(self.task, examples, lambda example: len(row(example).ids), max_length)
        return [row(example) for example in fit], cut

    def ask(
        self,
        examples: Sequence[Example],
        backbone: Backbone,
        slots: tuple[int, int],
        max_length: int,
        shots: Sequence[Example] = (),
    ) -> tuple[list[Encoded], int]:
        if shots:
            raise UserError(f"data.shots={len(shots)}: a chat takes no examples before it; set data.shots=0")

        def prompt(example: Example) -> Encoded:
            return opened(example, backbone, slots, self.task)

        most = max_length - self.decoding.max_new_tokens
        fit, cut = fitting(self.task, examples, lambda example: len(prompt(example).ids), most)
        return [prompt(example) for example in fit], cut


def opened(example: Example, backbone: Backbone, slots: tuple[int, int], task: AbstractTask | None) -> Encoded:
    """The messages up to the opening of an answer: prefix slots before them, infix slots before their last token."""
    prefix, infix = slots
    ids: list[int] = backbone.tokenizer.encode(_written(backbone, json.loads(example.input), True), add_special_tokens=False)
    parts = parts_of(example.input, ids, backbone, task)
    prompt_ids = [backbone.pad] * prefix + ids[:-1] + [backbone.pad] * infix + ids[-1:]
    virtual = [*range(prefix), *[-1] * (len(ids) - 1), *range(prefix, prefix + infix), -1]
    return Encoded(prompt_ids, virtual, [0] * prefix + parts[:-1] + [0] * infix + parts[-1:], len(prompt_ids))


def answered(example: Example, backbone: Backbone, slots: tuple[int, int], task: AbstractTask | None) -> Encoded:
    """The messages with the answer, up to the token that ends it."""
    prompt, turns = opened(example, backbone, slots, task), json.loads(example.input)
    before = _written(backbone, turns, True)
    chat = _written(backbone, [*turns, {"role": "assistant", "content": example.target}], False)
    text = chat.removeprefix(before) if chat.startswith(before) else example.target
    ids: list[int] = backbone.tokenizer.encode(text, add_special_tokens=False)
    ids = [*(ids[: ids.index(backbone.eos)] if backbone.eos in ids else ids), backbone.eos]
    n = len(ids)
    return Encoded(prompt.ids + ids, prompt.virtual + [-1] * n, prompt.segments + [1] * n, prompt.prompt_length)


def _written(backbone: Backbone, turns: list[dict[str, str]], opening: bool) -> str:
    """The messages as the tokenizer's template writes them; `opening`: with the beginning of an answer."""
    if not backbone.tokenizer.chat_template:
        raise UserError("this backbone's tokenizer has no chat template: take a chat model, or give prompts with completions")
    try:
        text: Any = backbone.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=opening)
    except TemplateError as error:
        reason = " ".join(str(error).split())[:80]
        raise UserError(f"the tokenizer's chat template refuses a chat ({reason}): change its roles") from None
    return str(text)
