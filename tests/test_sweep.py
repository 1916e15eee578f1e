"""What a sweep asks for, what became of it, and the launchers at work: a killed run, a requeued one."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from conftest import started_here

from lora_repro import bisection, console
from lora_repro.commands import run
from lora_repro.config.compose import compose, resolved
from lora_repro.errors import Busy, UserError
from lora_repro.files import sealed, write_json
from lora_repro.planning.cells import Cell, Row, cell_of
from lora_repro.planning.cells import cells as listed
from lora_repro.records import attempts, rates, record
from lora_repro.run import run as one_run
from lora_repro.sweep import launch as sweep
from lora_repro.sweep import parallel, preflight, ray_launcher, supervise

ROOT = Path(__file__).resolve().parents[1]


def installed(plugin: str) -> bool:
    return importlib.util.find_spec("hydra_plugins") is not None and importlib.util.find_spec(plugin) is not None


def needs(plugin: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not installed(f"hydra_plugins.{plugin}"), reason=f"{plugin} is not installed: .[sweeps]")


GRID = ["-m", "profile=smoke", "task=sentiment", "method=lora,bitfit", "seed=0,1"]


def test_a_grid_is_listed_in_the_order_of_its_jobs(tmp_path: Path) -> None:
    cells = listed([*GRID, f"paths.runs={tmp_path}"])
    assert [(cell.row.name, cell.task, cell.seed) for cell in cells] == [
        ("lora", "sentiment", 0),
        ("bitfit", "sentiment", 0),  # seeds are the outer axis: the profile names them first
        ("lora", "sentiment", 1),
        ("bitfit", "sentiment", 1),
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-m", "method=lora,full"], True),
        (["experiment=e2e"], True),
        (["method=lora"], False),
        (["experiment=e2e", "hydra.mode=RUN"], False),
        (["experiment=e2e", "--cfg"], False),
    ],
)
def test_which_command_lines_are_sweeps(arguments: list[str], expected: bool) -> None:
    overrides = [item for item in arguments if not item.startswith("-") and "," not in item]
    assert sweep.wants_sweep(arguments, compose(overrides, hydra_node=True).hydra) is expected


def test_what_the_starts_need_is_looked_at_before_the_first_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AdapterFusion on one task starts from adapters of others: hours would pass before the first of them is missed."""

    def check(missing: list[dict[str, Any]]) -> None:
        raise UserError(" ".join(sorted({config["task"]["name"] for config in missing})))

    monkeypatch.setattr(sweep.preflight, "check", check)
    arguments = ["experiment=fusion", "profile=smoke", "row/fusion=fusion", "task=sentiment", "seed=0", f"paths.runs={tmp_path}"]
    with pytest.raises(UserError, match=r"entailment .*sentiment"):
        sweep.sweep(arguments, compose(arguments, hydra_node=True).hydra)


def test_a_row_without_a_model_hides_no_missing_backbone() -> None:
    missing = ["profile=smoke", "task=e2e", "backbone=smollm2_135m", "backbone.source=folder", "backbone.hub_id=/nowhere"]
    configs = [resolved(compose([*missing, f"method={name}"])) for name in ("human", "lora")]
    preflight.check(configs[:1])
    with pytest.raises(UserError, match="there is no folder /nowhere"):
        preflight.check(configs)


def test_the_table_says_what_became_of_each_run(tmp_path: Path) -> None:
    overrides = ["profile=smoke", "task=sentiment", f"paths.runs={tmp_path}"]
    config = compose(overrides)
    run_cell = cell_of(config, overrides)
    one_run.run(config)
    attempts.note(run_cell.folder, -9, "was killed by SIGKILL")

    def cell(name: str) -> Cell:
        return replace(run_cell, row=Row(name, name, 1, 1, True, {}, {}), folder=tmp_path / name)

    attempts.note(tmp_path / "wrong", 2, "rank 99 exceeds 32")
    attempts.note(tmp_path / "killed", -9, "was killed by SIGKILL")
    attempts.note(tmp_path / "killed", -9, "was killed by SIGKILL")
    attempts.note(tmp_path / "stopped", 75, "stopped at step 3 of 9")
    attempts.note(tmp_path / "interrupted", 130, "stopped at step 3 of 9")  # by Ctrl-C
    assert (sweep.Status.of(cell("interrupted")).status, sweep.Status.of(cell("interrupted")).code) == ("stopped", 130)
    attempts.note(tmp_path / "crashed", 255, "crashed with exit code 255")
    assert sweep.Status.of(cell("crashed")).code == 1  # of a sweep no status that is not documented
    with record.lock(tmp_path / "running"):
        cells = [cell(name) for name in ("wrong", "killed", "stopped", "running", "missing")]
        statuses = [sweep.Status.of(job) for job in [*cells, run_cell]]
    assert [(s.status, s.code, s.attempts) for s in statuses] == [
        ("failed", 2, 1),
        ("failed", 1, 2),
        ("stopped", 75, 1),
        ("running", 75, 1),
        ("not started", 1, 0),
        (statuses[-1].status, 0, 2),
    ]
    assert sweep.exit_code(statuses) == 2 and sweep.exit_code(statuses[2:4]) == 75 and sweep.exit_code(statuses[-1:]) == 0
    assert sweep.exit_code([statuses[3], statuses[1]]) == 1  # to come back later would not mend it
    lines = sweep.table(statuses).splitlines()
    assert lines[0] == "1 of 6 runs are done"
    assert lines[2].split()[:5] == ["lora", "sentiment", "0", statuses[-1].status, "accuracy"]
    assert lines[3].endswith("rank 99 exceeds 32") and lines[4].endswith("2         was killed by SIGKILL")


def test_a_record_that_was_refused_or_whose_files_are_damaged_is_no_run_that_is_done(tmp_path: Path) -> None:
    """What refuses to repeat a run, or fails at repeating it, must not find it done when it ends."""
    overrides = ["profile=smoke", "task=sentiment", f"paths.runs={tmp_path}"]
    run_cell = cell_of(compose(overrides), overrides)
    one_run.run(compose(overrides))
    assert sweep.Status.of(run_cell).code == 0
    variant = replace(run_cell, asked={**run_cell.asked, "train": {**run_cell.asked["train"], "weight_decay": 0.5}})
    refusal = sweep.Status.of(variant)
    assert (refusal.status, refusal.code) == ("failed", 2) and "train.weight_decay" in refusal.why
    assert bisection.recorded(variant) is None and bisection.recorded(run_cell) is not None
    (run_cell.folder / "predictions.jsonl").write_text("{}\n")
    attempts.note(run_cell.folder, -9, "was killed by SIGKILL")
    failure = sweep.Status.of(run_cell)
    assert (failure.status, failure.code, failure.why) == ("failed", 1, "was killed by SIGKILL")


def test_a_run_that_another_sweep_ends_while_one_looks_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No record, then no lock: it was written in between, and the run is not missing (met by torture)."""
    overrides = ["profile=smoke", "task=sentiment", f"paths.runs={tmp_path}"]
    run_cell = cell_of(compose(overrides), overrides)
    one_run.run(compose(overrides))
    find, lookups = record.find, []

    def late(folder: Path, *asked: Any) -> dict[str, Any] | None:
        lookups.append(folder)
        return find(folder, *asked) if len(lookups) > 1 else None

    monkeypatch.setattr(sweep.record, "find", late)
    assert (run_cell.folder / "lock").exists()
    assert sweep.Status.of(run_cell).code == 0 and len(lookups) == 2


@pytest.mark.parametrize(("kind", "tries", "code"), [(EOFError, 2, 0), (BrokenPipeError, 2, 0), (EOFError, 1, 255)])
def test_a_server_killed_before_it_forked_is_a_crash_of_the_run(
    kind: type[Exception],
    tries: int,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Met by torture: what forks a sweep's runs dies while a run is asked of it, which was a traceback of Python's."""
    starts = []

    class Process:
        pid, sentinel, exitcode = None, None, 0

        def __init__(self, target: object, args: object) -> None: ...

        def start(self) -> None:
            starts.append(1)
            if len(starts) == 1:
                raise kind("unexpected EOF")

    context = SimpleNamespace(Process=Process, set_forkserver_preload=lambda names: None)
    monkeypatch.setattr(supervise.multiprocessing, "get_context", lambda name: context)
    assert supervise.start("lora_repro.run", [], tmp_path, tries) == code
    assert attempts.attempts(tmp_path)["attempts"] == 1 and len(starts) == tries
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """A sweep in this process whose runs are in this process, too; unless the test replaces `supervise.start`."""

    def command(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["run", *arguments, f"paths.runs={tmp_path}"])
        with pytest.raises(SystemExit) as left:
            run.main()
        return int(left.value.code or 0)

    monkeypatch.setattr(supervise, "start", started_here)
    monkeypatch.setattr(parallel, "at_once", lambda missing: 1)
    monkeypatch.setattr(supervise, "_signals", [])
    monkeypatch.delenv(console.MARK, raising=False)
    yield command  # type: ignore[misc]
    os.environ.pop(console.MARK, None)


def test_a_sweep_composes_and_repeats_only_what_has_no_record_and_ends_with_its_table(
    command_line: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It took half a second for each recorded run of a table."""
    jobs: list[str] = []
    job = sweep.job

    def counted(config: Any) -> None:
        jobs.append(f"{config.method.name} {config.seed}")
        job(config)

    monkeypatch.setattr(sweep._launch, "__defaults__", (1, counted))
    assert command_line(*GRID) == 0 and len(jobs) == 4
    output = capsys.readouterr().out
    assert "4 of 4 runs are done" in output and output.count("sentiment") == 4
    (again,) = [cell for cell in listed([*GRID, f"paths.runs={tmp_path}"]) if (cell.row.name, cell.seed) == ("bitfit", 1)]
    (again.folder / "record.json").unlink()
    jobs.clear()
    assert command_line(*GRID) == 0 and jobs == ["bitfit 1"]
    output = capsys.readouterr().out
    assert output.count("already recorded") == 3 and "4 of 4 runs are done" in output
    monkeypatch.setattr(sweep, "hydra_program", lambda job: pytest.fail("Hydra composed what is recorded"))
    monkeypatch.setattr(supervise, "start", lambda *a: pytest.fail("started again"))
    assert command_line(*GRID) == 0
    output = capsys.readouterr().out
    assert output.count("already recorded") == 4 and output.count("sentiment") == 8  # a line when it is met, and the table's


def test_a_search_that_ends_meanwhile_changes_no_run_of_a_sweep(
    command_line: Callable[..., int], unsearched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The runs that were left trained at the new rate, and their table called them "not started"."""
    monkeypatch.setattr(rates, "_view", None)  # own searches count
    row = ["experiment=e2e", "row/e2e=lora", "profile=smoke", "seed=0,1"]
    planned = listed([*row, f"paths.runs={tmp_path}"])
    trials = rates.own_path(tmp_path, "smoke", planned[0].setting)

    def start(*asked: Any) -> int:
        code = started_here(*asked)
        search = {"length": 1.0, "chosen": 0.007, "edge": None, "trials": [{"lr": 0.007, "dev_loss": 1.0}]}
        write_json(trials, sealed(rates.trials_of({"schema": record.SCHEMA}, [search])))  # by another process
        return code

    monkeypatch.setattr(supervise, "start", start)
    assert command_line(*row) == 0 and "2 of 2 runs are done" in capsys.readouterr().out
    assert all((cell.folder / "record.json").is_file() for cell in planned)
    assert {cell_of(compose(list(cell.overrides)), cell.overrides).asked["train"]["lr"] for cell in planned} == {0.007}


def test_a_sweep_is_narrowed_to_the_values_that_are_left() -> None:
    cells = listed([*GRID, "data.n_train=4,8"])
    left = [cell for cell in cells if "data.n_train=8" in cell.overrides and "method=lora" in cell.overrides]
    assert sweep.narrowed(cells, left) == ["method=lora", "data.n_train=8"]
    assert sweep.narrowed(cells, cells) == []


def test_options_may_stand_between_settings(command_line: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line("task=sentiment", "-m", "profile=smoke", "method=bitfit") == 0
    assert "1 of 1 runs are done" in capsys.readouterr().out
    assert command_line("task=sentiment", "--cfg", "job", "profile=smoke") == 0
    output = capsys.readouterr()
    assert "profile_name: smoke" in output.out and not output.err


def test_a_table_s_row_without_a_size_is_met_once(
    command_line: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """At two sizes it is one run: a second process at its side would be told that another has it."""
    arguments = ("experiment=params_vs_quality", "row/params_vs_quality=bitfit", "profile=smoke")
    for again in (0, 1):
        assert command_line(*arguments) == 0
        output = capsys.readouterr().out
        assert "1 of 1 runs are done" in output and output.count("already recorded") == again


def test_a_missing_run_is_a_non_zero_exit_and_the_others_are_kept(
    command_line: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line("-m", "profile=smoke", "task=sentiment", "method.rank=2,99") == 2
    output = capsys.readouterr().out
    assert "1 of 2 runs are done" in output and "rank 99 exceeds" in output


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["experiment=glue", "row/glue=lora", "profile=laptop"], "error: RTE of GLUE is not here: run lora-repro"),
        (["experiment=e2e", "row/e2e=lora", "profile=laptop"], "error: E2E is not here: run lora-repro fetch e2e"),
        (["experiment=glue", "row/glue=lora", "profile=laptop", "paths.data=/nowhere"], "error: no folder /nowhere/RTE"),
        (["-m", "profile=smoke", "task=sentiment", "backbone=random_bert,deberta_v2_xxlarge"], "backbone.revision=COMMIT"),
    ],
)
def test_what_every_run_would_miss_is_one_line_before_the_first(
    command_line: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(supervise, "start", lambda *a: pytest.fail("a run was started"))
    assert command_line(*arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error


def test_a_stopped_sweep_starts_nothing_more_and_says_come_back(
    command_line: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[Path] = []

    def start(module: str, overrides: list[str], folder: Path, *rest: int) -> int:
        starts.append(folder)
        os.kill(os.getpid(), signal.SIGTERM)
        attempts.note(folder, 75, "stopped at step 1 of 4")
        return 75

    monkeypatch.setattr(supervise, "start", start)
    assert command_line(*GRID) == 75 and len(starts) == 1
    output = capsys.readouterr().out
    assert "0 of 4 runs are done" in output and "stopped at step 1 of 4" in output and output.count("not started") == 3


SEARCH = ("-m", "hydra/sweeper=learning_rate", "profile=smoke", "method=lora", "task=sentiment")
# Optuna 2, which the sweeper pins, uses what newer packages deprecate.
OPTUNA_2 = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@needs("hydra_optuna_sweeper")
@OPTUNA_2
def test_optuna_finds_the_rate_with_the_best_dev_rows_and_a_second_search_trains_nothing(
    command_line: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (*SEARCH, "train.select_by=loss", "hydra.sweeper.n_trials=3")
    assert command_line(*arguments) == 0
    records = [json.loads(path.read_text()) for path in tmp_path.glob("smoke/*/record.json")]
    rates = {one["asked"]["train"]["lr"]: one["measured"]["dev_loss"] for one in records}
    assert len(rates) == 3 and all(1e-4 <= lr <= 3e-2 for lr in rates)
    best = min(rates, key=rates.__getitem__)
    assert f"best: train.lr={best:.4g}  dev loss {rates[best]:.4g}\n" in capsys.readouterr().out
    monkeypatch.setattr(supervise, "start", lambda *a: pytest.fail("a run was started again"))
    assert command_line(*arguments) == 0


@needs("hydra_optuna_sweeper")
@OPTUNA_2
def test_a_failed_run_does_not_end_a_search_and_a_search_of_failed_runs_is_one_line(
    command_line: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inner: Any = supervise.start
    codes = iter([-9, 0, 1, 1])
    monkeypatch.setattr(supervise, "start", lambda *a: next(codes) or inner(*a))
    assert command_line(*SEARCH, "hydra.sweeper.n_trials=2") == 0
    assert capsys.readouterr().out.count("best: ") == 1
    assert command_line(*SEARCH, "hydra.sweeper.n_trials=2", "seed=1") == UserError.exit_code
    assert "every run of the search failed" in capsys.readouterr().err.splitlines()[-1]


@needs("hydra_optuna_sweeper")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["experiment=glue", "row/glue=lora"], "experiment="), (["task.held_out=0"], "task.held_out=0")],
)
def test_a_search_that_would_read_a_table_or_choose_on_reported_rows_is_refused(
    command_line: Callable[..., int], capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert command_line(*SEARCH, *arguments) == 2
    error = capsys.readouterr().err.strip()
    assert said in error and "\n" not in error


def test_torchrun_takes_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"launch\.processes"):
        sweep.sweep(["-m"], compose(["profile=smoke"], hydra_node=True).hydra)


def test_cores_are_shared_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    for threads, jobs, expected in ((None, 3, "2"), (None, 99, "1"), ("5", 2, "5")):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if threads:
            monkeypatch.setenv("OMP_NUM_THREADS", threads)
        sweep.share_cores(jobs)
        assert os.environ["OMP_NUM_THREADS"] == expected


class Ray(ModuleType):
    """What the launcher uses of Ray, in this process: a task is done when it is waited for. `dies`: a job -> how often."""

    def __init__(self, **dies: int) -> None:
        super().__init__("ray")
        names = "TaskCancelledError WorkerCrashedError NodeDiedError OutOfMemoryError RayTaskError".split()
        error = type("RayError", (Exception,), {})
        self.exceptions = SimpleNamespace(RayError=error, **{name: type(name, (error,), {}) for name in names})
        self.dies, self.begun, self.most, self.patience = dies, {}, 0, []
        self.cancelled: list[Any] = []
        self.tasks: dict[int, Any] = {}

    def is_initialized(self) -> bool:
        return bool(self.begun)

    def init(self, **given: Any) -> None:
        self.begun = given

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def remote(self, **asked: Any) -> Callable[[Any], Any]:
        self.asked = asked
        return lambda work: SimpleNamespace(remote=lambda *job, **given: self.put(work, job, given))

    def put(self, *task: Any) -> int:
        self.tasks[len(self.patience) + len(self.tasks)] = task
        self.most = max(self.most, len(self.tasks))
        return max(self.tasks)

    def wait(self, tasks: list[int], num_returns: int = 1, timeout: float | None = None) -> tuple[list[int], list[int]]:
        return tasks[:num_returns], tasks[num_returns:]

    def cancel(self, task: int) -> None:
        self.cancelled.append(task)

    def get(self, task: int) -> Any:
        work, (job,), options = self.tasks.pop(task)
        self.patience.append(options["again"])
        if task in self.cancelled:
            raise self.exceptions.TaskCancelledError
        name = next(item.partition("=")[2] for item in job[1] if item.startswith("method="))
        if self.dies.get(name, 0) > 0:
            self.dies[name] -= 1
            raise self.exceptions.WorkerCrashedError
        return work(job, **options)


@pytest.fixture
def on_ray(command_line: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """A sweep on that Ray."""
    for name in ("HYDRA_FULL_ERROR", *ray_launcher.OFF, "TQDM_DISABLE", supervise.APART):
        monkeypatch.setenv(name, "1")

    def command(ray: Any, *arguments: str) -> int:
        monkeypatch.setitem(sys.modules, "ray", ray)
        monkeypatch.setitem(sys.modules, "ray.exceptions", getattr(ray, "exceptions", None))
        return command_line(*GRID, "hydra/launcher=ray", *arguments)

    return command


def test_without_ray_its_launcher_is_one_line(on_ray: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert on_ray(None) == 3
    assert capsys.readouterr().err == "error: hydra/launcher=ray needs Ray: pip install -e '.[ray]'\n"


def test_jobs_are_tasks_of_a_ray_and_those_that_lose_their_worker_are_tried_again(
    on_ray: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    ray = Ray(bitfit=1)
    assert on_ray(ray, "hydra.launcher.num_cpus=2", "hydra.launcher.n_jobs=3") == 0
    output = capsys.readouterr()
    assert "4 of 4 runs are done" in output.out
    assert output.err.count("the Ray worker of job 1 was killed; trying again") == 1
    assert sorted(ray.patience) == [False] * 4 + [True]  # the second worker waits for what the first one left behind
    assert ray.asked == {"num_cpus": 2, "num_gpus": 0, "max_retries": 0} and ray.most == 3
    assert ray.begun["address"] == "local" and ray.begun["num_cpus"] >= 6


def test_a_job_that_every_worker_dies_of_is_given_up_and_the_others_are_kept(
    on_ray: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    ray = Ray(bitfit=99)
    assert on_ray(ray, "launch.tries=3", "hydra.launcher.address=auto", "hydra.launcher.num_gpus=0.5") == 1
    output = capsys.readouterr()
    assert "2 of 4 runs are done" in output.out and output.out.count("not started") == 2
    assert output.err.count("trying again") == 4 and output.err.count("giving up") == 2
    assert "error: a worker of this sweep was killed; run the same command again to resume" in output.err
    assert ray.begun == {"address": "auto", "logging_level": "ERROR"} and ray.asked["num_gpus"] == 0.5


def test_a_stopped_sweep_stops_its_tasks(
    on_ray: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = Ray()
    monkeypatch.setattr(supervise, "start", lambda *a: os.kill(os.getpid(), signal.SIGTERM))
    assert on_ray(ray, "hydra.launcher.n_jobs=2") == 75
    assert ray.cancelled and len(ray.patience) == 2  # of two at work one was told, and of two that waited none began
    assert "0 of 4 runs are done" in capsys.readouterr().out


def test_gpus_that_this_machine_has_not_are_one_line(
    on_ray: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert on_ray(Ray(), "hydra.launcher.num_gpus=1") == 2
    assert capsys.readouterr().err == "error: hydra.launcher.num_gpus=1, but Ray finds 0 GPUs on this machine\n"


@needs("hydra_submitit_launcher")
def test_the_slurm_example_composes_and_survives_its_time_limit() -> None:
    launcher = compose(["hydra/launcher=slurm", "hydra.launcher.account=nlp"], hydra_node=True).hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher") and launcher.account == "nlp" and launcher.max_num_timeout > 0


# The real launchers, with one small run that lasts long enough to be met in the middle.
LONG = ["profile=smoke", "task=sentiment", "train.epochs=15", "train.checkpoint_every=5"]
STEPS = 60
PATIENCE = 1800  # seconds; a busy machine is no failure


def at_work(cell: Cell) -> int:
    """Process id of the run that is at this cell."""
    return int(record.holder(cell.folder).split()[0])


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().partition("PPid:")[2].split()[0])


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str], seconds: float = PATIENCE) -> Any:
    """What `condition` gives once it is true; fails if the process ends before, or the time."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert process.poll() is None and time.monotonic() < deadline, "".join(process.communicate(timeout=60))
        time.sleep(0.01)
    return answer


# As every interpreter begins: a process that is forked writes down, at its end, the packages that it had to import from.
# What is registered for the end as it is forked, Python 3.13 drops before multiprocessing calls `begin`.
LATE = """
import atexit, os, pathlib, sys
from multiprocessing import util
before = set()
def begin(_):
    file = pathlib.Path(__file__).with_name(f"late-{os.getpid()}")
    late = lambda: {name.partition(".")[0] for name in set(sys.modules) - before}
    before and atexit.register(lambda: file.write_text(" ".join(late())))
os.register_at_fork(after_in_child=lambda: before.update(sys.modules))
util.register_after_fork(begin, begin)
"""


def launch(tmp_path: Path, *arguments: str, threads: str | None = None) -> subprocess.Popen[str]:
    (tmp_path / "sitecustomize.py").write_text(LATE)
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": threads} if threads else {}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "lora_repro.run", "-m", *LONG, *arguments, f"paths.runs={tmp_path}"]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def steps(folder: Path) -> list[int]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines if "train_loss" in line]


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to find the supervisor")


@needs("hydra_joblib_launcher")
def test_kill_9_costs_a_parallel_sweep_one_try_of_one_run(tmp_path: Path) -> None:
    process = launch(tmp_path, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "method=lora,bitfit")
    lora, other = listed([*LONG, "-m", "method=lora,bitfit", f"paths.runs={tmp_path}"])
    wait_for(lambda: list((lora.folder / "checkpoints").glob("step_*")), process)
    os.kill(at_work(lora), signal.SIGKILL)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "2 of 2 runs are done" in out and "was killed by SIGKILL; trying again" in err
    assert attempts.attempts(lora.folder)["attempts"] == 1 and attempts.attempts(other.folder)["attempts"] == 0
    assert steps(lora.folder) == list(range(1, STEPS + 1)) == steps(other.folder)
    run_record = record.read(lora.folder / "record.json")
    threads = int(run_record["where"]["device"].rsplit(" ", 2)[1])
    assert threads * 2 <= max(2, os.cpu_count() or 1)
    # Each try was forked from a server that had imported for it.
    late = set(" ".join(path.read_text() for path in tmp_path.glob("late-*")).split())
    assert "lora_repro" in late and not late & {"sklearn", "scipy", "pandas", "sympy", "accelerate", "safetensors"}, late


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed: .[ray]")
@needs_proc
def test_a_killed_worker_of_ray_costs_a_sweep_one_try_of_one_run(tmp_path: Path) -> None:
    """The run that the worker leaves behind writes its checkpoint, and another worker goes on from there."""
    process = launch(tmp_path, "hydra/launcher=ray", "hydra.launcher.n_jobs=2", "method=lora,bitfit")
    lora, other = listed([*LONG, "-m", "method=lora,bitfit", f"paths.runs={tmp_path}"])
    wait_for(lambda: list((lora.folder / "checkpoints").glob("step_*")), process)
    pid = at_work(lora)
    assert os.getpgid(pid) == pid  # a cluster's Ray kills what is left of a worker's group, a fifth of a second later
    os.kill(parent(parent(pid)), signal.SIGKILL)  # its parent is the fork server
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "2 of 2 runs are done" in out and "the Ray worker of job 0 was killed; trying again" in err
    history = attempts.attempts(lora.folder)
    assert history["attempts"] == 1 and "stopped at step" in history["why"], history
    assert attempts.attempts(other.folder)["attempts"] == 0
    assert steps(lora.folder) == list(range(1, STEPS + 1)) == steps(other.folder)
    device = record.read(lora.folder / "record.json")["where"]["device"]
    assert int(device.rsplit(" ", 2)[1]) == 1
    late = set(" ".join(path.read_text() for path in tmp_path.glob("late-*")).split())
    assert "lora_repro" in late and "ray" not in late, late  # which takes seconds, and more of them at a run's end


@needs("hydra_submitit_launcher")
@needs_proc
def test_a_job_that_its_cluster_takes_back_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """SIGUSR2 is submitit's signal for preemption and time limits, which SLURM sends to all of a job's processes: the run,
    the fork server and the supervisor. submitit_local requeues as SLURM would.
    """
    process = launch(tmp_path, "hydra/launcher=submitit_local", "method=lora", threads="1")
    (cell,) = listed([*LONG, "-m", "method=lora", f"paths.runs={tmp_path}"])
    wait_for(lambda: list((cell.folder / "checkpoints").glob("step_*")), process)
    run_process = at_work(cell)
    server = parent(run_process)
    for pid in (run_process, server, parent(server)):
        os.kill(pid, signal.SIGUSR2)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "1 of 1 runs are done" in out
    assert "stopped at step" in attempts.attempts(cell.folder)["why"]
    assert steps(cell.folder) == list(range(1, STEPS + 1))
    logs = "".join(path.read_text() for path in tmp_path.glob(".hydra/.submitit/*/*_log.*"))
    assert "Requeued job" in logs


def test_a_source_that_another_process_trains_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers: list[Any] = [Busy("elsewhere"), Busy("elsewhere"), {"status": "finished"}]

    def answer(source: Any, overrides: Any) -> Any:
        reply = answers.pop(0)
        if isinstance(reply, Busy):
            raise reply
        return reply

    monkeypatch.setattr(one_run, "run", answer)
    monkeypatch.setattr(one_run, "WAIT_SECONDS", 0.0)
    assert one_run.awaited(compose(["profile=smoke"]), [], "mnli") == {"status": "finished"}
    assert capsys.readouterr().err.count("waiting for the mnli run") == 1


def test_a_killed_worker_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(job: Any) -> None:
        raise BrokenProcessPool("a worker process managed by the executor was unexpectedly terminated")

    monkeypatch.setattr(sweep, "hydra_program", broken)
    assert sweep._launch() == 1
    assert capsys.readouterr().err.strip() == "error: a worker of this sweep was killed; run the same command again to resume"
