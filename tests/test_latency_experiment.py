"""What experiments/latency.py declares: what is shown, where it is written, and that rendering repeats itself."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from latency_measure import measurement
from omegaconf import OmegaConf
from planted import note

from lora_repro.commands.render import main
from lora_repro.config.compose import build
from lora_repro.costs import measures
from lora_repro.costs.latency_settings import Bench
from lora_repro.methods._bottleneck import bottleneck_size
from lora_repro.results import backbone_name, declared_cells, grouped

ROWS = [
    "plain", "plain_again", "lora_merged", "lora", "qlora", "qlora_all", "adapter_l_small", "adapter_l_large", "adapter_h_small",
    "adapter_h_large", "prelayer", "full", "bitfit", "ft_top2",
]  # fmt: skip


@pytest.mark.parametrize(
    ("profile", "rows"), [("smoke", ROWS), ("mini", ["lora"]), ("laptop", ["lora"]), ("paper", ROWS)]
)
def test_every_row_and_every_profile_compose_and_build(profile: str, rows: list[str]) -> None:
    overrides = [] if rows == ROWS else [f"row/latency={','.join(rows)}"]
    for cells in grouped(declared_cells("latency", profile, overrides), backbone_name):
        assert [cell.row.name for cell in cells] == rows and {cell.seed for cell in cells} == {0}
        for cell in cells:
            config = OmegaConf.create(cell.asked)
            assert isinstance(build(config.bench), Bench) and build(config.method)


def test_the_paper_s_grid_holds_the_cells_of_table_1_and_its_sizes() -> None:
    cells = declared_cells("latency", "paper")
    assert {backbone_name(cell) for cell in cells} == {"gpt2_medium"}
    bench = cells[0].asked["bench"]
    assert {32, 16, 1} <= set(bench["batches"]) and {512, 256, 128} <= set(bench["lengths"])
    for cell in cells:
        row, method = cell.row, cell.asked["method"]
        if "bottleneck" in method:
            houlsby = row.name.startswith("adapter_h")
            sizes = [24 * (1 + houlsby) * bottleneck_size(1024, method["bottleneck"] + step, not houlsby) for step in (-1, 0, 1)]
            if row.name.endswith("large"):  # Table 3's sizes, which it prints with two more digits
                assert round(sizes[1] / 1e6) == 11
            else:
                assert min(sizes, key=lambda size: abs(size - 0.5e6)) == sizes[1], row.name


def write(path: Path, **change: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(measurement(**change)))


def rendered(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("latency*") if "measures" not in path.parts}


def test_published_is_rendered_from_the_json_alone_and_repeats_itself(tmp_path: Path) -> None:
    write(tmp_path / "results" / "mini" / "measures" / "latency.json")
    write(tmp_path / "results" / "paper" / "measures" / "latency_cuda.json", profile="paper")
    note(tmp_path / "results")
    assert main(["tables", "latency"], tmp_path) == 0
    first = rendered(tmp_path)
    assert len(first) == 10 and {Path(name).suffix for name in first} == {".md", ".csv", ".tex", ".svg", ".png"}
    for folder in ("tables", "figures"):
        shutil.rmtree(tmp_path / "results" / "mini" / folder)
    assert main(["tables", "latency"], tmp_path) == 0
    assert rendered(tmp_path) == first
    lines = list(csv.DictReader(first["results/mini/tables/latency.csv"].decode().splitlines()))
    slowdown = next(line for line in lines if (line["row"], line["quantity"]) == ("lora_merged", "slowdown_percent"))
    assert (slowdown["value"], slowdown["low"], slowdown["high"], slowdown["n"]) == ("-0.2", "-0.9", "0.3", "3")
    state = next(line for line in lines if (line["row"], line["quantity"]) == ("full", "optimizer_state_bytes"))
    assert (state["value"], state["arithmetic"]) == ("995518468", "995518464")
    assert b"published" in first["results/mini/tables/latency.md"]
    (tmp_path / "results" / "mini" / "measures" / "latency.json").unlink()  # as `prune` deletes a record
    (tmp_path / "results" / "mini" / "tables" / "latency_two.md").write_text("of a table that it has no more")
    note(tmp_path / "results")
    assert main(["tables", "latency"], tmp_path) == 0
    assert rendered(tmp_path) == {name: text for name, text in first.items() if name.startswith("results/paper")}


def test_nothing_published_is_no_mistake(tmp_path: Path) -> None:
    assert main(["tables", "latency"], tmp_path) == 0 and not list(tmp_path.iterdir())


def test_own_numbers_stand_beside_the_published_and_are_written_under_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "results" / "smoke" / "measures" / "latency.json", profile="smoke")
    note(tmp_path / "results")
    assert main(["latency", "profile=smoke"], tmp_path) == 0
    assert "nothing of this checkout's own yet" in capsys.readouterr().out and not (tmp_path / "runs").exists()
    signature = measures.signature_of(measures.declared("latency", "smoke"))
    write(tmp_path / "runs" / "smoke" / "measures" / "latency.json", profile="smoke", signature=signature)
    assert main(["latency", "profile=smoke"], tmp_path) == 0
    output = capsys.readouterr().out
    assert "this checkout" in output and "published" in output and "Quadro RTX8000" in output and "settings" not in output
    assert len(rendered(tmp_path / "runs")) == 5 and not rendered(tmp_path / "results")
    assert b"published" not in rendered(tmp_path / "runs")["smoke/tables/latency.md"]


def test_changed_settings_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "runs" / "smoke" / "measures" / "latency.json", profile="smoke")
    assert main(["latency", "profile=smoke"], tmp_path) == 0
    assert "the settings in conf/ have changed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["latency", "profile=smoke"], "nothing is measured for latency at profile smoke"), (["latency", "mini"], "not an override"),
     (["latency", "profile=smoke"], "run: lora-repro latency profile=smoke\n"),
     (["delta_w", "profile=smoke", "seed=0"], "run: lora-repro run experiment=delta_w profile=smoke seed=0\n"),
     (["tables", "latency", "profile=mini"], "takes no overrides")],
)  # fmt: skip
def test_mistakes_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments, tmp_path) == 2
    stderr = capsys.readouterr().err
    assert stderr.startswith("error: ") and message in stderr and stderr.count("\n") == 1
