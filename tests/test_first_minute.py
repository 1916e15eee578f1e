"""What a newcomer reads: runs in the order that matters, each told with the paper's number and its folder; mistakes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import plant_record

from lora_repro import cli
from lora_repro.commands import runs
from lora_repro.config.compose import build, compose
from lora_repro.errors import UserError
from lora_repro.planning.cells import cell_of, cells
from lora_repro.records import attempts
from lora_repro.results import declared_cells
from lora_repro.sweep.launch import in_order
from lora_repro.sweep.progress import others_of
from lora_repro.sweep.run_summary import duration, summary_line
from lora_repro.sweep.run_summary import measured as measured_of


def record(bleu: float | None = 0.68312) -> dict[str, Any]:
    scores = {} if bleu is None else {"bleu": bleu, "nist": 8.5}
    return {"status": "finished", "measured": {"wall_seconds": 91.6, "scores": scores}}


def test_the_shortest_row_runs_first_and_then_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = cells(["experiment=e2e", "profile=smoke", "row/e2e=lora,full,bitfit,linear_probe"])
    seconds = {"lora": 211.0, "full": 283.0, "linear_probe": 95.0}
    records = {
        cell.signature: {"measured": {"wall_seconds": seconds[cell.row.name]}} for cell in grid if cell.row.name in seconds
    }
    assert in_order(grid, records) == "row/e2e=linear_probe,full,lora,bitfit"  # nobody published bitfit
    assert in_order(grid, records, rising=True) == "row/e2e=linear_probe,lora,full,bitfit"
    assert in_order(list(reversed(grid)), records) == in_order(grid, records)
    assert in_order(grid, {}) == "row/e2e=full,lora,bitfit,linear_probe"  # the table's order
    first = cells(["experiment=e2e", "profile=smoke", in_order(grid, records)])[:2]
    assert [cell.row.name for cell in first] == ["linear_probe", "full"]
    assert in_order(cells(["experiment=e2e", "profile=smoke", "row/e2e=lora"]), records) == ""
    assert in_order(cells(["-m", "profile=smoke", "method=lora,full"]), records) == ""


def test_the_first_table_has_a_row_of_each_kind_and_the_published_one_all() -> None:
    """What `make reproduce-e2e` runs at mini; the table, and with it all that is published, keeps every row."""
    quick = cells(["experiment=e2e", "profile=mini"])
    assert {cell.row.name for cell in quick} == {"linear_probe", "lora", "full", "adapter_l_small", "prelayer_key_value"}
    every = cells(cli.apply_common_options(["experiment=e2e", "profile=mini", "all"]))
    assert len(every) == 14 and {cell.row.name for cell in every} == {cell.row.name for cell in declared_cells("e2e", "mini")}
    left_out = others_of("e2e", quick, ["experiment=e2e"])
    assert len(left_out) == 9 and "bitfit" in left_out and others_of("e2e", every, ["experiment=e2e"]) == []
    assert others_of("e2e", quick, ["experiment=e2e", "row/e2e=lora"]) == []  # the reader chose


def test_a_run_is_told_beside_the_paper_s_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    original = cells(["experiment=e2e", "profile=smoke", "row/e2e=lora"])[0]
    folder = f"runs/smoke/{original.signature}"
    # the paper has no score of generated data
    assert summary_line(record(), original) == f"LoRA, e2e, seed 0: finished in 92 s  bleu 68.3  {folder}"
    cell = replace(original, asked={**original.asked, "task": {**original.asked["task"], "source": "folder"}})
    assert summary_line(record(), cell) == f"LoRA, e2e, seed 0: finished in 92 s  bleu 68.3 (paper, gpt2_medium: 70.4)  {folder}"
    config = {**cell.asked, "backbone": {**cell.asked["backbone"], "name": "gpt2_large"}}
    same = replace(cell, asked=config, folder=tmp_path / "x")
    assert summary_line(record(), same, again=True) == "LoRA, e2e, seed 0: finished already recorded  bleu 68.3 (paper: 70.4)  x"
    twin = replace(same, asked={**config, "backbone": {**config["backbone"], "pretrained": False}})
    # the paper has no score of random weights
    assert summary_line(record(), twin) == "LoRA, e2e, seed 0: finished in 92 s  bleu 68.3  x"
    assert summary_line(record(None), same) == "LoRA, e2e, seed 0: finished in 92 s  x"
    glue = cells(["experiment=glue", "profile=paper", "row/glue=lora", "task=cola", "backbone=roberta_base"])[0]
    run = {"status": "finished", "measured": {"wall_seconds": 9000, "scores": {glue.score: 0.6}}}
    assert f"finished in 2.5 h  {glue.score} 60.0 (paper: 63.4)" in summary_line(run, glue)
    of_rank = ["experiment=rank", "profile=smoke", "row.rank=4", "data.n_train=8", "task=entailment"]
    rank, full = (cells([*of_rank, f"row/rank={name}"])[0] for name in ("lora_q", "full"))
    assert summary_line(record(None), rank).startswith("LoRA on W_q, data.n_train=8, row.rank=4, entailment, seed 0: ")
    assert summary_line(record(None), full).startswith("Full fine-tuning, data.n_train=8, entailment, seed 0: ")  # it has no rank
    low = {"measured": {"scores": {"bleu": 2.475e-19, "nist": 1.0}}}
    assert measured_of(low, cell) == "bleu 0.0" and measured_of({"measured": {}}, cell) == ""
    assert [duration(s) for s in (90, 600, 7199, 7200)] == ["90 s", "10 min", "120 min", "2.0 h"]


def test_a_run_of_one_s_own_is_called_by_its_method_and_what_differs() -> None:
    overrides = ["profile=smoke", "task=sentiment", "method.rank=2", "train.lr=1e-3", "seed=3", "paths.runs=/x", "launch.tries=1"]
    assert cell_of(compose(overrides), overrides).row.label == "lora method.rank=2 train.lr=1e-3"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("method=lorra", "no method 'lorra'; did you mean lora?"),
        ("method=zzz", "no method 'zzz'; choose from adapter_drop, "),
        ("method.rnk=4", "no setting 'method.rnk'; did you mean method.rank?"),
        ("method.targts=[query]", "did you mean method.targets?"),
        ("lr=1e-3", "no setting 'lr'; did you mean train.lr?"),
        ("n_jobs=4", "did you mean hydra.launcher.n_jobs?"),
        ("row/glue=lora", "row/glue is a row of experiment=glue: add that"),
        ("zzz=1", "no setting 'zzz'; lora-repro run --cfg job shows them all"),
        ("smoke", "'smoke' is not a setting: write KEY=VALUE, such as profile=mini"),
    ],
)
@pytest.mark.parametrize("hydra_node", [False, True])
def test_what_was_meant_is_said(typed: str, said: str, hydra_node: bool) -> None:
    with pytest.raises(UserError) as error:
        compose([typed], hydra_node=hydra_node)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_setting_that_a_component_has_not_is_answered_with_those_it_has() -> None:
    with pytest.raises(UserError, match=r"method\.rnk is not a setting of Lora; did you mean rank\?"):
        build(compose(["+method.rnk=4"]).method)


def test_runs_are_listed_the_newest_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def keep(name: str, when: str, label: str | None) -> None:
        config = {"method": {"name": "lora"}, "task": {"name": "rte", "metrics": ["accuracy"]}, "seed": 1}
        run = {"schema": 1, "asked": config, "row": {"label": label}, "status": "finished", "where": {"finished_at": when}}
        plant_record(tmp_path / "mini" / name / "record.json", {**run, "measured": {"scores": {"accuracy": 0.5}}})

    keep("aaaa", "2026-02-01T00:00:00Z", "LoRA")
    keep("bbbb", "2026-01-01T00:00:00Z", None)
    keep("gggg", "2026-03-01T00:00:00Z", "\x1b[2J")
    (tmp_path / "mini" / "cccc").mkdir()
    (tmp_path / "mini" / "cccc" / "attempts.json").write_text("{}")
    (tmp_path / "mini" / "ffff").mkdir()
    attempts.note(tmp_path / "mini" / "ffff", -9, "was killed by SIGKILL")
    entry = json.loads((tmp_path / "mini" / "aaaa" / "record.json").read_text())
    for name, text in (("dddd", "{"), ("eeee", json.dumps({**entry, "measured": []}))):
        (tmp_path / "mini" / name).mkdir()
        (tmp_path / "mini" / name / "record.json").write_text(text)
    assert runs.main([f"paths.runs={tmp_path}", "profile=mini"]) == 0
    header, broken, odd, old, new, strange, *rest = capsys.readouterr().out.splitlines()
    (crash,) = [line for line in rest if "unfinished: was killed by SIGKILL" in line]
    (open_,) = [line for line in rest if line != crash]
    assert header.split() == ["folder", "run", "task", "seed", "status", "score", "age"]
    assert old.split()[1:7] == ["lora", "rte", "1", "finished", "accuracy", "50.0"] and "bbbb" in old and " d" in old
    assert strange.isprintable() and r"\x1b[2J" in strange
    assert "LoRA" in new and "unfinished" in open_ and "0 min" in open_ and "cannot be read" in broken and "cannot be read" in odd
    assert [runs.age(s) for s in (60, 7200, 3 * 86400)] == ["1 min", "2 h", "3 d"]
    assert runs.main([f"paths.runs={tmp_path / 'none'}"]) == 2
