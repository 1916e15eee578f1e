"""What counts as collapsed, and weights that survive until the record is written."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from lora_repro import outcome
from lora_repro.train.progress import Trained

TRAINED = Trained("finished", 8, 1.5, 4, 1000, 2.5, [(4, 1.5), (8, 1.75)])


@pytest.mark.parametrize(
    "status, outputs, expected",
    [
        ("finished", ["a", "a", "a"], "collapsed"),
        ("finished", ["", ""], "collapsed"),
        ("finished", ["a", "a", "b"], "finished"),
        ("finished", ["a"], "finished"),  # one input cannot tell
        ("diverged", [], "diverged"),
    ],
)
def test_one_answer_to_everything_is_a_collapse(status: str, outputs: list[str], expected: str) -> None:
    assert outcome.judge(status, outputs) == expected


def test_kept_weights_and_facts_come_back(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.randn(3, 2))
    saved = parameter.detach().clone()
    outcome.keep(tmp_path, {"a": parameter}, TRAINED)
    with torch.no_grad():
        parameter.zero_()
    assert outcome.restore(tmp_path, {"a": parameter}) == TRAINED
    assert torch.equal(parameter.detach(), saved)


def test_a_damaged_or_foreign_file_means_training_goes_on(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.randn(3, 2))
    assert outcome.restore(tmp_path, {"a": parameter}) is None
    outcome.keep(tmp_path, {"a": parameter}, TRAINED)
    assert outcome.restore(tmp_path, {"b": parameter}) is None
    path = tmp_path / outcome.ADAPTER
    path.write_bytes(path.read_bytes()[:-8])
    assert outcome.restore(tmp_path, {"a": parameter}) is None


def test_a_diverged_training_has_no_dev_loss(tmp_path: Path) -> None:
    diverged = Trained("diverged", 3, math.inf, 0, 10, 0.1, [])
    assert outcome.facts(diverged)["dev_loss"] is None
    parameter = nn.Parameter(torch.zeros(1))
    outcome.keep(tmp_path, {"a": parameter}, diverged)
    found = outcome.restore(tmp_path, {"a": parameter})
    assert found is not None and found.status == "diverged" and math.isnan(found.dev_loss)
