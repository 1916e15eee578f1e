"""The loss against a literal computation over full logits, padding to 512 included."""

import math

import pytest
import torch
from conftest import text_row, tiny_backbone

from lora_repro.backbone.model import Backbone
from lora_repro.data import collate
from lora_repro.objectives.completion import Completion, summed_loss

ROWS = [text_row([65, 66, 10, 32, 67, 256], 3), text_row([70, 10, 32, 71, 72, 73, 74, 256], 2)]


def literal_loss(backbone: Backbone, smoothing: float) -> tuple[float, int]:
    total, count = 0.0, 0
    for row in ROWS:
        logits = backbone.model(input_ids=torch.tensor([row.ids])).logits[0]
        for position in range(row.prompt_length - 1, len(row.ids) - 1):
            logp = [float(v) for v in torch.log_softmax(logits[position].double(), -1)]
            target = row.ids[position + 1]
            total += (1 - smoothing) * -logp[target] + smoothing * sum(-v for v in logp) / len(logp)
            count += 1
    return total, count


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_summed_loss_is_the_literal_one(architecture: str, smoothing: float) -> None:
    backbone = tiny_backbone(architecture)
    loss, count = summed_loss(backbone, collate(ROWS, backbone.pad), smoothing)
    expected, n = literal_loss(backbone, smoothing)
    assert count == n == 3 + 6
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_padding_to_any_length_changes_nothing() -> None:
    backbone = tiny_backbone("gpt2")
    long = text_row([65] * 120, 119)
    alone, _ = summed_loss(backbone, collate(ROWS, 256), 0.1)
    padded, _ = summed_loss(backbone, collate([*ROWS, long], 256), 0.1)
    extra, _ = summed_loss(backbone, collate([long], 256), 0.1)
    assert float(padded) == pytest.approx(float(alone) + float(extra), abs=1e-4)


def test_validation_loss_is_a_mean_over_tokens_without_smoothing() -> None:
    backbone = tiny_backbone("llama")
    expected, n = literal_loss(backbone, 0.0)
    for size in (1, 2):
        assert Completion().validate(backbone, ROWS, size) == {"dev_loss": pytest.approx(expected / n, rel=1e-5)}
    assert expected / n == pytest.approx(math.log(257), rel=0.2)  # an untrained model knows nothing
