"""lora_repro/analysis/partial.py: the model with a part of its update is the one whose weights were computed by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_backbone
from safetensors.numpy import load_file

from lora_repro.analysis.partial import Directions, changes, scaled
from lora_repro.analysis.probe import UpdateProbe
from lora_repro.analysis.spectra import intruders, svd
from lora_repro.backbone.model import Backbone
from lora_repro.backbone.weights import read, write
from lora_repro.methods.base import AbstractMethod
from lora_repro.methods.dora import Dora
from lora_repro.methods.full import Full
from lora_repro.methods.lora import Lora
from lora_repro.methods.matrices import Matrices
from lora_repro.methods.pissa import Pissa
from lora_repro.methods.update import updates
from lora_repro.records.run_folder import UPDATES

METHODS = {
    "lora": Lora(rank=4, alpha=8, dropout=0.0),
    "pissa": Pissa(rank=4, dropout=0.0),
    "dora": Dora(rank=4, dropout=0.0),
    "matrices": Matrices(targets=["query", "value"]),
    "full": Full(),
}
KINDS = ("query", "value")


def outputs(backbone: Backbone) -> torch.Tensor:
    backbone.model.eval()
    with torch.no_grad():
        return backbone.model(torch.arange(2, 12).view(2, 5)).logits


def trained(architecture: str, method: AbstractMethod) -> tuple[Backbone, dict[str, torch.Tensor]]:
    """A tiny backbone whose trained parameters moved at random, and its own ones from before."""
    backbone = tiny_backbone(architecture)
    before = {name: parameter.detach().clone() for name, parameter in backbone.model.named_parameters()}
    parameters = method.apply(backbone).parameters()
    with torch.no_grad():
        for parameter in parameters:
            parameter += 0.05 * torch.randn_like(parameter)
    return backbone, before


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_none_of_it_is_the_backbone_all_of_it_the_trained_model_and_afterwards_nothing_has_changed(
    architecture: str, method: AbstractMethod
) -> None:
    base_logits, (backbone, before) = outputs(tiny_backbone(architecture)), trained(architecture, method)
    tuned_logits = outputs(backbone)
    assert not torch.allclose(base_logits, tuned_logits, atol=1e-3)
    weights = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    with changes(backbone, before) as deltas:
        directions = Directions(deltas, 64)
        for give, expected in ((0.0, base_logits), (1.0, tuned_logits)):
            scaled(deltas, give)
            assert torch.allclose(outputs(backbone), expected, atol=1e-5)
        directions.keep(64)
        assert torch.allclose(outputs(backbone), tuned_logits, atol=1e-5)
    assert torch.equal(outputs(backbone), tuned_logits)
    assert all(torch.equal(value, weights[name]) for name, value in backbone.model.state_dict().items())


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_several_updates_of_one_matrix_are_one_change(architecture: str) -> None:
    backbone, before = trained(architecture, METHODS["lora"])
    METHODS["lora"].insert(backbone)  # around the first
    with torch.no_grad():
        for module in updates(backbone.model):
            for parameter in module.parts.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
    base_logits, tuned_logits = outputs(tiny_backbone(architecture)), outputs(backbone)
    with changes(backbone, before) as deltas:
        for factor, expected in ((0.0, base_logits), (1.0, tuned_logits)):
            scaled(deltas, factor)
            assert torch.allclose(outputs(backbone), expected, atol=1e-5)
    assert torch.equal(outputs(backbone), tuned_logits)


def by_hand(architecture: str, backbone: Backbone, of: Callable[[np.ndarray], np.ndarray]) -> torch.Tensor:
    """The outputs of a fresh backbone whose query and value weights are W + of(D), D that of a LoRA model."""
    fresh = tiny_backbone(architecture)
    for layer in range(2):
        for kind in KINDS:
            ours, theirs = (model.projections(layer, kind)[0] for model in (backbone, fresh))
            change = ours.module.delta()[ours.rows].double().numpy()
            weight = read(theirs.module).clone()
            weight[theirs.rows] += torch.from_numpy(of(change)).float()
            write(theirs.module, weight)
    return outputs(fresh)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_half_of_it_and_its_top_two_directions_are_those_of_each_matrix(architecture: str) -> None:
    backbone, before = trained(architecture, METHODS["lora"])

    def two(change: np.ndarray) -> np.ndarray:
        u, s, v = svd(change)
        return (u[:, :2] * s[:2]) @ v[:, :2].T

    half, leading = by_hand(architecture, backbone, lambda change: change / 2), by_hand(architecture, backbone, two)
    with changes(backbone, before) as deltas:
        directions = Directions(deltas, 3)
        scaled(deltas, 0.5)
        assert torch.allclose(outputs(backbone), half, atol=1e-5)
        directions.keep(2)
        assert torch.allclose(outputs(backbone), leading, atol=1e-5)
        assert not torch.allclose(half, leading, atol=1e-4)


def test_of_full_fine_tuning_the_matrices_of_the_blocks_are_cut_and_the_rest_stays_as_trained() -> None:
    backbone, before = trained("llama", METHODS["full"])
    with changes(backbone, before) as deltas:
        Directions(deltas, 1).keep(1)
        now = dict(backbone.model.named_parameters())
        ranks = {name: int(torch.linalg.matrix_rank(now[name].detach() - before[name], rtol=1e-3)) for name in now
                 if now[name].ndim == 2 and "embed" not in name and "head" not in name}  # fmt: skip
        assert ranks and set(ranks.values()) == {1}
        rest = [name for name in now if name not in ranks]
        assert rest and all(not torch.equal(now[name], before[name]) for name in rest)


def test_a_probe_asks_for_the_losses_of_every_part_and_counts_intruders(tmp_path: Path) -> None:
    probe = UpdateProbe("updates", KINDS, (2,), (0.0,), 1, 4, scales=(0.5, 1.0), top=(1, 4))
    backbone = tiny_backbone("llama")
    weight = read(backbone.projections(0, "query")[0].module).detach().double().numpy()
    observer = probe.begin(backbone, tmp_path)
    parameters = METHODS["lora"].apply(backbone).parameters()
    with torch.no_grad():
        for parameter in parameters:
            parameter += 0.3 * torch.randn_like(parameter)
    observer.finish(1, lambda: {"dev_loss": float(outputs(backbone).sum()), "general_loss": None})
    arrays = load_file(tmp_path / UPDATES)
    loss = float(outputs(backbone).sum())
    assert arrays["scales"].tolist() == [0.5, 1.0] and arrays["top"].tolist() == [1, 4]
    assert arrays["scales.dev_loss"][1] == pytest.approx(loss, rel=1e-4) == arrays["top.dev_loss"][1]
    assert len({round(float(value), 3) for name in ("scales", "top") for value in arrays[f"{name}.dev_loss"]}) == 3
    assert "scales.general_loss" not in arrays
    change = backbone.projections(0, "query")[0].module.delta().double().numpy()
    expected = [intruders(svd(weight)[0], weight + factor * change) for factor in probe.scales]
    assert arrays["query.intruders_scaled"][:, 0].tolist() == expected
    assert arrays["query.intruders"][0] == expected[1]
