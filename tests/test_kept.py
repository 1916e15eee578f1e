"""Weights and facts that survive until the record is written."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn

from lora_repro.train import kept
from lora_repro.train.progress import Trained

TRAINED = Trained("finished", 8, 1.5, 4, 1000, 2.5, [(4, 1.5), (8, 1.75)])


def test_kept_weights_and_facts_come_back(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.randn(3, 2))
    saved = parameter.detach().clone()
    kept.keep(tmp_path, {"a": parameter}, TRAINED)
    with torch.no_grad():
        parameter.zero_()
    assert kept.restore(tmp_path, {"a": parameter}) == TRAINED
    assert torch.equal(parameter.detach(), saved)


def test_a_damaged_or_foreign_file_means_training_goes_on(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.randn(3, 2))
    assert kept.restore(tmp_path, {"a": parameter}) is None
    kept.keep(tmp_path, {"a": parameter}, TRAINED)
    assert kept.restore(tmp_path, {"b": parameter}) is None
    path = tmp_path / kept.ADAPTER
    path.write_bytes(path.read_bytes()[:-8])
    assert kept.restore(tmp_path, {"a": parameter}) is None


def test_a_diverged_training_has_no_dev_loss(tmp_path: Path) -> None:
    diverged = Trained("diverged", 3, math.inf, 0, 10, 0.1, [])
    assert diverged.facts()["dev_loss"] is None
    parameter = nn.Parameter(torch.zeros(1))
    kept.keep(tmp_path, {"a": parameter}, diverged)
    found = kept.restore(tmp_path, {"a": parameter})
    assert found is not None and found.status == "diverged" and math.isnan(found.dev_loss)
