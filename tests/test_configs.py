"""Every yaml of conf/ composes and builds; what a profile, recipe or tuned file sets reaches the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import rows_and_profiles
from omegaconf import OmegaConf
from planted import note
from transformers import AutoConfig

from lora_repro.backbone.architecture import ARCHITECTURES
from lora_repro.backbone.spec import BackboneSpec
from lora_repro.config.compose import CONF, build, compose, starts_of
from lora_repro.config.hydra_internals import override_value
from lora_repro.config.paths import choices
from lora_repro.config.schema import fields
from lora_repro.config.signature import signature
from lora_repro.errors import UserError
from lora_repro.files import write_json
from lora_repro.records import rates
from lora_repro.records.record import SCHEMA, read
from lora_repro.sweep import grid

ROWS = choices("row/e2e")
PROFILES = choices("profile")
RECIPES = choices("recipe")
COMPONENTS = [
    (group, name)
    for group in ("backbone", "method", "task", "train", "decode", "tracker")
    for name in choices(group)
    if name not in ("decoder", "encoder", "own")  # what each profile takes for one, and a model that a user must name
]
BUILT = [pair for pair in COMPONENTS if pair != ("backbone", "own")]  # which reads a folder: tests/test_own_model.py


def resolved(*overrides: str) -> dict[str, Any]:
    return OmegaConf.to_container(compose(list(overrides)), resolve=True)  # type: ignore[return-value]


def test_the_walk_finds_the_tree() -> None:
    assert len(ROWS) == 14 and PROFILES == ["laptop", "mini", "paper", "smoke"] and RECIPES == ["paper", "scripts"]
    assert {group for group, _ in COMPONENTS} == {"backbone", "method", "task", "train", "decode", "tracker"}


@pytest.mark.parametrize("group, name", BUILT)
def test_every_component_builds(group: str, name: str) -> None:
    family = ["task=sentiment"] if name in ("labels", "glue") else []  # each kind of task has its own
    component = build(compose([*family, f"{group}={name}"])[group])
    if group == "backbone":
        assert isinstance(component, BackboneSpec)
    if group == "task":
        assert component.attribution, "where real texts are shown, it must be said whose they are"


@pytest.mark.parametrize("group, name", [*COMPONENTS, ("probe", "updates"), ("data", ""), ("bench", "")])
def test_every_field_of_a_component_stands_in_its_yaml(group: str, name: str) -> None:
    """So the command line takes and completes all of them."""
    family = ["task=sentiment"] if name in ("labels", "glue") else []
    overrides = [f"{group}={name}"] if name else ["experiment=latency", "row/latency=plain"]
    node = compose([*family, *overrides])[group]
    assert set(fields(node["_target_"])) <= set(node)


def test_options_that_most_runs_leave_alone_are_accepted() -> None:
    config = resolved(
        "task=sentiment", "train.steps=5", "train.select_by=score", "train.group_by_length=true", "tune.length=0.5",
        "starts=[{task:entailment}]",
    )  # fmt: skip
    assert (config["train"]["steps"], config["train"]["select_by"], config["train"]["group_by_length"]) == (5, "score", True)
    assert config["tune"]["length"] == 0.5 and config["starts"] == [{"task": "entailment"}]


@pytest.mark.parametrize("task", ["webnlg", "dart"])
def test_a_protocol_is_a_choice_of_the_tasks_that_have_two(task: str) -> None:
    assert build(compose([f"task={task}"]).task).protocol == "paper"
    official = compose([f"experiment={task}", f"row/{task}=lora", "protocol=official"])
    assert build(official.task).protocol == "official" and "protocol" not in official
    configs = [resolved(f"task={task}", f"{key}=official") for key in ("protocol", "task.protocol")]
    assert signature(configs[0]) == signature(configs[1])
    with pytest.raises(UserError, match=r"official.*paper"):
        compose([f"task={task}", "protocol=both"])
    with pytest.raises(UserError, match="not a setting of E2E"):
        build(compose(["task=e2e", "protocol=official"]).task)


def test_a_start_with_a_method_of_its_own_has_none_of_the_settings_of_this_one() -> None:
    fusion = ["task=rte", "method=adapter_fusion", "method.sources=[mnli,sst2]", "method.bottleneck=8", "train.lr=1e-3"]
    overrides = [*fusion, "starts=[{task:mnli,method:adapter_p},{task:sst2}]"]
    (first, settings), (second, _) = starts_of(compose(overrides), overrides)
    assert settings == ("train.lr=1e-3", "starts=null", "task=mnli", "method=adapter_p", "seed=0")
    assert first.method == compose(["method=adapter_p"]).method and first.train.lr == 1e-3
    assert (second.method.name, second.method.sources, second.method.bottleneck) == ("adapter_fusion", ["mnli", "sst2"], 8)


def test_a_start_s_own_settings_are_spelled_as_hydra_reads_them() -> None:
    own = {"data.n_train": None, "paths.data": "/data/my glue (v1)", "row.label": "null", "method.targets": ["query", "value"]}
    overrides = ["task=rte", "method=lora", f"starts=[{override_value({'task': 'mrpc', **own})}]"]
    ((start, _),) = starts_of(compose(overrides), overrides)
    assert (start.task.name, start.data.n_train, start.paths.data) == ("mrpc", None, "/data/my glue (v1)")
    assert start.row.label == "null" and start.method.targets == ["query", "value"]


@pytest.mark.parametrize(("row", "profile"), rows_and_profiles("e2e"))
def test_every_row_and_every_profile_compose_and_build(row: str, profile: str) -> None:
    config = compose(["experiment=e2e", f"row/e2e={row}", f"profile={profile}"])
    assert config.row.table == "e2e" and config.row.label
    for group in ("backbone", "method", "task", "train", "decode"):
        build(config[group])


@pytest.mark.parametrize("backbone", ["gpt2_medium", "gpt2_large"])
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("row", ["lora", "prelayer", "adapter_l_large"])
def test_the_paper_profile_composes_for_every_recipe(row: str, recipe: str, backbone: str) -> None:
    config = resolved("experiment=e2e", f"row/e2e={row}", "profile=paper", f"recipe={recipe}", f"backbone={backbone}")
    assert config["backbone"]["hub_id"] == "openai-community/" + backbone.replace("_", "-")
    assert len(config["backbone"]["revision"]) == 40
    assert config["decode"]["length_penalty"] == {"paper": 0.9, "scripts": 0.8}[recipe]
    assert config["train"]["select"] == {"paper": "best", "scripts": "last"}[recipe]
    train = config["train"]
    assert (train["epochs"], train["batch_size"]) == ((5, 5) if row == "adapter_l_large" else (5, 8))
    assert (train["warmup"], train["weight_decay"]) == (500, 0.01)
    assert config["task"]["text_form"] == "tokenised" and config["data"]["n_train"] is None


def test_lora_at_paper_scale_has_the_paper_s_hyper_parameters() -> None:
    config = resolved("experiment=e2e", "row/e2e=lora", "profile=paper")
    assert config["train"]["lr"] == 2e-4 and config["train"]["label_smoothing"] == 0.1
    method = config["method"]
    assert (method["rank"], method["alpha"], method["dropout"], method["targets"]) == (4, 32, 0.1, ["query", "value"])
    assert (config["decode"]["beam"], config["decode"]["no_repeat_ngram"], config["decode"]["max_new_tokens"]) == (10, 4, 64)


# Li & Liang (2021), hyper-parameters of E2E: learning rate, epochs, batch size.
BASELINES = {
    "full": (5e-5, 5, 10), "ft_top2": (5e-5, 5, 10), "adapter_l_large": (5e-5, 5, 5), "adapter_l_small": (8e-5, 10, 5),
    "prelayer_key_value": (8e-5, 5, 10),
}  # fmt: skip


@pytest.mark.parametrize("row", BASELINES)
def test_the_quoted_e2e_baselines_train_as_their_source_prints(row: str) -> None:
    for recipe in RECIPES:
        config = resolved("experiment=e2e", f"row/e2e={row}", "profile=paper", f"recipe={recipe}")
        assert tuple(config["train"][key] for key in ("lr", "epochs", "batch_size")) == BASELINES[row]
    if row == "prelayer_key_value":
        assert (config["method"]["form"], config["method"]["prefix"]) == ("key_value", 5)


def test_a_quoted_prelayer_value_stands_beside_the_form_it_is_of() -> None:
    for table in ("e2e", "webnlg", "dart"):
        for row in choices(f"row/{table}"):
            config = resolved(f"experiment={table}", f"row/{table}={row}", "profile=paper")
            if config["method"]["name"] == "prelayer" and config["row"]["paper"]:
                assert config["method"]["form"] == "key_value", row


@pytest.mark.parametrize("name", [name for group, name in BUILT if group == "backbone" and not name.startswith("random")])
def test_a_backbone_trains_with_its_published_dropout(name: str) -> None:
    config = compose([f"backbone={name}"])
    spec = build(config.backbone)
    kind = (spec.shape or OmegaConf.load(CONF / "plan.yaml").shapes[name])["model_type"]
    defaults = AutoConfig.for_model(kind)  # none of these models' own files says otherwise
    assert {getattr(defaults, key) for key in ARCHITECTURES[kind].dropouts} == {spec.dropout}
    if spec.shape.get("model_type") == "gpt2":
        assert compose([f"backbone={name}", "recipe=scripts"]).backbone.dropout == 0.0  # their code has none


def test_every_method_of_a_table_trains_with_its_backbone_s_dropout() -> None:
    for table, task in (("e2e", "e2e"), ("glue", "rte"), ("rank", "stsb"), ("low_data", "mrpc")):
        rows = choices(f"row/{table}")
        base = (f"experiment={table}", f"task={task}", "profile=laptop")
        backbones = [resolved(*base, f"row/{table}={row}")["backbone"] for row in rows]
        assert {backbone["dropout"] for backbone in backbones} == {0.1 if backbones[0]["name"] == "minilm_l6" else 0.0}


def test_below_the_paper_s_scale_sentence_tasks_choose_by_score_and_look_equally_often() -> None:
    for profile, task in (("mini", "sentiment"), ("laptop", "cola")):
        rows = choices("row/glue")
        trains = [resolved("experiment=glue", f"row/glue={row}", f"task={task}", f"profile={profile}")["train"] for row in rows]
        assert {train["select_by"] for train in trains} == {"score"}
        assert len({(train["steps"], train["epochs"], train["eval_every"], train["batch_size"]) for train in trains}) == 1
        assert all(float(train["epochs"]).is_integer() for train in trains)  # the last look is at the end of an epoch


def test_precedence_component_row_profile_search_command_line(unsearched: Path) -> None:
    lora = ["experiment=e2e", "row/e2e=lora", "profile=laptop"]
    assert resolved(*lora)["train"]["lr"] == 6e-3  # the row's
    same_setting = resolved(*lora, "seed=4", "train.lr=1", "decode.beam=2", "data.n_test=5")
    path = rates.own_path(rates.RESULTS, "laptop", rates.setting_signature(same_setting))
    write_json(path, {"schema": SCHEMA, "chosen": 0.054})
    note(unsearched)
    assert resolved(*lora)["train"]["lr"] == 0.054
    assert resolved(*lora, "train.lr=1e-9")["train"]["lr"] == 1e-9
    # Of another length, rank or amount of data nothing was searched.
    for other in ("train.epochs=3", "method.rank=8", "data.n_train=512", "profile=mini"):
        assert resolved(*lora, other)["train"]["lr"] == 6e-3


def test_argument_order_does_not_change_the_identity() -> None:
    one = resolved("experiment=e2e", "row/e2e=lora", "profile=laptop", "seed=2")
    other = resolved("seed=2", "profile=laptop", "row/e2e=lora", "experiment=e2e")
    assert signature(one) == signature(other)


@pytest.mark.parametrize("profile", sorted(path.parent.name for path in rates.RESULTS.glob("*/trials")))
def test_a_published_search_is_of_committed_code_bracketed_or_says_so(profile: str) -> None:
    records = {path: read(path) for path in sorted((rates.RESULTS / profile / "trials").glob("*.json"))}
    assert records and all(one["setting"] == path.stem for path, one in records.items())
    assert all(one["chosen"] == one["searches"][-1]["chosen"] for one in records.values())
    for path, search in ((path, search) for path, one in records.items() for search in one["searches"]):
        trials, seeds = search["trials"], search.get("seeds", 1)
        at = [trials[first : first + seeds] for first in range(0, len(trials), seeds)]  # a rate's trials, one a seed
        assert all(len({one["lr"] for one in group}) == 1 and len(group) == seeds for group in at), path
        ranking = {place: grid.mean_ranking_key(group, search["by"]) for place, group in enumerate(at)}
        best = min(ranking, key=lambda place: (ranking[place], place))
        assert at[best][0]["lr"] == search["chosen"] and search["edge"] == grid.edge(ranking), path
        assert 3 <= len(at) <= 7 and (search["edge"] is None or len(at) == 7), path
        assert not any(one["dirty"] for one in trials) and search["seed"] not in range(10), path


@pytest.mark.parametrize(
    "target", [
        "os.system",
        "lora_repro.records.record.os.system",  # a walk through a module of ours: an adapter from elsewhere may ask for it
        "lora_repro.records.record.Path",
        "lora_repro.records.record.write_text",
        "lora_repro.train.loop.Typo",
        "lora_repro.nowhere.X",
    ],
)  # fmt: skip
def test_build_calls_nothing_but_classes_of_the_project(target: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{target} is not a class of lora_repro"):
        build(OmegaConf.create({"_target_": target, "command": f"touch {tmp_path}/ran"}))
    assert not list(tmp_path.iterdir())
