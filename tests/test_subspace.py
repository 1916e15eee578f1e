"""The subspace command on checkpoints of every make, and the tables and figures of probed runs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from conftest import refused, tiny_backbone
from peft import LoraConfig, get_peft_model
from planted import edited, flipped, without
from safetensors.torch import save_file

from lora_repro.analysis.intruders import counts
from lora_repro.analysis.probed_run import ProbedRun, scaling_of
from lora_repro.analysis.spectra import Array, Factors
from lora_repro.commands import subspace
from lora_repro.errors import UserError
from lora_repro.exchange.lora_files import read
from lora_repro.files import SEAL
from lora_repro.methods.lora import Lora
from lora_repro.planning.cells import Cell, Row
from lora_repro.records import record
from lora_repro.report.exhibit import ReportRequest
from lora_repro.report.figures.curves import Plot
from lora_repro.report.figures.heatmap import Heatmap
from lora_repro.report.subjects import probed, subspaces, update_norms
from lora_repro.report.table import Number
from lora_repro.results import PUBLISHED, Store

RNG = np.random.default_rng(1)


def ours(folder: Path, rank: int = 4, seed: int = 0) -> Path:
    """A run folder with a LoRA of ours whose B is not zero."""
    backbone = tiny_backbone("llama", seed=seed)
    trainable = Lora(rank=rank, alpha=8, dropout=0.0).apply(backbone)
    for parameter in trainable.parameters():
        parameter.data.normal_()
    folder.mkdir()
    save_file({name: p.detach() for name, p in trainable.method.items()}, folder / "adapter.safetensors")
    recorded(folder, {"alpha": 8, "rank": rank}, backbone={"name": "llama"}, seed=seed)
    return folder


def recorded(folder: Path, method: object, **asked: object) -> None:
    """The record of a run whose adapter is in the folder, with its hashes."""
    record.save(folder, {"schema": record.SCHEMA, "signature": folder.name, "asked": {"method": method, **asked}}, [])


@pytest.mark.parametrize("layers, said", [((0, 1), "— in W_q"), ((0,), "100 % in W_q")])
def test_an_update_of_zero_has_no_top_direction_and_spoils_no_mean(layers: tuple[int, ...], said: str, tmp_path: Path) -> None:
    """As an adapter that was never trained has it, or one of which a layer never moved."""
    updates = {("query", n): Factors(np.eye(1, 4), np.eye(4, 1) * (n not in layers), 1.0) for n in (0, 1)}
    subspace.draw(updates, None, "", tmp_path)
    assert f"The top direction holds of ‖ΔW‖²: {said} (mean over layers)" in (tmp_path / "subspace_spectrum.svg").read_text()
    mean = "none, for every ΔW is zero" if 1 in layers else "W_q top σ² share 1.00, effective rank 1.0"
    assert subspace.spectra_table(updates, "planted").footnotes[1] == f"Mean over layers: {mean}."


@pytest.mark.parametrize("kind", ["pissa.Pissa", "dora.Dora"])
def test_what_is_called_as_lora_is_and_is_none_is_refused(kind: str, tmp_path: Path) -> None:
    """PiSSA's B A holds W's own top directions, DoRA's update also scales W's rows."""
    run = ours(tmp_path / "run")
    method = {"_target_": f"lora_repro.methods.{kind}", "name": kind.partition(".")[0], "alpha": 8, "rank": 4}
    recorded(run, method)
    with pytest.raises(UserError, match=f"is an adapter of {method['name']}, not of LoRA"):
        read(run)
    with pytest.raises(UserError, match="there is no "):
        read(tmp_path / "none")


@pytest.mark.parametrize("method", [None, "lora", ["lora"], {"alpha": 8}, {"alpha": "8", "rank": 4}, {"alpha": 8, "rank": 0}])
def test_a_record_that_does_not_say_its_scaling_is_one_line(method: object, tmp_path: Path) -> None:
    run = ours(tmp_path / "run")
    recorded(run, method)
    with pytest.raises(UserError, match=r"needs record.json or adapter_config.json beside it"):
        read(run)


@pytest.mark.parametrize(("change", "named"), [
    (lambda folder: flipped(folder / "adapter.safetensors"), "adapter.safetensors"),
    (edited('"alpha": 8', '"alpha": 16', "record.json"), "record.json"),
    (without(SEAL, "record.json"), "no hash of its own"),
    (edited('"files": ', '"other": ', "record.json"), "record.json"),
    (lambda folder: os.mkfifo(folder / "metrics.jsonl"), ""),
])  # fmt: skip
def test_an_altered_run_is_not_analysed(change: Callable[[Path], None], named: str, tmp_path: Path) -> None:
    """Other spectra, and nothing said, is what one bit gave."""
    run = ours(tmp_path / "run")
    change(run)
    if named:
        refused(lambda: read(run), named)
        refused(lambda: read(run / "adapter.safetensors"), named)
    else:
        assert read(run)


def test_a_run_of_ours_is_read_with_its_scaling(tmp_path: Path) -> None:
    updates = read(ours(tmp_path / "run"))
    assert set(updates) == {(kind, layer) for kind in ("query", "value") for layer in (0, 1)}
    factors = updates["value", 1]
    assert factors.A.shape == (4, 32) and factors.B.shape == (16, 4) and factors.scaling == 2
    assert np.allclose(factors.update, 2 * factors.B @ factors.A, atol=1e-5)
    assert scaling_of({"alpha": 32, "rank": 16}) == 2 and scaling_of({"alpha": 32, "rank": 16, "scaling": "sqrt_rank"}) == 8


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_a_peft_checkpoint_gives_what_peft_computes(tmp_path: Path) -> None:
    backbone = tiny_backbone("llama")
    model = get_peft_model(backbone.model, LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj"]))  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_()
    model.save_pretrained(tmp_path / "peft")
    updates = read(tmp_path / "peft")
    layer = model.base_model.model.model.layers[1].self_attn.q_proj
    assert np.allclose(updates["query", 1].update, layer.get_delta_weight("default").detach().numpy(), atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_a_peft_checkpoint_with_patterns_and_matrices_of_one_name_gives_what_peft_computes(tmp_path: Path) -> None:
    """GPT-2 has a c_proj in attention and one in its MLP."""
    backbone = tiny_backbone("gpt2")
    config = LoraConfig(r=3, lora_alpha=6, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True,
                        rank_pattern={"mlp.c_proj": 5}, alpha_pattern={"h.1.attn.c_proj": 30})  # fmt: skip
    model = get_peft_model(backbone.model, config)  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_()
    model.save_pretrained(tmp_path / "peft")
    updates = read(tmp_path / "peft")
    assert {kind for kind, _ in updates} == {"attn.c_attn", "output", "mlp.c_proj"} and len(updates) == 6
    for kind, path in (("attn.c_attn", "attn.c_attn"), ("output", "attn.c_proj"), ("mlp.c_proj", "mlp.c_proj")):
        for layer in (0, 1):
            module = model.get_submodule(f"base_model.model.transformer.h.{layer}.{path}")
            expected = module.get_delta_weight("default").detach().numpy().T  # Conv1D: (in, out)
            assert np.allclose(updates[kind, layer].update, expected, atol=1e-5), (kind, layer)
    assert len(updates["mlp.c_proj", 0].A) == 5 and updates["output", 1].scaling == 10 and updates["output", 0].scaling == 2
    subspace.draw(updates, None, "mixed ranks", tmp_path)  # 5 directions beside 3


def test_every_matrix_of_a_lora_on_the_mlp_is_read(tmp_path: Path) -> None:
    for architecture, names in (("bert", {"intermediate.dense", "output.dense"}), ("gpt2", {"mlp.c_fc", "mlp.c_proj"})):
        backbone = tiny_backbone(architecture)
        trainable = Lora(rank=4, alpha=8, dropout=0.0, targets=["output", "mlp"]).apply(backbone)
        folder = tmp_path / architecture
        folder.mkdir()
        save_file({name: p.detach() for name, p in trainable.method.items()}, folder / "adapter.safetensors")
        recorded(folder, {"alpha": 8, "rank": 4})
        assert set(read(folder)) == {(kind, layer) for kind in {"output", *names} for layer in (0, 1)}


def test_two_stacks_of_layers_and_more_than_lora_are_refused_in_one_line(tmp_path: Path) -> None:
    folder = ours(tmp_path / "run")
    names = [f"{stack}.layers.0.self_attn.q_proj.parts.query.{letter}" for stack in ("encoder", "decoder") for letter in "AB"]
    save_file({name: torch.ones(2, 2) for name in names}, folder / "adapter.safetensors")
    recorded(folder, {"alpha": 8, "rank": 2})
    with pytest.raises(UserError, match="more than one A of query in layer 1"):
        read(folder)
    (folder / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 4, "use_dora": True}))
    with pytest.raises(UserError, match="use_dora"):
        read(folder)


def test_the_scaling_of_a_bin_is_given_or_the_released_one_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {f"roberta.encoder.layer.0.attention.self.query.lora_{letter}": torch.ones(2, 2) for letter in "AB"}
    monkeypatch.setattr("lora_repro.exchange.authors.read", lambda path: tensors)
    path = tmp_path / "x.bin"
    assert read(path)["query", 0].scaling == 2 and read(path, scaling=0.5)["query", 0].scaling == 0.5
    assert subspace.main([str(path), "--scaling", "0.5", "--to", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "subspace.csv").read_text(encoding="utf-8")
    assert ",2.000,1.00,1.00," in text  # 0.5 * ||2 x 2 matrix of twos|| = 0.5 * 4: all of it in one direction


def planted(folder: Path, a: Array, b: Array) -> Path:
    """A run of ours, one query and one value matrix: A of W_q is `a`, of W_v its rows reversed; B is `b`; alpha / r 2."""
    folder.mkdir()
    names = {"query": a, "value": a[:, ::-1]}
    halves = {f"model.layers.0.self_attn.{kind[0]}_proj.parts.{kind}": one for kind, one in names.items()}
    tensors = {f"{name}.{letter}": torch.tensor(np.ascontiguousarray(value), dtype=torch.float32)
               for name, one in halves.items() for letter, value in (("A", one), ("B", b))}  # fmt: skip
    save_file(tensors, folder / "adapter.safetensors")
    recorded(folder, {"alpha": 4, "rank": 2})
    return folder


def test_the_sheets_say_what_was_planted(tmp_path: Path) -> None:
    """Directions e1, e2 of 8 with singular values 2 * (3, 1); another checkpoint has e1 and e3."""
    own = np.eye(8)
    b = np.zeros((5, 2))
    b[0, 0], b[1, 1] = 3, 1
    # A's own singular values order its directions: the first is the longer row.
    one = read(planted(tmp_path / "one", np.array([2.0, 1.0])[:, None] * own[[0, 1]], b / np.array([2, 1])))
    other = read(planted(tmp_path / "other", np.array([2.0, 1.0])[:, None] * own[[0, 2]], b))
    query, value = subspace.spectra_table(one, "one").rows
    assert query == ("W_q", "1", "2", "6.325", "0.90", f"{0.9**-0.9 * 0.1**-0.1:.2f}", "0.000 (0.250)")  # 2 sqrt(10), 9 of 10
    assert value[3:6] == query[3:6] and value[6] == "—"
    rows = subspace.overlap_table(one, other, ("one", "other")).rows
    assert rows[0] == ("W_q", "1", "2, 2", "1.00", "0.50", "0.50", "0.50", "0.25")
    assert subspace.overlap_table(one, one, ("one", "one")).rows[1][3:7] == ("1.00",) * 4


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
    if case in ("no lora", "half"):
        recorded(folder, {"alpha": 8, "rank": 4})
    if case == "no scaling":
        (folder / "record.json").unlink()
    if case == "damaged":
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError) as error:
        read(folder)
    assert "\n" not in str(error.value) and "run" in str(error.value)


def test_the_command_writes_sheet_and_figures_for_one_and_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = ours(tmp_path / "one"), ours(tmp_path / "two", rank=8, seed=1)
    assert subspace.main([str(one), "--to", str(tmp_path / "out")]) == 0
    assert "φ(A_q, A_v, r, r)" in capsys.readouterr().out
    assert subspace.main([str(one), str(other), "--to", str(tmp_path / "out2")]) == 0
    text = capsys.readouterr().out
    assert "A of one against A of two" in text
    assert "sha256" not in text  # a folder has none
    assert "Both runs" not in text and "different backbones" not in text
    assert "Both runs have seed 0" in subspace.alike(one, ours(tmp_path / "three", rank=8)) and not subspace.alike(one, other)
    recorded(other, {"alpha": 8, "rank": 8}, backbone={"name": "bert"}, seed=1)
    assert subspace.main([str(one), str(other), "--to", str(tmp_path / "out3")]) == 0
    assert "different backbones" in capsys.readouterr().out
    for name in ("subspace.md", "subspace.csv", "subspace_phi.png", "subspace_spectrum.svg"):
        assert (tmp_path / "out2" / name).stat().st_size > 0
    assert subspace.main([str(tmp_path / "nothing")]) != 0
    assert "error:" in capsys.readouterr().err


def test_intruders_are_counted_in_the_base_s_weights_where_they_are_at_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # a sentence on one line
    run = ours(tmp_path / "run")
    assert subspace.main([str(run), "--base", "random_llama", "--to", str(tmp_path / "out")]) == 0
    backbone = tiny_backbone("llama")  # conf/backbone/random_llama.yaml is of this shape and seed
    counts = []
    for (kind, layer), factors in read(run).items():
        weight = getattr(backbone.layers[layer].self_attn, f"{kind[0]}_proj").weight.detach().double().numpy()
        tuned, base = (np.linalg.svd(matrix)[0][:, :16] for matrix in (weight + factors.update, weight))
        counts.append(sum(max(abs(tuned[:, i] @ base[:, j]) for j in range(base.shape[1])) < 0.5 for i in range(10)))
    rows = (tmp_path / "out" / "subspace.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0].endswith(",intruders") and [int(row.rpartition(",")[2]) for row in rows[1:]] == counts and max(counts) > 0
    assert "W is that of untrained 2-layer llama (random weights)" in capsys.readouterr().out
    assert subspace.main([str(run), "--base", "roberta_base", "--to", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "subspace.md").read_text(encoding="utf-8")
    assert "not counted: RoBERTa base is not on this machine" in text and "| intruders |" not in text
    assert subspace.main([str(run), "--to", str(tmp_path / "out")]) == 0
    assert "not counted: no --base names" in (tmp_path / "out" / "subspace.md").read_text(encoding="utf-8")
    assert subspace.main([str(run), "--base", "random_bert", "--to", str(tmp_path / "out")]) == 2
    assert "W_v of untrained 2-layer bert is (32, 32), not (16, 32)" in capsys.readouterr().err


def test_the_authors_file_makes_an_intruder_of_a_direction_that_the_base_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A twin of their model in which W's directions are the axes: a new one is the mean of eight of them, an old one is one."""
    backbone = tiny_backbone("roberta")
    place = "roberta.encoder.layer.1.attention.self.query"
    backbone.model.get_submodule(place).weight.data = torch.diag(torch.arange(32.0, 0, -1))
    axes = torch.eye(32)
    for direction, expected in ((axes[20:28].sum(dim=0), 1), (axes[5], 0)):
        tensors = {f"{place}.lora_A": axes[31:], f"{place}.lora_B": 100 * direction[:, None]}
        monkeypatch.setattr("lora_repro.exchange.authors.read", lambda path, found=tensors: found)
        assert counts(read(tmp_path / "x.bin"), backbone) == {("query", 1): expected}


def test_spectra_and_overlaps_of_planted_factors() -> None:
    """D = 2 diag(3, 1): shares 0.9 and 0.1; A_v spans one of the two directions of A_q, so phi(2, 2) = 1/2."""
    eye = np.eye(6)
    query = Factors(eye[:2], np.column_stack([3 * eye[0], eye[1]]), 2.0)
    value = Factors(eye[[1, 4]], np.column_stack([eye[0], eye[1]]), 2.0)
    sheet = subspace.spectra_table({("query", 0): query, ("value", 0): value}, "planted", ("sha256 abc",))
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    assert sheet.rows[0] == ("W_q", "1", "2", f"{2 * 10**0.5:.3f}", "0.90", f"{np.exp(entropy):.2f}", "0.500 (0.333)")
    assert sheet.rows[1][4:] == ("0.50", "2.00", "—") and sheet.facts == ("LoRA of planted", "sha256 abc")
    assert "W_q top σ² share 0.90, effective rank 1.4; W_v top σ² share 0.50, effective rank 2.0" in sheet.footnotes[1]
    (row,) = subspace.overlap_table({("query", 0): query}, {("query", 0): value}, ("a", "b")).rows
    assert row == ("W_q", "1", "2, 2", "0.00", "0.50", "0.50", "0.50", "0.33")


def test_a_figure_of_one_checkpoint_shows_every_layer_and_ends_with_chance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: dict[str, list[list[Heatmap]]] = {}
    captions: dict[str, tuple[float | None, str]] = {}

    def save(
        rows: list[list[Heatmap]], title: str, scale: str, stem: Path, top: float | None = None, caption: str = ""
    ) -> list[Path]:
        figures[stem.name], captions[stem.name] = rows, (top, caption)
        return []

    monkeypatch.setattr(subspace, "save", save)
    updates = {
        (kind, layer): Factors(RNG.standard_normal((3 + layer % 2, 6)), RNG.standard_normal((6, 3 + layer % 2)), 1.0)
        for kind in ("query", "value") for layer in range(7)
    }  # fmt: skip
    subspace.draw(updates, None, "whose", tmp_path)
    every = [panel for row in figures["subspace_phi"] for panel in row]
    assert len(every) == 7 + 2 and captions == {"subspace_spectrum": (None, "whose"), "subspace_phi": (1.0, "whose")}
    assert [panel.title for panel in every[-2:]] == ["two Gaussian matrices", "chance, max(i, j)/d"]
    assert every[-2].values.shape == (4, 4)
    values = figures["subspace_spectrum"][0][0].values  # a layer of a smaller rank has no value where it has no direction
    assert values.shape == (7, 4) and np.isnan(values[0, 3]) and not np.isnan(values[1]).any()


def test_a_file_names_its_digest_and_a_known_one_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2's example
    assert subspace.origin(path) == (f"sha256 {digest}",) and subspace.origin(tmp_path) == ()
    monkeypatch.setitem(subspace.RELEASED, digest, "Released by somebody")
    assert subspace.origin(path) == ("Released by somebody", f"sha256 {digest}")


def test_the_published_sheet_of_the_authors_adapter_says_whose_it_is_and_holds_no_weights() -> None:
    folder = Path(__file__).resolve().parents[1] / "results" / "authors"
    text = (folder / "subspace.md").read_text(encoding="utf-8")
    (digest,) = subspace.RELEASED
    assert digest in text and "microsoft/LoRA, MIT licence" in text
    assert text.count("| W_q |") == text.count("| W_v |") == 12
    assert {path.suffix for path in folder.iterdir()} == {".md", ".csv", ".svg", ".png"}


def probed_run(rank: int | None, seed: int, planted: Array) -> ProbedRun:
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
    return ProbedRun("lora", label, seed, rank, None if rank is None else 32 / rank, {}, arrays)


def test_a_planted_shared_direction_shows_between_ranks_and_seeds(tmp_path: Path) -> None:
    direction = RNG.standard_normal(40)
    runs = [probed_run(rank, seed, direction) for rank in (4, 8) for seed in (0, 1)]
    ranks, seeds, weight = subspaces.tables(runs, ("Shared directions, profile test",))
    assert ranks.header[2] == "φ(1, 1)" and all(row[2] == "1.00† (0.03)" and row[-2] == "1" for row in ranks.rows)
    assert max(float(end) for end in ranks.rows[0][-4].split("†")[0].split("–")) < 0.75  # the others are not shared
    assert seeds.rows[0][2] == "1.00† (0.03)" and seeds.rows[-1][1] == "two Gaussian matrices"
    assert weight.rows[0][3].startswith("0.10")
    paths = subspaces.figures(runs, "title", tmp_path / "subspace")
    stems = {"subspace_ranks", "subspace_ranks_layers", "subspace_seeds", "subspace_seeds_layers", "subspace_weight"}
    assert {path.stem for path in paths} == stems and all(path.stat().st_size for path in paths)
    more = [probed_run(rank, seed, direction) for rank in (4, 8) for seed in (0, 1, 2, 3)]
    ranks, seeds, _ = subspaces.tables(more, ("Shared directions, profile test",))
    assert all(row[2] == "1.00 ± 0.00 (0.03)" for table in (ranks, seeds) for row in table.rows[:4]) and ranks.rows[0][-2] == "2"
    phi = ranks.rows[0][2]
    assert isinstance(phi, Number) and (phi.value, phi.n) == (pytest.approx(1, abs=0.005), 2) and phi.sd is not None


def test_a_caption_asks_for_the_runs_that_were_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = {"backbone": {"label": "B", "sha256": "1"}, "data": {"caption": "synthetic", "hashes": {}}}
    run = replace(probed_run(4, 0, RNG.standard_normal(40)), record={"asked": {"task": {}}, "where": where})
    monkeypatch.setattr(probed, "probed_runs", lambda found: [run])
    config = {"task": {"_target_": "a.B", "name": "x"}, "backbone": {"name": "b", "label": "B"}}
    ask = ReportRequest("subspace", "mini", ("row.rank=4",))
    ask.__dict__["cells"] = [Cell(Row("lora", "LoRA", 1, 1, True, {}, {}), 0, {}, (), "s", config, Path("s"))]
    (exhibit,) = subspaces.Subspaces("T").exhibits(ask, [Store(PUBLISHED, tmp_path, {})])
    assert exhibit.tables[0].facts[-1] == "To reproduce: lora-repro run experiment=subspace profile=mini row.rank=4"


def test_what_two_ranks_of_one_seed_share_stands_aside(tmp_path: Path) -> None:
    """Each seed's two ranks have one direction in common, which no other seed has."""
    own = np.eye(40)
    runs = [probed_run(rank, seed, own[seed]) for rank in (4, 8) for seed in (0, 1)]
    for run in runs:  # the rest away from both planted directions
        for name in [name for name in run.arrays if ".basis_" in name]:
            run.arrays[name][:2, 1:] = run.arrays[name][2:, 0] = 0
    for run in runs:  # at i = 4, 8, .. of d = 40: i and j, in hundredths
        of_w = [[(i + j / 10) / 100 for j in range(1, (run.rank or 0) + 1)] for i in range(4, 41, 4)]
        run.arrays["value.weight_similarity_2"] = np.array(of_w)
    ranks, _, weight = subspaces.tables(runs, ("Shared directions, profile test",))
    assert ranks.header[2:6] == ("φ(1, 1)", "φ(2, 2)", "φ(4, 4)", "φ(4, 8)")
    assert [cell.rpartition(" ")[2] for cell in ranks.rows[0][2:6]] == ["(0.03)", "(0.05)", "(0.10)", "(0.20)"]  # chance
    assert weight.rows[-1] == ("3 of 3", "W_v", "4", "0.04 ± 0.00", "0.04 ± 0.00", "0.10")
    assert [cell.value for cell in weight.rows[-1][3:5]] == pytest.approx([0.044, 0.044])  # type: ignore[attr-defined]
    assert ranks.header[-1] == "same seed: φ(1, 1)" and "not evidence" in ranks.footnotes[-1]
    assert {row[2] for row in ranks.rows} == {"0.00† (0.03)"} and {row[-1] for row in ranks.rows} == {"1.00, 1.00"}
    table, *_ = subspaces.tables([run for run in runs if run.seed == 0], ("Shared directions, profile test",))
    assert {row[2] for row in table.rows} == {"—"} and {row[-1] for row in table.rows} == {"1.00"}


class Shown(NamedTuple):
    rows: list[list[Heatmap]]
    title: str
    top: float
    caption: str


def drawn(monkeypatch: pytest.MonkeyPatch, runs: list[ProbedRun], folder: Path) -> dict[str, Shown]:
    """stem -> what a figure is made of."""
    figures: dict[str, Shown] = {}

    def save(rows: list[list[Heatmap]], title: str, scale: str, stem: Path, top: float, caption: str) -> list[Path]:
        figures[stem.name] = Shown(rows, title, top, caption)
        return []

    monkeypatch.setattr(subspaces, "save", save)
    assert subspaces.figures(runs, "Shared directions, profile test", folder / "subspace") == []
    return figures


def test_every_figure_has_the_paper_s_form_and_scale_and_what_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figures 3 and 4: a panel a matrix at one layer, Gaussians and chance beside; 6 and 7: every kept layer; 8: W."""
    runs = [probed_run(rank, seed, RNG.standard_normal(40)) for rank in (4, 8) for seed in (0, 1)]
    figures = drawn(monkeypatch, runs, tmp_path)
    assert {one.top for one in figures.values()} == {1.0}
    assert all("The paper (GPT-3 175B" in one.caption and "profile test" in one.caption for one in figures.values())
    for name, shape in (("ranks", (4, 8)), ("seeds", (8, 8))):
        (*panels, random), (*near, level) = figures[f"subspace_{name}"].rows
        assert [panel.title for panel in panels] == ["ΔW_q", "ΔW_v"] and "Gaussian" in random.title
        assert level.title == "chance, max(i, j)/d" and {panel.values.shape for panel in [*panels, random]} == {shape}
        assert {panel.values.shape for panel in [*near, level]} == {(4, 4) if name == "ranks" else (1, 1)}
        assert np.array_equal(near[0].values, panels[0].values[: near[0].values.shape[0], : near[0].values.shape[1]])
        layers = figures[f"subspace_{name}_layers"].rows
        assert [[panel.title for panel in row] for row in layers] == [
            [f"Δ{kind}, layer {layer}" for layer in (1, 3)] for kind in ("W_q", "W_v")
        ]
    assert figures["subspace_ranks"].rows[1][-1].values[1, 3] == 4 / 40 and "pairs of runs" in figures["subspace_ranks"].caption
    top = figures["subspace_ranks"].rows[0][0].values[0, 0]
    assert f"φ(1, 1) is {top:.2f} in W_q" in figures["subspace_ranks"].title


def test_w_against_the_update_shows_the_top_fifth_of_w(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [probed_run(rank, seed, RNG.standard_normal(40)) for rank in (4, 8) for seed in (0, 1)]
    for run in runs:
        run.arrays["query.weight_similarity_0"] = np.full((10, run.rank or 0), 0.1 + 0.2 * run.seed, np.float32)
    rows, title, _, caption = drawn(monkeypatch, runs, tmp_path)["subspace_weight"]
    assert [panel.title for panel in rows[0]] == ["W_q, ΔW of r = 4", "W_q, ΔW of r = 8", "Gaussian in A's place"]
    assert all(panel.y == (4, 8) and len(panel.values) == 2 for row in rows for panel in row)  # 4, 8 of 40; not 12
    assert rows[0][0].values == pytest.approx(np.full((2, 4), 0.2)) and rows[1][0].values == pytest.approx(np.full((2, 4), 0.1))
    assert "n = 2 seeds" in caption and "0.20 in W_q at r = 4" in title


def test_the_middle_layer_is_that_of_the_kept_directions() -> None:
    run = probed_run(4, 0, RNG.standard_normal(40))
    assert run.middle == 1
    run.arrays["query.norm"] = np.ones((2, 30), np.float32)
    assert run.middle == 14  # layer 15 of 30, whose directions depth 0.5 keeps


def test_the_amplification_stands_with_and_without_alpha_over_r_beside_random_directions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [*(probed_run(4, seed, RNG.standard_normal(40)) for seed in (0, 1)), probed_run(None, 0, RNG.standard_normal(40))]
    query, value = update_norms.tables(runs, ("Update against weight, profile test",))
    lora, *full = (dict(zip(query.header, row, strict=True)) for row in query.rows)
    assert lora["Run"] == "LoRA, r = 4" and lora["‖ΔW‖/‖UᵀWV‖"] == "4.00 ± 0.00" and lora["without α/r"] == "0.50 ± 0.00"
    factor = lora["‖ΔW‖/‖UᵀWV‖"]
    assert isinstance(factor, Number) and (factor.value, factor.n) == (pytest.approx(4), 2)
    assert lora["with random U V"] == lora["median, random U V"] == "2.00 ± 0.00"  # 2 / 1
    assert [row["r"] for row in full] == ["4", "8"] and full[0]["without α/r"] == "—" and full[0]["‖ΔW‖/‖UᵀWV‖"] == "4.00†"
    assert len(value.rows) == 3
    runs.insert(0, probed_run(2, 0, RNG.standard_normal(40)))  # a rank whose directions were not measured
    assert update_norms.tables(runs, ("Update against weight, profile test",))[0].rows == query.rows
    assert {path.suffix for path in update_norms.figures(runs, "title", tmp_path / "delta_w")} == {".svg", ".png"}
    plots: list[Plot] = []
    monkeypatch.setattr(update_norms, "save", lambda panels, *_, **__: plots.extend(panels) or [])
    update_norms.figures(runs, "title", tmp_path / "delta_w")
    for plot in plots:
        assert [curve.label for curve in plot.references] == [curve.label for curve in plot.curves]
        assert {spot.y for spot in plot.curves[0].spots} == {4.0} and {spot.y for spot in plot.references[0].spots} == {2.0}
