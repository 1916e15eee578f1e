"""The subspace command on checkpoints of every make, and the sheets and figures of probed runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_backbone
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

from lora_repro import delta_view, subspace, subspace_view
from lora_repro.analysis import Array
from lora_repro.errors import UserError
from lora_repro.heatmap import Map, save
from lora_repro.lora_files import read
from lora_repro.methods.lora import Lora
from lora_repro.updates import Probed

RNG = np.random.default_rng(1)


def ours(folder: Path, rank: int = 4, seed: int = 0) -> Path:
    """A run folder with a LoRA of ours whose B is not zero."""
    backbone = tiny_backbone("llama", seed=seed)
    trainable = Lora(rank=rank, alpha=8, dropout=0.0).apply(backbone)
    for parameter in trainable.parameters():
        parameter.data.normal_()
    folder.mkdir()
    save_file({name: p.detach() for name, p in trainable.method.items()}, folder / "adapter.safetensors")
    (folder / "record.json").write_text(json.dumps({"asked": {"method": {"alpha": 8, "rank": rank}}}))
    return folder


def test_a_run_of_ours_is_read_with_its_scaling(tmp_path: Path) -> None:
    found = read(ours(tmp_path / "run"))
    assert set(found) == {(kind, layer) for kind in ("query", "value") for layer in (0, 1)}
    factors = found["value", 1]
    assert factors.A.shape == (4, 32) and factors.B.shape == (16, 4) and factors.scaling == 2
    assert np.allclose(factors.update, 2 * factors.B @ factors.A, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_a_peft_checkpoint_gives_what_peft_computes(tmp_path: Path) -> None:
    backbone = tiny_backbone("llama")
    model = get_peft_model(backbone.model, LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj"]))  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_()
    model.save_pretrained(tmp_path / "peft")
    found = read(tmp_path / "peft")
    layer = model.base_model.model.model.layers[1].self_attn.q_proj
    assert np.allclose(found["query", 1].update, layer.get_delta_weight("default").detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("case", ["empty folder", "no lora", "no scaling", "half", "damaged"])
def test_what_is_no_lora_checkpoint_is_one_clear_line(case: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    if case == "empty folder":
        folder.mkdir()
    else:
        ours(folder)
    path = folder / "adapter.safetensors"
    if case == "no lora":
        save_file({"x": torch.ones(2)}, path)
    if case == "half":
        save_file({"model.layers.0.self_attn.q_proj.parts.query.A": torch.ones(2, 4)}, path)
    if case == "no scaling":
        (folder / "record.json").unlink()
    if case == "damaged":
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError) as caught:
        read(folder)
    assert "\n" not in str(caught.value) and "run" in str(caught.value)


def test_the_command_writes_sheet_and_figures_for_one_and_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = ours(tmp_path / "one"), ours(tmp_path / "two", rank=8, seed=1)
    assert subspace.main([str(one), "--to", str(tmp_path / "out")]) == 0
    assert "φ(A_q, A_v, r, r)" in capsys.readouterr().out
    assert subspace.main([str(one), str(other), "--to", str(tmp_path / "out2")]) == 0
    text = capsys.readouterr().out
    assert "A of one against A of two" in text
    for name in ("subspace.md", "subspace.csv", "subspace_phi.png", "subspace_spectrum.svg"):
        assert (tmp_path / "out2" / name).stat().st_size > 0
    assert subspace.main([str(tmp_path / "nothing")]) != 0
    assert "error:" in capsys.readouterr().err


def probed_run(rank: int | None, seed: int, planted: Array) -> Probed:
    """L = 3 layers, d = 40; A's first direction is `planted`, the rest is random."""
    arrays: dict[str, Array] = {"steps": np.array([1, 2]), "weight_directions": np.arange(4, 41, 4)}
    keep = rank or 8
    for kind in ("query", "value"):
        for layer in (0, 2):
            rest = np.random.default_rng([seed, keep, layer]).standard_normal((40, keep - 1))
            arrays[f"{kind}.basis_{layer}"] = np.linalg.qr(np.column_stack([planted, rest]))[0].astype(np.float16)
            arrays[f"{kind}.weight_similarity_{layer}"] = np.full((10, keep), 0.1, np.float32)
        for name in ("norm", "effective_rank", "inside_4", "inside_8"):
            arrays[f"{kind}.{name}"] = np.full((2, 3), 2.0 if name == "norm" else 0.5, np.float32)
        for r in (4, 8):
            arrays[f"{kind}.weight_top_{r}"] = arrays[f"{kind}.weight_random_{r}"] = np.ones(3, np.float32)
        arrays[f"{kind}.weight_norm"] = np.ones(3, np.float32)
    label = "Full fine-tuning" if rank is None else f"LoRA, r = {rank}"
    return Probed("lora", label, seed, rank, None if rank is None else 32 / rank, {}, arrays)


def test_a_planted_shared_direction_shows_between_ranks_and_seeds(tmp_path: Path) -> None:
    planted = RNG.standard_normal(40)
    runs = [probed_run(rank, seed, planted) for rank in (4, 8) for seed in (0, 1)]
    ranks, seeds, weight = subspace_view.sheets(runs, ("Shared directions, profile test",))
    assert ranks.header[2] == "φ(1, 1)" and all(row[2].startswith("1.00 ± 0.00 (0.03)") for row in ranks.rows)
    assert float(ranks.rows[0][-3].split()[0]) < 0.75  # the other directions are not shared
    assert seeds.rows[0][2] == "1.00† (0.03)" and seeds.rows[-1][1] == "two Gaussian matrices"
    assert weight.rows[0][3].startswith("0.10")
    paths = subspace_view.figures(runs, "title", tmp_path)
    stems = {"subspace_ranks", "subspace_seeds", "subspace_weight"}
    assert {path.stem for path in paths} == stems and all(path.stat().st_size for path in paths)


def test_the_amplification_stands_with_and_without_alpha_over_r(tmp_path: Path) -> None:
    runs = [*(probed_run(4, seed, RNG.standard_normal(40)) for seed in (0, 1)), probed_run(None, 0, RNG.standard_normal(40))]
    query, value = delta_view.sheets(runs, ("Update against weight, profile test",))
    lora, *full = query.rows
    assert lora[0] == "LoRA, r = 4" and lora[7].startswith("4.0 ± 0.0") and lora[8].startswith("0.50 ± 0.00")
    assert [row[1] for row in full] == ["4", "8"] and full[0][8] == "—" and full[0][7].startswith("4.0†")
    assert len(value.rows) == 3
    assert {path.suffix for path in delta_view.figures(runs, "title", tmp_path)} == {".svg", ".png"}


def test_heat_maps_are_drawn_with_the_same_bytes_twice(tmp_path: Path) -> None:
    panel = Map("W_q", RNG.random((3, 5)), "j", "i", (1, 5), (1, 3))
    first, second = ([p.read_bytes() for p in save([[panel, panel], [panel]], "t", "φ", tmp_path / n / "x", 1.0)] for n in "ab")
    assert first == second
