"""Settings that ruin a run are refused before it starts, each in one line with name, value and range."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from conftest import components
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_repro.analysis.probe import UpdateProbe
from lora_repro.commands import run
from lora_repro.config.compose import build, compose, resolved, target
from lora_repro.config.validation import Range, check, check_root
from lora_repro.decode.beam import BeamSearch
from lora_repro.errors import UserError
from lora_repro.methods.adapter_drop import AdapterDrop
from lora_repro.methods.adapter_h import AdapterH
from lora_repro.methods.adapter_l import AdapterL
from lora_repro.methods.adapter_p import AdapterP
from lora_repro.methods.dora import Dora
from lora_repro.methods.lora import Lora
from lora_repro.methods.matrices import Matrices
from lora_repro.methods.pissa import Pissa
from lora_repro.methods.prelayer import PreLayer
from lora_repro.methods.prompt_tuning import PromptTuning
from lora_repro.methods.vera import Vera
from lora_repro.train.loop import TrainConfig
from lora_repro.train.ranks import world_size

# What the audit's command lines set, and what its line must name.
BAD = [
    *(f"train.{key}={value}" for key in ("lr", "warmup", "weight_decay", "eps", "epochs", "clip", "beta1", "label_smoothing")
      for value in ("inf", "nan", "-inf", "true", "abc", "[1]", "{a:1}")),
    *(f"train.{key}={value}"
      for key in ("batch_size", "micro_batch_size", "eval_batch_size", "eval_every", "checkpoint_every", "steps")
      for value in ("1.5", "nan", "inf", "true", "0", "-1", "abc", "100000000000")),
    *(f"train.{key}={value}" for key, value in (
        ("lr", "0"), ("lr", "1e400"), ("lr", "null"), ("clip", "-1"), ("clip", "0"), ("beta2", "1"), ("precision", "fp8"),
        ("select", "null"), ("group_by_length", "3"), ("select_by", "[loss]"))),
    *(f"data.{key}={value}" for key in ("n_train", "n_dev", "n_test", "max_length", "subset_seed")
      for value in ("abc", "1.5", "-1", "true")),
    *("data=null", "data=3", "train=null", "tracker=null", "row=null", "paths=null", "paths.runs=null", "launch=null", "tune=3"),
    *("~train", "~data", "~seed", "~paths", "~paths.runs", "~method", "~row.seeds", "~launch"),
    *("device=null", "device=3", "seed=-1", "seed=1.5", "seed=true", "seed=null", "seed=10000000000", "seed=???"),
    *("launch.tries=abc", "launch.tries=0", "launch.processes=abc", "launch.processes=1.5", "tune.length=0", "tune.most=0"),
    *("seed=${oc.env:NOPE}", "seed=${foo}", "seed=${seed}", "train.lr=${train.lr}", "paths.runs=${foo}", "train.lr=${train}"),
    *("decode.batch_size=1.5", "decode.beam=true", "decode.length_penalty=nan", "decode.max_new_tokens=abc", "decode.beam=1e400"),
    *("method.rank=1.5", "method.alpha=inf", "method.alpha=abc", "method.dropout=nan", "method.rank=true"),
    *("method.targets=query", "method.targets=3", "method.targets=[1]", "method.name=3"),
    *("method=[lora,full]", "task.source=3", "task.name=null"),
    *("backbone.separator=3", "backbone.pad=null", "backbone.shape=3", "backbone.source=null", "backbone.dropout=nan"),
    *("backbone.name=false", "backbone.packages=3", "backbone.random_seed=-1", "backbone.n_labels=x", "backbone.head=5"),
]  # fmt: skip


# Constructors: what each is given, and what its line must name.
NONSENSE: list[tuple[Any, dict[str, Any], str]] = [
    *((method, values, says)
      for method in (AdapterH, AdapterL, AdapterP, AdapterDrop)
      for values, says in (
          ({"bottleneck": 0}, "bottleneck"),
          ({"bottleneck": 2.5}, "bottleneck"),
          ({"activation": "step"}, "relu"),
          ({"init": "x"}, "zero_up"),
          ({"std": 0}, "std"))),
    *((AdapterDrop, {"dropped": dropped}, r"method\.dropped") for dropped in (-1, 1.5, True, None)),
    (Lora, {"rank": 0}, "rank"),
    (Lora, {"rank": 2.0}, "rank"),
    (Lora, {"alpha": 0}, "alpha"),
    (Lora, {"dropout": 1.0}, "dropout"),
    (Lora, {"init": "zeros"}, "kaiming, gaussian"),
    (Lora, {"targets": []}, "query, key, value, output, mlp"),
    (Lora, {"targets": "query"}, "must be a list"),
    (Lora, {"targets": ["qkv"]}, "query, key, value, output, mlp"),
    (Lora, {"targets": ["query", "query"]}, "repeat"),
    (Lora, {"scaling": "root"}, r"method\.scaling"),
    (Lora, {"lr_ratio": 0}, r"method\.lr_ratio"),
    (Dora, {"rank": 0}, r"method\.rank"),
    (Dora, {"alpha": -1}, r"method\.alpha"),
    (Pissa, {"dropout": 1.0}, r"method\.dropout"),
    (Vera, {"initial": 0}, "VeRA initial"),
    (Vera, {"targets": ["head"]}, "VeRA target"),
    *((Matrices, {"targets": targets}, "target") for targets in ([], "query", ["queries"], ["query", "query"])),
    (PreLayer, {"form": "values"}, "activations, key_value"),
    (PreLayer, {"form": "key_value"}, "no infix"),
    (PreLayer, {"prefix": 0, "infix": 0}, "needs a prefix"),
    (PreLayer, {"prefix": -1}, "prefix"),
    (PreLayer, {"init": "zeros"}, "activations, gaussian"),
    (PreLayer, {"mid": 0}, "mid"),
    (PreLayer, {"std": 0.0}, "std"),
    (PromptTuning, {"prefix": 0, "infix": 0}, "needs a prefix"),
    (PromptTuning, {"prefix": 1.5}, "prefix"),
    (PromptTuning, {"infix": -1}, "infix"),
    (PromptTuning, {"init": "text"}, "vocabulary, gaussian"),
    (PromptTuning, {"std": 0}, "std"),
    (BeamSearch, {"beam": 0}, r"decode\.beam must"),
    (BeamSearch, {"beam": 2.5}, r"decode\.beam must"),
    (BeamSearch, {"max_new_tokens": 0}, r"decode\.max_new_tokens must"),
    (BeamSearch, {"max_new_tokens": True}, r"decode\.max_new_tokens must"),
    (BeamSearch, {"length_penalty": -0.5}, r"decode\.length_penalty must"),
    (BeamSearch, {"length_penalty": float("nan")}, r"decode\.length_penalty must"),
    (BeamSearch, {"no_repeat_ngram": -1}, r"decode\.no_repeat_ngram must"),
    (BeamSearch, {"batch_size": 0}, r"decode\.batch_size must"),
    (TrainConfig, {"lr": 0}, "lr"),
    (TrainConfig, {"lr": 1e-3, "epochs": 0}, "epochs"),
    (TrainConfig, {"lr": 1e-3, "label_smoothing": 1.0}, "label_smoothing"),
    (TrainConfig, {"lr": 1e-3, "precision": "fp8"}, "precision"),
    (TrainConfig, {"lr": 1e-3, "select": "worst"}, "select"),
    (UpdateProbe, {"name": "updates", "kinds": ["mlp"]}, r"probe\.kinds "),
    (UpdateProbe, {"name": "updates", "kinds": []}, r"probe\.kinds "),
    (UpdateProbe, {"name": "updates", "directions": [0]}, r"probe\.directions "),
    (UpdateProbe, {"name": "updates", "points": 0}, r"probe\.points "),
    (UpdateProbe, {"name": "updates", "depths": [1.5]}, r"probe\.depths "),
    (UpdateProbe, {"name": "updates", "keep": 0}, r"probe\.keep "),
]  # fmt: skip


@pytest.mark.parametrize(("component", "values", "says"), NONSENSE)
def test_a_component_names_the_setting_that_it_refuses(component: Any, values: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        component(**values)


def composed(overrides: list[str]) -> Any:
    return resolved(compose(overrides))


@pytest.mark.parametrize("override", BAD)
def test_a_bad_setting_is_one_line_that_names_it(override: str) -> None:
    with pytest.raises(UserError) as error:
        composed([override])
    key = override.lstrip("~").partition("=")[0]
    assert "\n" not in str(error.value) and key.split(".")[-1] in str(error.value), error.value
    assert "not supported between" not in str(error.value) and "__init__" not in str(error.value)


@pytest.mark.parametrize("override", [
    "train.lr=1", "train.clip=1", "train.clip=null", "train.warmup=0.06", "train.epochs=0.5", "train.steps=3", "data.n_test=0",
    "seed=3", "method.alpha=16.5", "train.eps=0", "launch.processes=2", "method.targets=[query]", "backbone.label='no'",
])  # fmt: skip
def test_a_good_one_is_taken(override: str) -> None:
    composed([override])


QUOTES = "put a value with spaces, ~, brackets or non-ASCII letters in quotes: \"paths.data='/my data'\""


def test_the_message_says_name_value_and_range() -> None:
    for override, says in (
        ("train.clip=-1", "train.clip must be a number above 0 or null, not -1"),
        ("train.beta1=1", "train.beta1 must be a number of at least 0 and below 1, not 1"),
        ("train.eval_every=nan", "train.eval_every must be a whole number of at least 1 or null, not nan"),
        ("train.precision=fp8", "train.precision must be one of auto, fp32, bf16, fp16, not 'fp8'"),
        ("seed=-1", "seed must be a whole number of at least 0 and of at most 2147483647, not -1"),
        ("paths.runs=", "paths.runs is empty: name a folder, or leave it out"),
        ("paths.runs='~/runs'", "paths.runs=~/runs: ~ is not expanded here; write $HOME or the full path"),
        ("paths.data=~/e2e", f"cannot read paths.data=~/e2e; {QUOTES}"),
        ("paths.data=/a/ü", f"cannot read paths.data=/a/ü; {QUOTES}"),
        ("paths.data=/a/(b)", f"cannot read the settings (mismatched input '(' expecting <EOF>); {QUOTES}"),
        ("method.targets=[1]", "method.targets must be a list, each a text, not [1]"),
    ):
        with pytest.raises(UserError) as error:
            composed([override])
        assert str(error.value) == says


@pytest.mark.parametrize("arguments", [
    ["=3"], ["--foo"], ["--config-name=x"], ["method=[lora,full]"], ["paths.runs=/x,y"], ["hydra.run.dir=/proc/foo"],
    ["hydra.sweep.dir=/proc/x", "-m"], ["seed=1000"], ["seed=${foo}"], ["a b=3"], ["train.lr=abc,1", "-m"], ["train.lr=inf"],
    ["seed=1000,1001", "-m"],
    ["hydra.launcher.n_jobs=0", "hydra/launcher=joblib", "-m"], ["train.clip=-1", "seed=0,1", "-m"], ["~train"], ["x"],
])  # fmt: skip
def test_a_refused_command_line_is_one_line_and_leaves_nothing(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lora_repro.sweep.preflight.check", lambda cells: pytest.fail("went on"))
    runs = [] if arguments == ["paths.runs=/x,y"] else [f"paths.runs={tmp_path / 'runs'}"]
    monkeypatch.setattr("sys.argv", ["run", "profile=smoke", *runs, *arguments])
    with pytest.raises(SystemExit) as left:
        run.main(["profile=smoke", *runs, *arguments])
    output = capsys.readouterr()
    assert left.value.code == 2 and output.err.startswith("error: ") and output.err.count("\n") == 1, output
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("asked", [["--cfg", "job"], ["--cfg=job"], ["--info=config"]])
def test_a_question_for_hydra_is_handed_on(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[object] = []
    monkeypatch.setattr(run, "hydra_program", jobs.append)
    assert run.started(["profile=smoke", *asked]) == 0 and jobs == [run.job]


@pytest.mark.parametrize("given", ["abc", "", "0", "-1", "1.5"])
def test_a_junk_number_of_processes_is_one_line(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", given)
    with pytest.raises(UserError, match="WORLD_SIZE"):
        world_size()


def nodes() -> dict[str, dict[str, Any]]:
    """One yaml of each component's class, without what it takes from elsewhere."""
    configs = {}
    for group, node in components():
        if group not in ("launcher", "sweeper", "tracker") and "${" not in str(node) and "defaults" not in node:
            configs[f"{group}/{node['_target_'].rpartition('.')[2]}"] = node
    return configs


NODES = nodes()
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("${oc.env:HOME}"),
    st.lists(st.one_of(st.integers(-2, 2), st.floats(), st.text(max_size=3), st.none()), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from([10**11, 2**64, -1, 1e400, 1.5, "nan", "", []]),
)


@pytest.mark.parametrize("name", NODES)
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_whatever_a_field_is_given_it_is_built_or_refused_in_one_line(name: str, data: st.DataObject) -> None:
    node = dict(NODES[name])
    fields = [field.name for field in dataclasses.fields(target(node))]
    node[data.draw(st.sampled_from(fields))] = data.draw(JUNK)
    try:
        build(node)
    except UserError as error:
        assert "\n" not in str(error)


def test_a_field_needs_nothing_but_its_type() -> None:
    for value in (True, 1.0, -1, 2**31, "1", None):
        with pytest.raises(UserError, match=r"x\.shots must be a whole number of at least 0, not"):
            check("lora_repro.data.DataConfig", {"shots": value}, "x")
    check("lora_repro.data.DataConfig", {"shots": 0}, "x")
    with pytest.raises(UserError, match=r"x\.shot is not a setting of DataConfig; did you mean shots\?"):
        check("lora_repro.data.DataConfig", {"shot": 0}, "x")
    assert str(Range(0, 1, above=True, below=True)) == " above 0 and below 1"


@pytest.mark.parametrize(
    "text, refused",
    [("a\x1b[2J", True), ("a\ud800", True), ("https://me:word@host/x", True), ("a\nb\té", False)],
)
def test_a_text_that_must_not_be_recorded_is_refused(text: str, refused: bool) -> None:
    config = resolved(compose(["profile=smoke"]))
    config["backbone"]["label"] = text
    with pytest.raises(UserError, match=r"backbone\.label") if refused else nullcontext():
        check_root(config)
