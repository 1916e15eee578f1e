"""What is to be said of the rows' lengths before anything trains: which are cut, and which answers no output can reach."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from lora_repro.compare import budget
from lora_repro.compare.request import Request
from lora_repro.config.compose import build
from lora_repro.costs.forecast import data_of
from lora_repro.costs.meta_model import build_meta_model
from lora_repro.data import dev_subset, subset
from lora_repro.run.stages import backbone_of, objective_of, prompts

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone
    from lora_repro.objectives.base import Objective
    from lora_repro.tasks.base import Example

TOKENISED = 2000  # rows to train on, and inputs to answer, that are looked at


def lengths(request: Request) -> list[str]:
    """The lines, if there is something to say and the model's tokenizer is here. The configuration must be written.

    They hold for the first method: virtual tokens of others take positions, too. Raises UserError for rows that could not be
    trained on or answered.
    """
    config = OmegaConf.create(budget.declared(request, request.arguments)[0].asked)
    method, data, objective, splits = build(config.method), build(config.data), objective_of(config), data_of(config)
    model = build_meta_model(backbone_of(config), method)
    if splits is None or not model.tokenizer_here:
        return []
    train = [*subset(splits.train, data.n_train, data.subset_seed), *dev_subset(splits, data)]
    test, some = subset(splits.test, data.n_test, data.subset_seed), _sample(train)
    some_test, most = _sample(test), objective.decoding.max_new_tokens
    _, cut = objective.encode(some, model.backbone, method.virtual_tokens, data.max_length)
    _, cut_test = prompts(model.backbone, method, objective, data.max_length, some_test)
    room = f" with the {most} tokens of an answer" if most else ""
    too_long = f"exceed data.max_length={data.max_length} and are cut"
    lines = [f"{_share(cut, some, train)} training and dev rows {too_long}"] if cut else []
    lines += [f"{_share(cut_test, some_test, test)} test inputs{room} {too_long}"] if cut_test else []
    answers = _answers(some_test, objective, model.backbone) if most else []
    if above := sum(length > most for length in answers):
        limit = f"decode.max_new_tokens={most} tokens, as many as are written (the longest has {max(answers):,})"
        lines.append(f"{_share(above, some_test, test)} test answers have more than {limit}")
    return lines


def _answers(examples: Sequence[Example], objective: Objective, backbone: Backbone) -> list[int]:
    """The tokens of each example's shortest reference, without the one that ends it."""
    shortest = [replace(example, target=min(example.references, key=len)) for example in examples]
    rows, _ = objective.encode(shortest, backbone, (0, 0), sys.maxsize)
    return [objective.count(row) - 1 for row in rows]


def _share(n: int, some: Sequence[Example], examples: Sequence[Example]) -> str:
    """`3 of 250`, or `3 of a sample of 2,000`."""
    return f"{n:,} of {'a sample of ' if len(some) < len(examples) else ''}{len(some):,}"


def _sample(examples: Sequence[Example]) -> Sequence[Example]:
    return random.Random(0).sample(examples, TOKENISED) if len(examples) > TOKENISED else examples
