"""GLUE end to end: what conf/ declares, the line from sentence to record at smoke scale, runs that start from runs, the table."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import plant_record, rows_and_profiles, tiny_backbone
from omegaconf import DictConfig, OmegaConf
from planted import note, noted

from experiments import glue, glue_dagger, low_data
from lora_repro.config import compose as compose_module
from lora_repro.config import signature
from lora_repro.config.compose import CONF, build, compose, resolved, resolved_with_starts, sweep_jobs
from lora_repro.config.paths import ROOT, choices
from lora_repro.errors import UserError
from lora_repro.files import write_text
from lora_repro.methods.base import AbstractMethod, Shape
from lora_repro.methods.lora import Lora
from lora_repro.planning import cells
from lora_repro.planning.rerun_command import command
from lora_repro.records import record
from lora_repro.report import show
from lora_repro.report.columns import columns_of
from lora_repro.report.exhibit import ReportRequest
from lora_repro.report.pivot import Pivot
from lora_repro.report.sweep_tables import Growing
from lora_repro.results import Store, backbone_name, declared_cells
from lora_repro.run import run
from lora_repro.run.stages import backbone_of, objective_of, trained_tensors

TABLES: dict[str, Pivot] = {"glue": glue.TABLE, "glue_dagger": glue_dagger.TABLE, "low_data": low_data.TABLE}
CELLS = [(table, row, profile) for table in TABLES for row, profile in rows_and_profiles(table)]
MNLI = [{"task": "mnli"}]
TASKS = ["mnli", "sst2", "mrpc", "cola", "qnli", "qqp", "rte", "stsb"]


@pytest.mark.parametrize("table, row, profile", CELLS)
def test_every_row_and_every_profile_compose_and_build(table: str, row: str, profile: str) -> None:
    task = ["task=sentiment"] if profile in ("smoke", "mini") else []
    n = ["data.n_train=100"] if table == "low_data" else []
    large = ["backbone=roberta_large"] if (table, profile) == ("glue_dagger", "paper") else []  # as its sweep says
    config = compose([f"experiment={table}", f"row/{table}={row}", f"profile={profile}", *task, *n, *large])
    assert config.row.table == table and config.row.label
    backbone_of(config)


@pytest.mark.parametrize("backbone, layers, d, count", [("minilm_l6", 6, 384, 73_728), ("mpnet_base", 12, 768, 294_912)])
def test_prelayer_has_as_many_values_as_lora(backbone: str, layers: int, d: int, count: int) -> None:
    shape = Shape(layers, d, d, dict.fromkeys(("query", "key", "value", "output"), ((d, d),)), 0, 0, 0, 0, 0)
    for row in ("prelayer", "lora"):
        config = compose(["experiment=glue", f"row/glue={row}", "profile=laptop", f"backbone={backbone}"])
        method: AbstractMethod = build(config.method)
        assert method.count(shape) == count, row


@pytest.mark.parametrize(
    "overrides, expected",
    [
        ("backbone=roberta_base task=rte", (5e-4, 80, 32, 0.06, 0.1, 512, 8, 8, MNLI, "best")),
        ("backbone=roberta_base task=rte recipe=scripts", (5e-4, 80, 256, 0.06, 0.1, 512, 8, 16, MNLI, "last")),
        ("backbone=roberta_base task=cola", (4e-4, 80, 32, 0.06, 0.1, 512, 8, 8, None, "best")),
        ("backbone=roberta_large task=cola", (2e-4, 20, 4, 0.06, 0.1, 128, 8, 16, None, "best")),
        ("backbone=deberta_v2_xxlarge task=stsb", (2e-4, 10, 4, 0.1, 0.1, 128, 8, 8, MNLI, "best")),
        ("backbone=deberta_v2_xxlarge task=mnli recipe=scripts", (1e-4, 5, 64, 1000, 0, 256, 16, 32, None, "last")),
    ],
)
def test_lora_has_the_printed_and_the_scripts_hyper_parameters(overrides: str, expected: tuple[object, ...]) -> None:
    config = resolved(compose(["experiment=glue", "row/glue=lora", "profile=paper", *overrides.split()]))
    train, method = config["train"], config["method"]
    got = (train["lr"], train["epochs"], train["batch_size"], train["warmup"], train["weight_decay"])
    got += (config["data"]["max_length"], method["rank"], method["alpha"], config["starts"], train["select"])
    assert got == expected
    assert train["select_by"] == "score" and config["task"].get("held_out", 0) == 0  # the paper chooses on dev


def paper_cell(table: str, row: str, *overrides: str) -> dict[str, Any]:
    return resolved(compose([f"experiment={table}", f"row/{table}={row}", "profile=paper", *overrides]))


@pytest.mark.parametrize(
    ("backbone", "recipe"), [("roberta_base", "paper"), ("roberta_large", "scripts"), ("deberta_v2_xxlarge", "paper")]
)
def test_mrpc_rte_and_stsb_alone_start_from_mnli(backbone: str, recipe: str) -> None:
    for task in TASKS:
        config = paper_cell("glue", "lora", f"backbone={backbone}", f"recipe={recipe}", f"task={task}")
        assert config["starts"] == (MNLI if task in ("mrpc", "rte", "stsb") else None)
        if recipe == "paper":  # the baseline starts where LoRA does (Section 5.2, D.1)
            assert paper_cell("glue", "full", f"backbone={backbone}", f"task={task}")["starts"] == config["starts"]
        scaling = config["method"]["alpha"] / config["method"]["rank"]
        assert scaling == (1 if recipe == "paper" and backbone != "roberta_large" else 2)


BUDGET = ("epochs", "batch_size", "warmup", "weight_decay")


@pytest.mark.parametrize("table, rows, backbone, tasks", [
    ("glue", "adapter_drop adapter_h adapter_p bitfit linear_probe prelayer prompt_tuning", "roberta_base", ["rte", "qqp"]),
    ("rivals", "", "roberta_base", ["mnli", "sst2"]),
    ("qlora_glue", "", "roberta_large", ["mnli", "sst2"]),
    ("fusion", "adapter_p fusion multi_task", "roberta_base", ["cola"]),
])  # fmt: skip
def test_a_row_of_which_nothing_is_printed_has_lora_s_printed_budget(
    table: str, rows: str, backbone: str, tasks: list[str]
) -> None:
    """With the three epochs of a default beside LoRA's thirty or sixty, a table of rivals would compare lengths."""
    first, *others = rows.split() or sorted({*choices(f"row/{table}")} - {"full"})
    by_task = {task: paper_cell("glue", "lora", f"backbone={backbone}", f"task={task}") for task in tasks}
    for row, task in [*((first, task) for task in tasks), *((row, tasks[0]) for row in others)]:
        config, lora = paper_cell(table, row, f"backbone={backbone}", f"task={task}"), by_task[task]
        assert [config["train"][key] for key in BUDGET] == [lora["train"][key] for key in BUDGET], (row, task)
        assert config["data"]["max_length"] == lora["data"]["max_length"]
        if table == "qlora_glue":
            assert [each["method"][key] for each in (config, lora) for key in ("rank", "alpha")] == [8, 16] * 2


def test_a_few_directions_are_held_to_a_fine_tuning_that_starts_and_lasts_as_they_do() -> None:
    for table in ("intrinsic_dimension", "intrinsic_dimension_sizes"):
        for row in choices(f"row/{table}"):
            config = paper_cell(table, row, "task=mrpc", "backbone=roberta_large", "row.d=64")
            assert (config["starts"], config["train"]["epochs"]) == (None, 10), row
        build(compose([f"experiment={table}", "profile=paper", f"row/{table}=said", "backbone=roberta_large", "row.d=64"]).method)


DAGGER_ROWS = choices("row/glue_dagger")


def test_dagger_rows_never_start_from_mnli() -> None:
    settings = OmegaConf.to_container(OmegaConf.load(CONF / "printed" / "paper" / "paper.yaml"))
    for row in DAGGER_ROWS:
        block = "lora_dagger" if row == "lora" else row
        assert row == "full" or "'start'" not in str(settings[block])  # type: ignore[index]
    for row in DAGGER_ROWS:
        for task in ("mrpc", "rte", "stsb") if row == "lora" else ("rte",):  # those that do, in the standard table
            config = paper_cell("glue_dagger", row, f"task={task}", "backbone=roberta_large")
            assert config["starts"] is None
            assert row == "full" or config["data"]["max_length"] == 128  # full is the standard row's, for comparison
    grid = declared_cells("glue_dagger", "paper", ["seed=0", "task=rte"])
    assert {cell.row.name for cell in grid} == set(DAGGER_ROWS) and set(map(backbone_name, grid)) == {"roberta_large"}


def test_below_the_paper_s_scale_the_dagger_rows_of_lora_s_size_are_the_glue_table_s_runs() -> None:
    pairs = {"lora": "lora", "full": "full", "adapter_p_small": "adapter_p", "adapter_h_small": "adapter_h"}
    for profile, task in (("mini", "sentiment"), ("laptop", "rte")):
        for row, other in pairs.items():
            one, two = (resolved(compose([f"experiment={table}", f"row/{table}={name}", f"profile={profile}", f"task={task}"]))
                        for table, name in (("glue_dagger", row), ("glue", other)))  # fmt: skip
            assert signature.signature(one) == signature.signature(two), (row, profile)


def test_dagger_adapters_are_the_authors_own() -> None:
    # Plain N(0, 0.02^2); swish in Houlsby's, relu in Pfeiffer's, which has no truncation to switch off.
    for row in ("adapter_h_large", "adapter_h_small"):
        method = paper_cell("glue_dagger", row, "backbone=roberta_large")["method"]
        assert (method["activation"], method["std"], method["init"]) == ("silu", 0.02, "gaussian")
    for row in ("adapter_p_large", "adapter_p_small"):
        method = paper_cell("glue_dagger", row, "backbone=roberta_large")["method"]
        assert (method["activation"], method["std"]) == ("relu", 0.02)


@pytest.mark.parametrize("table, row, task", [
    ("glue", "lora", "rte"),
    *(("glue_dagger", row, "mnli") for row in DAGGER_ROWS if row != "full"),
])  # fmt: skip
@pytest.mark.parametrize("backbone", ["gpt2_medium", "smollm2_135m"])
def test_what_the_paper_does_not_print_is_the_row_s_own(table: str, row: str, task: str, backbone: str) -> None:
    config = paper_cell(table, row, f"task={task}", f"backbone={backbone}")
    plain = resolved(compose([f"experiment={table}", f"row/{table}={row}", "profile=smoke", f"task={task}"]))
    assert config["train"]["lr"] == plain["train"]["lr"] and config["method"] == plain["method"]
    defaults = OmegaConf.load(CONF / "train" / "glue.yaml")
    for key in ("epochs", "batch_size", "warmup", "weight_decay"):
        assert config["train"][key] == defaults[key]
    assert config["starts"] is None and config["backbone"]["head_dropout"] is None


def test_a_script_s_adapter_has_its_values_and_what_no_script_trains_is_refused() -> None:
    scripts = ("backbone=roberta_large", "recipe=scripts")
    for row in ("adapter_h_small", "adapter_p_small"):
        train = paper_cell("glue_dagger", row, "task=mnli", *scripts)["train"]
        got = tuple(train[key] for key in ("lr", "epochs", "batch_size", "warmup", "weight_decay", "select"))
        assert got == (3e-4, 5, 256, 0.1, 0.0, "last")
    cases = [("glue", row, "rte") for row in ("full", "bitfit", "adapter_p", "linear_probe")]
    cases += [("glue_dagger", "lora", "mnli"), ("glue_dagger", "full", "mnli")]
    cases += [("glue_dagger", "adapter_h_small", "rte"), ("glue_dagger", "adapter_p_large", "mnli")]
    for table, row, task in [*cases, ("glue", "lora", "sentiment")]:
        line = f"no released script trains row {row} of {table} on roberta_large and {task}"
        with pytest.raises(UserError, match=line) as error:
            paper_cell(table, row, f"task={task}", *scripts)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="gpt2_medium"):
        paper_cell("glue", "lora", "task=rte", "recipe=scripts", "backbone=gpt2_medium")
    assert resolved(compose(["experiment=glue", "row/glue=full", "recipe=scripts"]))["train"]["select"] == "last"  # at mini


def smoke(tmp_path: Path, *overrides: str, row: str = "lora") -> DictConfig:
    return compose(["experiment=glue", f"row/glue={row}", "profile=smoke", f"paths.runs={tmp_path}", *overrides])


GLUE_ROWS = choices("row/glue")
ENTAILED = [("entailment", row) for row in GLUE_ROWS if row != "cosine"]  # which answers with a number


@pytest.mark.parametrize("task, row", [*ENTAILED, *(("similarity", row) for row in ("lora", "linear_probe", "cosine"))])
def test_every_row_runs_and_counts_its_head_apart(tmp_path: Path, task: str, row: str) -> None:
    run_record = run.run(smoke(tmp_path, f"task={task}", row=row))
    head = 0 if row == "cosine" else 33 if task == "similarity" else 66  # 32 d + 1 a output
    assert run_record["measured"]["parameters"]["head"] == head
    assert (run_record["measured"]["parameters"]["method"] == 0) == (row in ("linear_probe", "cosine"))
    lines = record.load_predictions(tmp_path / "smoke" / run_record["signature"] / "predictions.jsonl")
    assert len(lines) == 8 and {"key", "output", "gold"} <= set(lines[0])
    assert not {"input", "second"} & set(lines[0])


@pytest.mark.parametrize(
    "backbone, row",
    [("random_gpt2", "lora"), ("random_gpt2", "adapter_drop"), ("random_llama", "adapter_h"), ("random_llama", "prelayer")],
)
def test_a_decoder_classifies_too(tmp_path: Path, backbone: str, row: str) -> None:
    run_record = run.run(smoke(tmp_path, f"backbone={backbone}", "task=sentiment", row=row))
    assert run_record["measured"]["parameters"]["head"] == 64 and "accuracy" in run_record["measured"]["scores"]


def test_an_encoder_writes_no_text_and_a_number_has_no_classes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="writes no text"):
        run.run(compose(["task=e2e", "profile=smoke", "backbone=random_bert", f"paths.runs={tmp_path}"]))
    with pytest.raises(UserError, match="one number"):
        config = smoke(tmp_path, "task=similarity", "backbone.n_labels=2")
        backbone_of(config)
    with pytest.raises(UserError, match="answers with a class"):
        objective_of(smoke(tmp_path, "task=sentiment", "decode=beam"))


def test_rows_that_were_cut_are_counted(tmp_path: Path) -> None:
    measurements = run.run(smoke(tmp_path, "task=sentiment", "data.max_length=4"))["measured"]  # a byte is a token
    assert (measurements["rows_cut"], measurements["test_rows_cut"]) == (16 + 8, 8)
    assert "test_rows_cut" not in run.run(smoke(tmp_path, "task=sentiment"))["measured"]


def test_the_checkpoint_with_the_best_score_is_kept(tmp_path: Path) -> None:
    base = ("task=similarity", "train.eval_every=1", "train.epochs=6", "train.lr=3e-2")
    by_score = run.run(smoke(tmp_path, *base, "train.select_by=score"))
    text = (tmp_path / "smoke" / by_score["signature"] / "metrics.jsonl").read_text()
    log = [json.loads(line) for line in text.splitlines()]
    scores = {line["step"]: line["dev_score"] for line in log if "dev_score" in line}
    best = by_score["measured"]["best_step"]
    assert best == max(scores, key=lambda step: (scores[step], step))  # of equal ones the later
    assert dict(by_score["measured"]["dev_scores"]) == scores and by_score["measured"]["dev_score"] == scores[best]
    by_loss = run.run(smoke(tmp_path, *base, "train.select_by=loss"))
    losses = dict(by_loss["measured"]["dev_losses"])
    assert by_loss["measured"]["best_step"] == min(losses, key=lambda step: (losses[step], -step))


def test_a_score_of_one_input_is_not_what_a_text_task_selects_by(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="select_by=loss"):
        objective_of(compose(["profile=smoke", "task=e2e", "train.select_by=score"]))


def test_a_run_starts_from_the_run_it_names(tmp_path: Path) -> None:
    overrides = ["experiment=glue", "row/glue=lora", "profile=smoke", f"paths.runs={tmp_path}", "train.lr=1e-2"]
    overrides.append("task=entailment")
    config = compose([*overrides, "starts=[{task:similarity}]"])
    run_record = run.run(config, [*overrides, "starts=[{task:similarity}]"])
    source = compose([*overrides[:-1], "task=similarity"])
    name = signature.signature(resolved(source))
    assert run_record["measured"]["started_from"] == [name]
    assert record.read(tmp_path / "smoke" / name / "record.json")["asked"]["task"]["name"] == "similarity"
    before = run.run(source)["where"]["finished_at"]
    again = run.run(compose([*overrides, "starts=[{task:similarity}]", "seed=0"]), overrides)
    assert again == run_record and run.run(source)["where"]["finished_at"] == before  # nothing was trained twice
    plain = run.run(compose(overrides), overrides)
    assert plain["signature"] != run_record["signature"] and "started_from" not in plain["measured"]


def test_another_start_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = ["experiment=glue", "row/glue=lora", "profile=smoke", f"paths.runs={tmp_path}", "task=entailment"]
    cell += ["starts=[{task:similarity}]", "seed=1"]
    run_record = run.run(compose(cell), cell)
    source = run_record["asked"]["starts_from"]
    assert len(source) == 1 and run_record["measured"]["started_from"] == source
    assert signature.signature(run_record["asked"]) == run_record["signature"]
    # All who name a run agree on its name: the sweep, the table, the command that a report prints.
    (sweep_cell,) = cells.cells(cell)
    assert sweep_cell.folder.name == run_record["signature"]
    table_cells = declared_cells("glue", "smoke", ["row/glue=lora", "task=entailment", "starts=[{task:similarity}]", "seed=1"])
    assert [each.signature for each in table_cells] == [run_record["signature"]]
    assert command(run_record, "smoke").problem == ""
    # The source's own settings change (as a correction of conf/printed would): the old record answers no longer.
    plain = compose_module.compose

    def changed(overrides: list[str], hydra_node: bool = False) -> DictConfig:
        config = plain(overrides, hydra_node)
        if "task=similarity" in overrides:
            config.train.epochs = 2
        return config

    compose_module.compose_cached.cache_clear()
    monkeypatch.setattr(compose_module, "compose", changed)
    again = resolved_with_starts(plain(cell), cell)
    assert again["starts_from"] != source and signature.signature(again) != run_record["signature"]
    compose_module.compose_cached.cache_clear()


def test_a_start_copies_a_and_b_drops_the_head_and_refuses_what_does_not_fit(tmp_path: Path) -> None:
    run_record = run.run(smoke(tmp_path / "runs", "task=entailment", "train.lr=1e-2"))
    run_folder = tmp_path / "runs" / "smoke" / run_record["signature"]
    tensors = trained_tensors(run_folder)
    torch.manual_seed(1)
    backbone = tiny_backbone("bert")
    method = Lora(rank=8, alpha=8, dropout=0.0)
    trainable = method.apply(backbone)
    head = {name: parameter.detach().clone() for name, parameter in trainable.head.items()}
    method.begin(trainable, [tensors])
    assert all(torch.equal(parameter, tensors[name]) for name, parameter in trainable.method.items())
    assert all(torch.equal(parameter, head[name]) for name, parameter in trainable.head.items())
    other = Lora(rank=2, alpha=8, dropout=0.0)
    with pytest.raises(UserError, match="do not fit"):
        other.begin(other.apply(tiny_backbone("bert")), [tensors])
    with pytest.raises(UserError, match="from one run, not from 2"):
        method.begin(trainable, [tensors, tensors])
    with pytest.raises(UserError, match="all zero"):
        zero = {name: torch.zeros_like(parameter) if name.endswith(".B") else parameter for name, parameter in tensors.items()}
        method.begin(method.apply(tiny_backbone("bert")), [zero])
    (run_folder / "adapter.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot read .* delete"):
        trained_tensors(run_folder)


def fabricate(
    root: Path, table: str, profile: str, scores: dict[tuple[str, str], list[int]], collapsed: Any = ()
) -> None:
    """Published records of `table`, seed 0, with the given right (1) and wrong (0) answers by (row, column)."""
    folder = root / "results" / profile
    for cell in declared_cells(table, profile, ["seed=0"]):
        rows, epochs = cell.asked["data"]["n_train"], cell.asked["train"]["epochs"]
        column = {"low_data": f"rows_{rows}", "training_length": f"epochs_{epochs}"}.get(table, cell.task)
        if (cell.row.name, column) not in scores:
            continue
        name, config, right = cell.signature, cell.asked, scores[cell.row.name, column]
        metric = config["task"]["metrics"][0]
        entry = {
            "schema": 1,
            "signature": name,
            "status": "collapsed" if (cell.row.name, column) in collapsed else "finished",
            "asked": config,
            "row": {"table": table},
            "measured": {
                "scores": {metric: sum(right) / len(right)},
                "parameters": {"method": 10, "head": 2, "total": 99},
                "wall_seconds": 1.0,
            },
            "where": {
                "backbone": {"label": "B", "sha256": "1"},
                "data": {"caption": f"{config['task']['label']}, synthetic (generated by us)", "hashes": {}},
            },
        }
        plant_record(folder / "records" / f"{name}.json", entry)
        lines = [json.dumps({"key": str(i), "correct": x, "output": str(x), "gold": "1"}) for i, x in enumerate(right)]
        write_text(folder / "predictions" / f"{name}.jsonl", "\n".join(lines) + "\n")


def test_a_row_is_shown_when_it_ends_also_one_that_fills_a_column_only(tmp_path: Path, unsearched: Path) -> None:
    overrides = (f"paths.runs={tmp_path / 'runs'}", "row/glue=lora,cosine", "task=sentiment,similarity")
    marks = {("lora", "sentiment"): [1, 1, 1, 0], ("lora", "similarity"): [0, 1], ("cosine", "similarity"): [1, 1]}
    fabricate(tmp_path, "glue", "smoke", marks)
    noted(tmp_path / "results" / "smoke")
    records = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "results/smoke/records").iterdir()}
    wanted = [cell for cell in declared_cells("glue", "smoke", overrides) if cell.signature in records]
    for cell in wanted:
        plant_record(cell.folder / "record.json", records[cell.signature])
    growing = Growing(glue.TABLE, ReportRequest("glue", "smoke", overrides), wanted, tmp_path)
    header, _, *lora = growing.ended(next(cell for cell in wanted if cell.row.name == "lora"))
    cosine = growing.ended(next(cell for cell in wanted if cell.row.name == "cosine"))
    ends = [header.index(title) + len(title) for title in ("Sentiment ↑", "Similarity ↑")]
    values = {name: [[line[:end].split()[-1] for end in ends] for line in lines if "published" in line]
              for name, lines in (("lora", lora), ("cosine", cosine))}  # fmt: skip
    assert values == {"lora": [["75.0†", "50.0†"]], "cosine": [["—", "100.0†"]]}


def test_the_table_has_a_column_a_task_their_average_and_differences(tmp_path: Path, unsearched: Path) -> None:
    def render() -> None:
        ask = ReportRequest("glue", "mini", ("task=sentiment,entailment",))
        (exhibit,) = glue.TABLE.exhibits(ask, [store])
        show.write(exhibit, tmp_path / "results" / "mini")

    half, most, none = [0, 1] * 20, [1, 1, 1, 0] * 10, [0] * 40
    marks = {("full", "sentiment"): half, ("full", "entailment"): half, ("lora", "sentiment"): most, ("lora", "entailment"): half}
    marks |= {("bitfit", "sentiment"): none, ("bitfit", "entailment"): half, ("adapter_p", "sentiment"): half}
    fabricate(tmp_path, "glue", "mini", marks, collapsed={("bitfit", "sentiment")})
    store = noted(tmp_path / "results" / "mini")
    render()
    text = (tmp_path / "results" / "mini" / "tables" / "glue.csv").read_text()
    lines = {line["row"]: line for line in csv.DictReader(text.splitlines()) if line["source"] == "published"}
    lora = lines["lora"]
    assert (lora["sentiment"], lora["entailment"], lora["average"]) == ("75", "50", "62.5")
    assert (lora["sentiment_difference"], lora["entailment_difference"], lora["average_difference"]) == ("25", "0", "12.5")
    assert float(lora["average_low"]) < 12.5 < float(lora["average_high"])
    assert lines["bitfit"]["sentiment"] == "0" and "Sentiment: 1 collapsed" in lines["bitfit"]["notes"]
    assert (lines["bitfit"]["average"], lines["bitfit"]["difference"]) == ("25", "-25")  # it counts as what it is
    assert lines["adapter_p"]["average"] == ""  # never over fewer tasks
    assert lines["adapter_p"]["entailment"] == "" and float(lora["sentiment_p"]) < float(lora["entailment_p"]) == 1
    markdown = (tmp_path / "results" / "mini" / "tables" / "glue.md").read_text()
    assert "collapsed" in next(line for line in markdown.splitlines() if line.startswith("| BitFit"))
    assert "Learning rate not searched but a first guess: every row." in markdown
    assert "Data: Sentiment, Entailment: synthetic (generated by us)" in markdown
    first = {path: path.read_bytes() for path in (tmp_path / "results").rglob("*") if path.is_file()}
    render()
    assert first == {path: path.read_bytes() for path in (tmp_path / "results").rglob("*") if path.is_file()}


def test_the_low_data_table_has_a_column_a_size(tmp_path: Path) -> None:
    half, most = [0, 1] * 20, [1, 1, 1, 0] * 10
    marks = {(row, f"rows_{n}"): most if row == "lora" else half for row in ("full", "lora") for n in (16, 32)}
    fabricate(tmp_path, "low_data", "smoke", marks)
    note(tmp_path / "results")
    show.render_published(["low_data"], tmp_path)
    text = (tmp_path / "results" / "smoke" / "tables" / "low_data.csv").read_text()
    lora = next(line for line in csv.DictReader(text.splitlines()) if (line["row"], line["source"]) == ("lora", "published"))
    assert lora["difference"] == lora["rows_32_difference"]
    assert (lora["rows_16"], lora["rows_32"], lora["rows_16_difference"]) == ("75", "75", "25")


@pytest.mark.parametrize("task, n", [([], 3418), (["task=mrpc"], 3418), (["task=rte"], 2490 - 250), (["task=stsb"], 5749 - 500)])
def test_low_data_s_largest_size_is_the_task_s_own(task: list[str], n: int) -> None:
    # More than there are would refuse a third of the runs. The sweep and its table ask for the same cells.
    command = ["experiment=low_data", "profile=laptop", *task]
    cells = declared_cells("low_data", "laptop", [*task, "row/low_data=lora", "seed=0"])
    sizes = [cell.asked["data"]["n_train"] for cell in cells]
    jobs = {item for job in sweep_jobs([*command, "row/low_data=lora"])[1] for item in job if item.startswith("data.n_train=")}
    assert sizes == [100, 1000, n] and jobs == {f"data.n_train={size}" for size in sizes}


def test_low_data_at_paper_scale_has_the_paper_s_four_columns() -> None:
    cells = declared_cells("low_data", "paper", ["seed=0"])
    columns = {column.key for column in columns_of("data.n_train", "size", low_data.TABLE.metrics, cells, None)}
    assert len(columns) == 4
    for cell in cells:
        assert columns == set(cell.row.paper["gpt3_175b"]) - {"source"}


def test_the_paper_s_average_is_of_its_eight_tasks() -> None:
    for cell in declared_cells("glue", "paper", ["task=mnli", "backbone=roberta_base", "seed=0"]):
        for scores in cell.row.paper.values():
            assert abs(sum(scores[task] for task in TASKS) / 8 - scores["average"]) < 0.06


def test_the_paper_s_average_stands_beside_the_same_tasks_only() -> None:
    def averages(*tasks: str, profile: str = "paper") -> dict[str, str]:
        ask = ReportRequest("glue", profile, (f"task={','.join(tasks)}", "row/glue=lora", "seed=0"))
        results = glue.TABLE.scores(ask, ask.cells, [Store("published", Path(), {})])[0].results
        return {result.source: round(result.cells["average"].mean, 2) for result in results if "average" in result.cells}

    assert averages(*TASKS) == {"paper (RoBERTa base)": 87.2}  # as printed
    assert averages("rte", "mrpc") == {"paper (RoBERTa base)": round((86.6 + 89.7) / 2, 2)}
    assert averages("sentiment", "entailment", profile="mini") == {}  # generated tasks: no number of the paper's


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "task").glob("*.yaml")))
def test_every_task_builds_on_its_own_family(name: str) -> None:
    config = compose([f"task={name}", "profile=smoke"])
    assert build(config.task).name == name
    labelled = str(config.task._target_).endswith((".Glue", ".GlueText", ".Mixture", ".OwnLabels"))  # any other writes a text
    assert (config.decode._target_ == "lora_repro.objectives.classification.Labeller") == labelled


def test_a_mixture_s_run_is_found_with_its_sources_and_its_members_data() -> None:
    """Its members differ between profiles: those of the generated tasks have no settings at laptop."""
    (path, *_) = [
        path for path in (ROOT / "results" / "laptop" / "records").glob("*.json")
        if json.loads(path.read_text(encoding="utf-8"))["asked"]["task"]["name"] == "mixture"
    ]  # fmt: skip
    rerun = command(json.loads(path.read_text(encoding="utf-8")), "laptop")
    assert not rerun.problem and "task=mixture" in rerun.text and "paths.data=/path/to/glue" in rerun.text


def test_a_table_without_numbers_of_the_paper_shows_ours(tmp_path: Path) -> None:
    half, most = [0, 1] * 20, [1, 1, 1, 0] * 10
    rows = ("full", "lora", "linear_probe")
    marks = {(row, f"epochs_{n}"): most if row == "lora" else half for row in rows for n in (1, 2)}
    fabricate(tmp_path, "training_length", "smoke", marks)
    note(tmp_path / "results")
    show.render_published(["training_length"], tmp_path)
    text = (tmp_path / "results" / "smoke" / "tables" / "training_length.csv").read_text()
    lora = next(line for line in csv.DictReader(text.splitlines()) if line["row"] == "lora")
    assert (lora["epochs_1"], lora["epochs_2"], lora["epochs_1_difference"]) == ("75", "75", "25")
    figure = (tmp_path / "results" / "smoke" / "figures" / "training_length.svg").read_text()
    assert "Full fine-tuning" in figure and "Linear probing" in text and "Linear probing" not in figure  # no row of `curves`
