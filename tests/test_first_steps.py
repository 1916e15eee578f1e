"""PROFILE=paper without a hub or GPU: ten rows of E2E on GPT-2 medium, the other texts on it too, GLUE on RoBERTa and DeBERTa.

Counts are those of the whole model, on torch's meta device, which draws no weight; first steps are taken at the true width, by
three of its layers with a byte tokenizer's embeddings. What is left out is more of the same.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from lora_repro.backbone.spec import BackboneSpec
from lora_repro.config.compose import build, compose
from lora_repro.data import Rows
from lora_repro.methods.base import AbstractMethod, Shape
from lora_repro.objectives.completion import Completion
from lora_repro.run.stages import backbone_of, objective_of
from lora_repro.tasks.base import Example
from lora_repro.train.loop import TrainConfig, train

# Trained values on GPT-2 medium by formula; what the paper prints (in millions) where it does.
COUNTS = {
    "full": (354_823_168, 354.92),  # the printed number counts more than the published checkpoint holds
    "ft_top2": (25_192_448, 25.19),
    "lora": (393_216, 0.35),
    "adapter_l_small": (368_784, 0.37),
    "adapter_l_large": (11_089_152, 11.09),
    "adapter_h": (11_064_576, 11.09),
    "prelayer": (344_064, 0.35),
    "prompt_tuning": (49_152, None),
    "bitfit": (24 * (3 + 1 + 4 + 1 + 2) * 1024 + 1024, None),
    "linear_probe": (50_257 * 1024, None),
}
EXAMPLES = [Example("a", "name : X", "X is here."), Example("b", "name : Y | food : Thai", "Y serves Thai food.")]


def cut(config: DictConfig) -> BackboneSpec:
    """The configured random backbone with three layers and as many embeddings as it has tokens."""
    shape = dict(config.backbone.shape)
    depth = next(key for key in ("n_layer", "num_hidden_layers") if key in shape)
    config.backbone.shape = {**{key: value for key, value in shape.items() if key != "vocab_size"}, depth: 3}
    return backbone_of(config)


@pytest.mark.parametrize("row", sorted(COUNTS))
def test_first_steps_at_the_true_shape(row: str, tmp_path: Path) -> None:
    config = compose(["experiment=e2e", f"row/e2e={row}", "profile=paper", "backbone=gpt2_medium"])
    config.backbone.source = "random"
    method: AbstractMethod = build(config.method)
    with torch.device("meta"):
        meta_backbone = backbone_of(config).load()
        shape = Shape.of(meta_backbone)
        counts = method.apply(meta_backbone).counts(meta_backbone.model)
    expected, paper_count = COUNTS[row]
    assert counts["method"] + counts["head"] == expected == method.count(shape) + method.count_head(shape)
    if paper_count is not None:
        assert expected / 1e6 == pytest.approx(paper_count, rel=0.13)  # LoRA's 0.393 M is printed as 0.35
    backbone = cut(config).load()
    torch.manual_seed(0)
    trainable = method.apply(backbone)
    parameters = trainable.named
    before = {name: parameter.detach().flatten()[:1000].clone() for name, parameter in parameters.items()}
    settings: TrainConfig = build(config.train)
    settings = TrainConfig(lr=settings.lr, epochs=2, batch_size=2, warmup=0, precision="fp32", select="last")
    rows, _ = Completion().encode(EXAMPLES, backbone, method.virtual_tokens, 512)
    outcome = train(backbone, trainable, Rows(rows, rows), Completion(), settings, 0, tmp_path)
    assert outcome.status == "finished" and outcome.steps == 2
    names = [name for name, parameter in parameters.items() if not torch.equal(parameter.detach().flatten()[:1000], before[name])]
    assert names


@pytest.mark.parametrize(
    ("table", "row", "task", "length"),
    [
        ("webnlg", "prelayer", "webnlg", 512),
        ("dart", "lora", "dart", 512),
        ("gpt3", "lora_prefix_embedding", "wikisql", 384),
        ("gpt3", "lora_prefix_layer", "mnli_text", 768),
        ("gpt3", "prefix_layer", "samsum", 1024),
    ],
)
def test_first_steps_of_the_other_texts_at_the_true_shape(table: str, row: str, task: str, length: int, tmp_path: Path) -> None:
    """Their own objective, on rows of their embedded siblings, with the paper's settings and lengths."""
    cell = [f"experiment={table}", f"row/{table}={row}", f"task={task}", "profile=paper", "backbone=gpt2_medium"]
    config = compose([*cell, "backbone.source=random"])
    assert config.task.source == "folder" and config.data.max_length == length
    method: AbstractMethod = build(config.method)
    with torch.device("meta"):
        meta_backbone = backbone_of(config).load()
        shape = Shape.of(meta_backbone)
        assert method.apply(meta_backbone).counts(meta_backbone.model)["method"] == method.count(shape)
    examples = build(compose([*cell, "task.source=embedded"]).task).load(None).train[:2]
    backbone = cut(config).load()
    torch.manual_seed(0)
    trainable = method.apply(backbone)
    before = {name: parameter.detach().clone() for name, parameter in trainable.named.items()}
    objective = objective_of(config)
    rows, _ = objective.encode(examples, backbone, method.virtual_tokens, length)
    paper_settings: TrainConfig = build(config.train)
    settings = replace(paper_settings, epochs=2, batch_size=2, warmup=0, precision="fp32", select="last")
    outcome = train(backbone, trainable, Rows(rows, rows), objective, settings, 0, tmp_path)
    assert outcome.status == "finished" and outcome.steps == 2
    still = [name for name, parameter in trainable.named.items() if torch.equal(parameter.detach(), before[name])]
    assert len(still) < len(before) and all(name.endswith(".A") for name in still), still  # A waits until B has moved


# LoRA's own parameters on query and value, and the new head's: RoBERTa's is a dense layer and the class scores.
ENCODERS = {
    "roberta_base": (294_912, 768 * 768 + 768 + 2 * 768 + 2),
    "roberta_large": (786_432, 1024 * 1024 + 1024 + 2 * 1024 + 2),
    "deberta_v2_xxlarge": (2_359_296, 1536 * 1536 + 1536 + 2 * 1536 + 2),
}
PAIRS = [
    Example("a", "It rained all day.", "entailment", second="It was wet."),
    Example("b", "It snowed.", "not_entailment", second="It was hot."),
]


@pytest.mark.parametrize(
    ("name", "row"),
    [*(("roberta_base", row) for row in ("adapter_p", "prelayer", "linear_probe")), *((name, "lora") for name in ENCODERS)],
)
def test_first_steps_of_an_encoder_at_its_true_shape(name: str, row: str, tmp_path: Path) -> None:
    cell = ["experiment=glue", f"row/glue={row}", "profile=paper", f"backbone={name}", "task=rte"]
    config = compose([*cell, "backbone.source=random"])
    method: AbstractMethod = build(config.method)
    with torch.device("meta"):
        meta_backbone = backbone_of(config).load()
        shape = Shape.of(meta_backbone)
        counts = method.apply(meta_backbone).counts(meta_backbone.model)
    assert counts["method"] == method.count(shape) and counts["head"] == method.count_head(shape)
    if row == "lora":
        assert (counts["method"], counts["head"]) == ENCODERS[name]
    backbone = cut(config).load()
    torch.manual_seed(0)
    backbone.reset_head()
    trainable = method.apply(backbone)
    parameters = trainable.named
    before = {key: parameter.detach().clone() for key, parameter in parameters.items()}
    objective = objective_of(config)
    rows, _ = objective.encode(PAIRS, backbone, method.virtual_tokens, 128)
    settings = TrainConfig(lr=config.train.lr, epochs=1, batch_size=1, warmup=0, precision="fp32", select="last")
    outcome = train(backbone, trainable, Rows(rows, rows), objective, settings, 0, tmp_path)
    assert outcome.status == "finished" and outcome.steps == 2
    still = [key for key, parameter in parameters.items() if torch.equal(parameter.detach(), before[key])]
    assert len(still) <= (len(trainable.method) // 2 if row == "lora" else 0), still  # A waits until B has moved
