"""PROFILE=paper without a hub or GPU: every method's first steps on a random model of GPT-2 medium's true shape."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lora_repro.backbone import BackboneSpec
from lora_repro.compose import CONF, build, compose
from lora_repro.data import encode
from lora_repro.methods.base import AbstractMethod, Shape
from lora_repro.tasks.base import Example
from lora_repro.train import TrainConfig, train

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


@pytest.mark.parametrize("row", sorted(COUNTS))
def test_first_steps_at_the_true_shape(row: str, tmp_path: Path) -> None:
    config = compose(["experiment=e2e", f"row/e2e={row}", "profile=paper", "backbone=gpt2_medium"])
    config.backbone.source = "random"
    spec: BackboneSpec = build(config.backbone)
    backbone = spec.load()
    shape = Shape.of(backbone)
    method: AbstractMethod = build(config.method)
    torch.manual_seed(0)
    trainable = method.apply(backbone)
    counts = trainable.counts(backbone.model)
    expected, printed = COUNTS[row]
    assert counts["method"] + counts["head"] == expected == method.count(shape) + method.count_head(shape)
    if printed is not None:
        assert expected / 1e6 == pytest.approx(printed, rel=0.13)  # LoRA's 0.393 M is printed as 0.35
    parameters = {**trainable.method, **trainable.head}
    before = {name: parameter.detach().flatten()[:1000].clone() for name, parameter in parameters.items()}
    settings: TrainConfig = build(config.train)
    settings = TrainConfig(lr=settings.lr, epochs=2, batch_size=2, warmup=0, precision="fp32", select="last")
    rows = encode(EXAMPLES, backbone, method.virtual_tokens, 512)
    trained = train(backbone, parameters, rows, rows, settings, 0, tmp_path, lambda step, values: None)
    assert trained.status == "finished" and trained.steps == 2
    moved = [name for name, parameter in parameters.items() if not torch.equal(parameter.detach().flatten()[:1000], before[name])]
    assert moved
    assert (CONF / "row" / "e2e" / f"{row}.yaml").exists()
