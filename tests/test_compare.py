"""`lora-repro compare`: what it refuses, what it writes, how it fits a budget, and one comparison from files to answer."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from conftest import refused, started_here
from own_models import own_model
from test_own_data import REVIEWS, objects, write_csv, write_lines

from lora_repro import api, console
from lora_repro.commands import compare as command
from lora_repro.commands.compare import requested
from lora_repro.compare import budget, lengths
from lora_repro.compare.compare import compare, said_if_changed
from lora_repro.compare.declare import declare, factors
from lora_repro.compare.request import LABELS, METHODS, TEXTS, Request
from lora_repro.config import paths
from lora_repro.config.compose import compose
from lora_repro.costs.plan import Line
from lora_repro.planning.cells import cells
from lora_repro.records import rates
from lora_repro.sweep import supervise

SMOKE = ("profile=smoke", "task.held_out=10", "data.n_train=null", "data.n_dev=null", "data.n_test=null")
TEXT = [(f"name : Inn {n}", f"Inn {n} serves food.") for n in range(40)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "train.csv", REVIEWS, "text", "label")
    write_lines(tmp_path / "texts.jsonl", objects(TEXT, "prompt", "completion"))
    (tmp_path / "s.py").write_text("def f(output, expected):\n    return 1.0\n")
    return tmp_path


def asked(*words: str, train: str = "train.csv", model: str = "random_bert") -> Request:
    return requested(["--model", model, "--train", train, *words, *SMOKE])[0]


def dry(*words: str, **named: str) -> Callable[[], object]:
    """A comparison that is only planned: all of its checks, and no training."""
    return lambda: compare(asked(*words, **named), dry_run=True)


WORDS: dict[str, tuple[Sequence[str], tuple[str, ...]]] = {
    "an unknown method": (["--methods", "lora,loraa"], ("loraa", "did you mean lora?")),
    "human texts are no method": (["--methods", "lora,human"], ("human",)),
    "an empty method": (["--methods", "lora,,full"], ("--methods",)),
    "a rank of 0": (["--ranks", "0,8"], ("--ranks",)),
    "a rank in words": (["--ranks", "eight"], ("--ranks",)),
    "ranks without a method that has one": (["--methods", "full,bitfit", "--ranks", "1,2"], ("--ranks",)),
    "targets without a method that has them": (["--methods", "full,bitfit", "--targets", "query"], ("--targets",)),
    "no such target": (["--methods", "full,lora", "--targets", "queries"], ("queries",)),
    "no seeds": (["--seeds", "0"], ("--seeds",)),
    "half a seed": (["--seeds", "1.5"], ("--seeds",)),
    "a budget without a unit": (["--budget", "2"], ("--budget", "30m")),
    "a budget of nothing": (["--budget", "0h"], ("--budget",)),
    "a budget that fits nothing": (["--budget", "1s"], ("--budget",)),
    "a column that is not there": (["--columns", "label=stars"], ("stars", "train.csv")),
    "a role that is none": (["--columns", "answer=label"], ("answer", "label")),
    "a column without a role": (["--columns", "label"], ("--columns",)),
    "a word that sets nothing": (["fast"], ("'fast'", "KEY=VALUE")),
    "an option that is none": (["--model-name=x"], ("--model-name",)),
    "another experiment": (["experiment=e2e"], ("experiment=e2e",)),
    "a seed of one's own": (["seed=3"], ("seed=3", "--seeds")),
    "another folder for runs": (["paths.runs=x"], ("paths.runs=x",)),
    "a setting that is none": (["train.epoch=3"], ("epoch",)),
    "a rate that is no number": (["train.warmup=slow"], ("warmup",)),
    "a metric that is none": (["--metric", "f2"], ("f2",)),
    "no such model": (["--model", "./nowhere"], ("nowhere",)),
    "no such training file": (["--train", "none.csv"], ("none.csv",)),
    "no such test file": (["--test", "none.csv"], ("none.csv",)),
    "a file of another kind": (["--train", "train.xlsx"], ("train.xlsx",)),
    "a score whose file is not trusted": (
        ["--train", "texts.jsonl", "--model", "random_gpt2", "--function", "s.py:f"],
        ("--trust s.py",),
    ),
    "an encoder for texts": (["--train", "texts.jsonl"], ("random_bert", "encoder")),
}  # fmt: skip


@pytest.mark.parametrize("name", WORDS)
def test_what_cannot_be_meant_is_one_line_before_anything_trains(name: str, folder: Path) -> None:
    words, parts = WORDS[name]
    refused(dry(*words), *parts)
    assert not (folder / "compare-train" / "runs").exists()


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.csv")
    refused(dry(train="pipe.csv"), "pipe.csv", "pipe")


@pytest.mark.parametrize("code", ["raise SystemError('x')", "raise SystemExit(0)", "1 / 0", "import nothing_such"])
def test_a_score_s_file_that_fails_is_one_line(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "s.py").write_text(code)
    monkeypatch.setenv(paths.TRUSTED, "s.py")
    refused(dry("--function", "s.py:f", train="texts.jsonl", model="random_gpt2"), "s.py cannot be run")


def test_it_writes_an_experiment_that_every_command_takes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = asked(
        "--methods",
        "full,lora,dora,linear_probe",
        "--ranks",
        "1,4",
        "--targets",
        "query",
        "--targets",
        "query,value",
        "--seeds",
        "2",
    )
    declare(request)
    monkeypatch.setenv(paths.OWN, str(request.configs))
    runs = cells([f"row/{request.name}=glob(*)", f"experiment={request.name}", *SMOKE])
    names = list(dict.fromkeys(cell.row.name for cell in sorted(runs, key=lambda cell: cell.row.order)))
    variants = [f"r{rank}_{those}" for rank in (1, 4) for those in ("query", "query_value")]
    assert names == [
        "full",
        *(f"{name}_{one}" for name in ("lora", "dora") for one in variants),
        "linear_probe",
    ]
    assert len(runs) == 2 * len(names)
    (one,) = (cell for cell in runs if cell.row.name == "lora_r4_query" and not cell.seed)
    method = one.asked["method"]
    assert (method["rank"], list(method["targets"]), one.row.label) == (4, ["query"], "lora, rank 4, query")
    assert one.guess == pytest.approx(one.asked["train"]["lr"]) and one.row.paper == {}
    assert one.folder.is_relative_to(folder / "compare-train" / "runs")
    before = [path.stat().st_mtime_ns for path in sorted(request.configs.rglob("*.yaml"))]
    declare(request)
    assert before == [path.stat().st_mtime_ns for path in sorted(request.configs.rglob("*.yaml"))]


def test_a_first_guess_is_full_s_times_the_measured_factor(folder: Path) -> None:
    guesses = declare(asked("--methods", "full,lora,bitfit,segments"))
    assert factors("glue", "lora") and guesses["lora"].searches == len(factors("glue", "lora"))
    assert guesses["lora"].rate == pytest.approx(guesses["full"].rate * (guesses["lora"].factor or 0))
    assert guesses["segments"].factor is None and guesses["segments"].rate > 0  # no table has it


def test_every_default_method_is_there() -> None:
    for family, file in ((LABELS, "a"), (TEXTS, "b")):
        assert METHODS[family], file
        compose([f"task={family}", "profile=smoke"])


def plan(folder: Path, seconds: dict[str, float], seeds: int = 3, rows: int = 8000) -> budget.Plan:
    """A plan whose runs and trials take so many seconds, on so many training rows."""
    write_csv(
        folder / "train.csv",
        [(f"text {n} of them", "good" if n % 2 else "bad") for n in range(rows)],
        "text",
        "label",
    )
    words = [
        "--model",
        "random_bert",
        "--train",
        "train.csv",
        "--methods",
        ",".join(seconds),
        "--seeds",
        str(seeds),
    ]
    request = requested([*words, "profile=smoke", "task.held_out=10", "task.max_train=null"])[0]
    declare(request)
    lines: list[Line] = []
    full_plan = budget.Plan(request, tuple(lines), 7)
    costs = [budget.Cost(name, value, value, value) for name, value in seconds.items()]
    object.__setattr__(full_plan, "_costs", costs)
    return full_plan


@pytest.mark.parametrize(
    "seconds, seeds, share, methods",
    [
        (21000.0, 3, 1.0, 3),  # (4 + 3) x 3,000: all of it
        (18000.0, 2, 1.0, 3),  # a seed fewer
        (9000.0, 2, 0.5, 3),  # and half of the rows
        (6300.0, 2, 0.35, 3),  # or as many as fit
        (650.0, 2, 0.65 / 6, 2),  # and without the dearest method that is neither full fine-tuning nor LoRA
    ],
)
def test_a_budget_gives_up_seeds_then_rows_then_methods(
    seconds: float, seeds: int, share: float, methods: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_plan = plan(folder, {"full": 500.0, "lora": 500.0, "adapter_h": 2000.0})
    monkeypatch.setattr(budget.Plan, "costs", property(lambda self: self._costs))
    short_plan = budget.fit(full_plan, seconds / budget.ROOM)
    cut = [item for item in short_plan.request.overrides if item.startswith("task.max_train=")][1:]
    train = len(full_plan.request.data.parts.train)
    assert short_plan.request.seeds == seeds
    assert bool(cut) == (share < 1)
    assert len(short_plan.request.data.parts.train) == pytest.approx(share * train, abs=2)
    assert len(short_plan.request.variants) == methods and {"full", "lora"} <= {
        one.name for one in short_plan.request.variants
    }
    assert len(short_plan.given_up) >= (seeds < 3) + (share < 1) + (methods < 3)
    assert 3 <= short_plan.most <= 7


def test_what_a_budget_gave_up_is_kept_for_the_same_request_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an interruption less is left to do, so that more would fit: other rows would be other runs, and nothing resumed."""
    full_plan = plan(folder, {"full": 500.0, "lora": 500.0, "adapter_h": 2000.0})
    monkeypatch.setattr(budget.Plan, "costs", property(lambda self: self._costs))
    request = full_plan.request.shorter(seconds=9000.0)
    short_plan = budget.fit(full_plan, 9000.0)
    budget.keep(short_plan, request)
    again = budget.decided_before(replace(full_plan, request=request))
    assert again is not None and (again.request.seeds, again.request.overrides, again.most, again.given_up) == (
        2, short_plan.request.overrides, short_plan.most, short_plan.given_up)  # fmt: skip
    for other in (request.shorter(seconds=8000.0), request.shorter(seeds=4), request.shorter(ranks=(8,))):
        assert budget.decided_before(replace(full_plan, request=other)) is None
    (request.folder / budget.FILE).write_text("{", encoding="utf-8")
    assert budget.decided_before(replace(full_plan, request=request)) is None


def test_fewer_rows_save_no_answering() -> None:
    rows = [budget.Cost("lora", trial=10, run=20, training=12)]
    assert budget.total(rows, seeds=2) == 4 * 10 + 2 * 20
    assert budget.total(rows, seeds=2, share=0.5) == 4 * 5 + 2 * (6 + 8)


def test_seeds_that_fit_are_counted_by_the_trials_times(folder: Path) -> None:
    request = asked("--seeds", "5", "--methods", "full,lora")
    rows = [budget.Cost("full", 0, 10), budget.Cost("lora", 0, 20)]
    assert [budget.seeds_that_fit(request, rows, left) for left in (-5, 30, 95, 10**6)] == [1, 1, 3, 5]


def test_a_comparison_from_files_to_answer(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(paths.OWN, raising=False)
    monkeypatch.setattr(rates, "_view", None)  # the rates that it searches itself
    monkeypatch.setattr(supervise, "start", started_here)  # tests/test_docs.py has one whose runs are processes of their own
    write_csv(folder / "test.csv", REVIEWS[:20], "text", "label")
    words = [
        "--methods",
        "lora,linear_probe",
        "--seeds",
        "2",
        "--test",
        "test.csv",
        "tune.most=3",
        "train.epochs=1",
        "launch.together=1",
    ]
    variables = [console.MARK, console.TOGETHER, console.VARIABLE, "OMP_NUM_THREADS", "TQDM_DISABLE"]
    environment = [*map(os.environ.get, variables)]
    leftovers = [folder / "compare-train" / name for name in (".comparison.json.{}.tmp", "conf/row/.compare_train.yaml.{}.tmp")]
    for path, process in itertools.product(leftovers, (2**22 + 1, os.getppid())):  # no process has a number above 2^22
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(path.name.format(process)).touch()
    answer = compare(asked(*words))
    assert sorted(path.name.split(".")[-2] for path in (folder / "compare-train").rglob(".*.tmp")) == 2 * [str(os.getppid())]
    assert [*map(os.environ.get, variables)] == environment  # what silences its runs must not silence those that follow
    output = capsys.readouterr().out
    assert answer is not None and [row.name for row in answer.rows] == ["lora", "linear_probe"]
    assert "test rows also stand in train" in output and "LEAK" in output
    assert paths.own() == ""
    place = folder / "compare-train"
    summary = json.loads((place / "comparison.json").read_text(encoding="utf-8"))
    assert [row["row"] for row in summary["rows"]] == ["lora", "linear_probe"] and all(
        row["n"] == 2 for row in summary["rows"]
    )
    assert summary["advice"] and all(line in output for line in summary["advice"])
    assert summary["data"]["test_rows"] == 8  # task.max_test at smoke
    if answer.best.name == "lora":  # peft has no linear probe
        assert "## Comparison" in (place / "best" / "README.md").read_text(encoding="utf-8")
        assert (place / "best" / "adapter_config.json").is_file()
    text = "".join(path.read_text(encoding="utf-8") for path in place.glob("comparison.*"))
    assert "It was" not in text and "dish" not in text
    for path in place.rglob("predictions.jsonl"):
        assert "It was" not in path.read_text(encoding="utf-8")

    # Again: nothing is trained, the same answer. Another file: said, and run anew.
    times = {path: path.stat().st_mtime_ns for path in place.rglob("record.json")}
    again = api.compare("random_bert", "train.csv", "test.csv", methods=["lora", "linear_probe"], seeds=2,
                        settings=[*SMOKE, "tune.most=3", "train.epochs=1", "launch.together=1"])  # fmt: skip
    assert {path: path.stat().st_mtime_ns for path in place.rglob("record.json")} == times
    assert list(again["accuracy"]) == pytest.approx([row.mean.mean for row in answer.rows])
    capsys.readouterr()
    write_csv(folder / "train.csv", REVIEWS[::-1], "text", "label")
    said_if_changed(asked(*words))
    assert "train file has changed" in capsys.readouterr().err


def test_a_rate_that_was_just_searched_is_found_in_the_same_process(monkeypatch: pytest.MonkeyPatch) -> None:
    before = rates.view()
    rates.changed()
    assert rates.view() != before


def test_dry_run_trains_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        command.main(
            ["--model", "random_gpt2", "--train", "texts.jsonl", "--dry-run", "--seeds", "2", "profile=smoke"]
        )
        == 0
    )
    output = capsys.readouterr().out
    assert "untuned, full" in output and "5 methods with 2 seeds, 10 runs" in output
    assert not (folder / "compare-texts" / "runs").exists()
    assert partial(command.main, ["--model", "random_gpt2"])() == 2


def test_it_says_which_rows_are_cut_and_which_answers_no_output_reaches(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    long_prompt = ("name : Inn " + "and bar " * 9, "It serves.")
    write_lines(folder / "texts.jsonl", objects([*TEXT[:7], long_prompt], "prompt", "completion"))
    second_reference = (TEXT[0][0], "It serves. " * 9)  # the shortest one counts
    tested = [*TEXT[:4], ("name : Inn", "It serves food, and " * 3), long_prompt, second_reference]
    write_lines(folder / "test.jsonl", objects(tested, "prompt", "completion"))
    words = ("--test", "test.jsonl", "data.max_length=80", "task.max_train=null", "task.max_test=null")
    dry(*words, "decode.max_new_tokens=30", train="texts.jsonl", model="random_gpt2")()
    output = capsys.readouterr().out
    assert "1 of 8 training and dev rows exceed data.max_length=80" in output
    assert "1 of 6 test inputs with the 30 tokens of an answer exceed data.max_length=80" in output
    assert "1 of 6 test answers have more than decode.max_new_tokens=30" in output and "60" in output
    dry(*words, "decode.max_new_tokens=70", "data.max_length=200", train="texts.jsonl", model="random_gpt2")()
    output = capsys.readouterr().out
    assert "data.max_length" not in output and "max_new_tokens" not in output
    monkeypatch.setattr(lengths, "TOKENISED", 20)
    dry("data.max_length=16")()
    assert re.search(r"\d+ of a sample of 20 training and dev rows exceed data.max_length=16 and", capsys.readouterr().out)


def test_a_model_that_could_not_answer_is_refused_before_its_rates_are_searched(folder: Path) -> None:
    own_model(folder / "gemma", "gemma3_text", sliding_window=16)
    refused(dry(train="texts.jsonl", model="./gemma"), "16 positions", "window")


@pytest.mark.parametrize("to, name", [
    ("glue", "compare_glue"),  # a table of the suite
    ("own_labels", "compare_own_labels"),  # a task of it
    ("compare-train", "compare_train"),
    ("compare", "compare"),
    ("отзывы", None),
])  # fmt: skip
def test_a_comparison_s_name_is_none_of_the_suite_s_and_hydra_reads_it(
    to: str, name: str | None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = asked("--to", to, "--methods", "lora,linear_probe", "--seeds", "1")
    assert request.name == (name or request.name) and request.name.isascii()
    assert request.name != asked("--to", "данные").name
    compare(request, dry_run=True)
    assert "lora, linear_probe: 2 methods" in capsys.readouterr().out


def test_numbers_are_compared_at_given_rates_even_where_a_model_gives_a_constant(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A correlation with equal numbers is undefined, so it counts as the worst."""
    write_csv(folder / "numbers.csv", [(f"text {n}", str(n / 7)) for n in range(30)], "text", "score")
    write_csv(folder / "test.csv", [(f"more {n}", "1.5") for n in range(6)], "text", "score")
    words = ("--methods", "lora,linear_probe", "--seeds", "1", "--test", "test.csv")
    answer = compare(asked(*words, "train.lr=1e-9", train="numbers.csv"))
    assert answer is not None and answer.constant == 0.0 and {row.mean.mean for row in answer.rows} == {0.0}
    summary = json.loads((folder / "compare-numbers" / "comparison.json").read_text(encoding="utf-8"))
    assert summary["constant"] == 0.0
    assert "no rate is to be chosen" in capsys.readouterr().out
