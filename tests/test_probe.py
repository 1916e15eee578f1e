"""The probe: what it says of an update is what the weights say, for every kind of method and for fused matrices."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_backbone
from safetensors.numpy import load_file

from lora_repro.analysis.probe import UpdateProbe
from lora_repro.analysis.probed_run import probed_runs
from lora_repro.backbone.weights import read
from lora_repro.config import signature
from lora_repro.config.compose import compose, resolved
from lora_repro.files import sealed, write_json
from lora_repro.methods.base import AbstractMethod
from lora_repro.methods.full import Full
from lora_repro.methods.lora import Lora
from lora_repro.methods.matrices import Matrices
from lora_repro.methods.update import merge
from lora_repro.records import manifest, record
from lora_repro.records.run_folder import UPDATES, clean
from lora_repro.report.publish import publish
from lora_repro.results import declared_cells, own, published, runs
from lora_repro.run import run

PROBE = UpdateProbe(name="updates", kinds=("query", "value"), directions=(2, 4), depths=(0.0, 1.0), points=2, keep=6)


def changed(architecture: str, method: AbstractMethod, folder: Path) -> tuple[Any, dict[str, np.ndarray], dict[str, Any]]:
    """A tiny backbone whose trained parameters moved at random, and the arrays of its probe."""
    backbone = tiny_backbone(architecture)
    places = {kind: [backbone.projections(n, kind)[0] for n in range(2)] for kind in PROBE.kinds}
    before = {kind: [read(place.module)[place.rows].clone() for place in two] for kind, two in places.items()}
    observer = PROBE.begin(backbone, folder)
    trainable = method.apply(backbone)
    observer.observe(1, 4)  # not due
    with torch.no_grad():
        for parameter in trainable.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    observer.observe(2, 4)
    observer.finish(4, dict)
    return backbone, load_file(folder / UPDATES), before


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "bert"])
@pytest.mark.parametrize(
    "method", [Lora(rank=4, alpha=8, dropout=0.0), Full(), Matrices(targets=["query", "value"])], ids=["lora", "full", "matrices"]
)
def test_the_arrays_are_those_of_the_effective_update(architecture: str, method: AbstractMethod, tmp_path: Path) -> None:
    backbone, arrays, before = changed(architecture, method, tmp_path)
    assert arrays["steps"].tolist() == [2, 4]
    if isinstance(method, Lora):
        merge(backbone.model)
    for kind in PROBE.kinds:
        for layer in range(2):
            projection = backbone.projections(layer, kind)[0]
            module, now = projection.module, read(projection.module)[projection.rows]
            if isinstance(method, Matrices):
                now = before[kind][layer] + module.parts[kind].D
            update = (now - before[kind][layer]).detach().double().numpy()
            weight = before[kind][layer].double().numpy()
            u, s, vt = np.linalg.svd(update, full_matrices=False)
            assert arrays[f"{kind}.norm"][-1, layer] == pytest.approx(np.linalg.norm(update), rel=1e-3)
            inside = np.linalg.norm(u[:, :2].T @ weight @ vt[:2].T)
            assert arrays[f"{kind}.inside_2"][-1, layer] == pytest.approx(inside, rel=2e-2)
            p = s**2 / (s**2).sum()
            entropy = -sum(float(x) * math.log(x) for x in p if x > 1e-12)
            assert arrays[f"{kind}.effective_rank"][-1, layer] == pytest.approx(math.exp(entropy), rel=2e-2)
            assert arrays[f"{kind}.weight_norm"][layer] == pytest.approx(np.linalg.norm(weight), rel=1e-4)
            top = np.linalg.norm(np.linalg.svd(weight, compute_uv=False)[:2])
            assert arrays[f"{kind}.weight_top_2"][layer] == pytest.approx(top, rel=1e-4)
            bases = [np.linalg.svd(matrix)[0][:, : min(weight.shape)] for matrix in (weight, weight + update)]
            cosines = np.abs(bases[1][:, :10].T @ bases[0])
            assert arrays[f"{kind}.intruders"][layer] == sum(max(row) < 0.5 for row in cosines)
            assert arrays[f"{kind}.spectrum"].shape == (2, 6)
            assert np.allclose(arrays[f"{kind}.spectrum"][layer], s[:6], rtol=1e-2, atol=1e-4)
            right = vt[:6].T
            if isinstance(method, Lora):
                right = np.linalg.svd(module.parts[kind].A.detach().double().numpy())[2].T[:, :4]
            own = np.linalg.svd(weight)[2].T  # right singular vectors of W, as those of A
            places = arrays["weight_directions"]
            grid = arrays[f"{kind}.weight_similarity_{layer}"]
            assert len(grid) == sum(places <= min(weight.shape)) > 4 and grid.shape[1] == right.shape[1]
            for row, i in zip(grid[:: len(grid) // 3], places[:: len(grid) // 3], strict=False):
                for j in (1, 3):
                    literal = np.linalg.norm(own[:, :i].T @ right[:, :j]) ** 2 / min(i, j)
                    assert row[j - 1] == pytest.approx(literal, abs=1e-2)


def test_the_random_column_is_that_of_two_independent_random_bases(tmp_path: Path) -> None:
    """E ||U^T W V||_F^2 = r^2 ||W||_F^2 / (d_out d_in); one basis on both sides would give r for W = 1, W's own give the top."""
    backbone = tiny_backbone("llama")
    for layer in range(2):
        read(backbone.projections(layer, "query")[0].module).data.copy_(torch.eye(32))
    PROBE.begin(backbone, tmp_path).finish(1, dict)
    arrays = load_file(tmp_path / UPDATES)
    for kind, shape in (("query", (32, 32)), ("value", (16, 32))):
        expected = 4 * arrays[f"{kind}.weight_norm"] / math.sqrt(shape[0] * shape[1])
        assert np.allclose(arrays[f"{kind}.weight_random_4"] / expected, 1, atol=0.4), kind
    assert np.allclose(arrays["query.weight_top_4"], 2)
    assert len({float(value) for kind in ("query", "value") for value in arrays[f"{kind}.weight_random_4"]}) == 4


def test_the_kept_basis_is_that_of_a_and_the_first_layer_and_last_are_kept(tmp_path: Path) -> None:
    backbone, arrays, _ = changed("llama", Lora(rank=4, alpha=8, dropout=0.0), tmp_path)
    a = backbone.projections(1, "value")[0].module.parts["value"].A.detach().double().numpy()
    vt = np.linalg.svd(a, full_matrices=False)[2]
    assert np.abs(np.diag(vt @ arrays["value.basis_1"].astype(float))) == pytest.approx(np.ones(4), abs=1e-2)
    assert {name for name in arrays if "basis" in name} == {f"{k}.basis_{n}" for k in ("query", "value") for n in (0, 1)}


def test_directions_that_an_update_does_not_have_are_nan(tmp_path: Path) -> None:
    _, arrays, _ = changed("bert", Lora(rank=2, alpha=8, dropout=0.0), tmp_path)
    assert np.isfinite(arrays["query.inside_2"]).all() and np.isnan(arrays["query.inside_4"]).all()


def test_a_resumed_run_measures_the_steps_after_its_checkpoint_again(tmp_path: Path) -> None:
    backbone = tiny_backbone("bert")
    observer = PROBE.begin(backbone, tmp_path)
    Matrices(targets=["query"]).apply(backbone)
    for step in (2, 4, 2):
        observer.observe(step, 4)
    assert load_file(tmp_path / "observed.safetensors")["steps"].tolist() == [2]


def test_weights_that_are_no_numbers_are_no_spectrum_and_end_no_run(tmp_path: Path) -> None:
    """A loss is read some steps after the update that spoilt the weights: the run is to end as diverged, with its record."""
    backbone = tiny_backbone("llama")
    observer = PROBE.begin(backbone, tmp_path)
    trainable = Lora(rank=2).apply(backbone)
    with torch.no_grad():
        trainable.parameters()[0].fill_(math.nan)
    observer.observe(2, 4)
    assert not list(tmp_path.iterdir())


def test_what_was_observed_survives_until_the_record_is_written(tmp_path: Path) -> None:
    """A full disk may stop the record after `finish`; the next try finishes again, without the training."""
    backbone = tiny_backbone("bert")
    observer = PROBE.begin(backbone, tmp_path)
    Matrices(targets=["query"]).apply(backbone)
    for step in (2, 4):
        observer.observe(step, 4)
    for _ in range(2):
        observer.finish(4, dict)
        assert load_file(tmp_path / UPDATES)["steps"].tolist() == [2, 4]
    clean(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [UPDATES]


def test_a_probe_names_another_run_and_none_leaves_the_old_name() -> None:
    plain = resolved(compose(["experiment=e2e", "row/e2e=lora", "profile=mini"]))
    assert "probe" not in plain
    probing = resolved(compose(["experiment=e2e", "row/e2e=lora", "profile=mini", "probe=updates"]))
    assert signature.signature(plain) != signature.signature(probing)


def test_subspace_and_delta_w_share_runs_that_are_published_without_predictions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signatures, all_of_delta = (
        {cell.signature for cell in declared_cells(table, "smoke")}
        for table in ("subspace", "delta_w")
    )
    assert signatures < all_of_delta
    overrides = ["experiment=subspace", "row/subspace=lora", "profile=smoke", "row.rank=4", f"paths.runs={tmp_path}/runs"]
    run_record = run.run(compose(overrides), overrides)
    assert run_record["status"] == "finished" and set(run_record["measured"]["scores"]) == {"dev_loss"}
    cells = declared_cells("subspace", "smoke")
    (one,) = probed_runs(runs(cells, own(tmp_path / "runs" / "smoke")))
    assert (one.rank, one.scaling, one.seed, one.kept_layers) == (4, 8.0, 0, [0, 1])
    path = tmp_path / "runs" / "smoke" / run_record["signature"] / "record.json"
    clean = record.read(path)
    clean["where"]["dirty"] = False
    write_json(path, sealed(clean))
    with manifest.changing(tmp_path / "results") as change:
        publish(change, tmp_path / "runs" / "smoke")
    (again,) = probed_runs(runs(cells, published(tmp_path / "results" / "smoke")))
    assert np.array_equal(again.basis("query", 0), one.basis("query", 0))
