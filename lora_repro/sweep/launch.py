"""A sweep: many runs through one of Hydra's launchers, and at the end a table of their outcomes.

Hydra's launcher (basic, joblib, submitit, Ray) decides where runs go and how many at once; every job starts its run in a process
of its own (`supervise`). Runs that have a record on disk are skipped, whichever launcher or command made it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lora_repro import bisection, console
from lora_repro.config.compose import (
    build,
    check_options,
    compose,
    hydra_program,
    job_overrides,
    resolved,
    unswept,
)
from lora_repro.errors import INTERRUPTED, STOPPED, UserError
from lora_repro.planning.cells import Cell, cell_of, cells, row_has_seed, unique, with_starts
from lora_repro.records import rates, record
from lora_repro.records.run_folder import RECORD
from lora_repro.report import show, sweep_tables
from lora_repro.report.pivot import Pivot
from lora_repro.results import grouped, published_records
from lora_repro.sweep import gpus, parallel, preflight, ray_launcher, supervise
from lora_repro.sweep.grid import ranking_key
from lora_repro.sweep.progress import Pace, Progress, announce, growing_table, others_of
from lora_repro.sweep.run_summary import Status, exit_code, summary_line, table

_folders: set[Path] | None = None  # of the runs that this sweep has begun: a row without a rank is the same run at every rank
_progress: Progress | None = None  # of this process's sweep


def wants_sweep(arguments: Sequence[str], hydra_node: DictConfig) -> bool:
    """Whether a command line asks Hydra for a sweep, without a flag such as --cfg or --info that only prints something."""
    flags = {item for item in arguments if item.startswith("-")}
    many = bool(flags & {"-m", "--multirun"}) or str(hydra_node.mode).endswith("MULTIRUN")
    return many and flags <= {"-m", "--multirun"}


def job(config: DictConfig) -> None:
    """One job, in the process that the launcher gives it. Its run gets a process of its own."""
    try:
        if supervise.stopping() or not row_has_seed(config):
            return
        cell = cell_of(config, job_overrides())
        if _folders is not None:
            if cell.folder in _folders:
                return
            _folders.add(cell.folder)
        if not _print_recorded(cell):
            parallel.submit(partial(_start, cell, job_overrides()))
    except UserError as error:
        console.report_error(error)
    if supervise.stopping() and "SUBMITIT_EXECUTOR" in os.environ:
        sys.exit(STOPPED)  # leaves no result, so that the job continues if the cluster requeues it


def _print_recorded(cell: Cell) -> bool:
    """Print the line of a cell that has its record; returns whether it has one. Raises UserError as `record.find` does."""
    run_record = record.find(cell.folder, cell.asked)
    if run_record is None:
        return False
    record.tidy(cell.folder)
    print(summary_line(run_record, cell, again=True), flush=True)
    if _progress:
        _progress.ended(cell)
    return True


def _without_record(runs: Sequence[Cell]) -> list[Cell]:
    """The cells that Hydra must start. The lines of the others are printed here: Hydra takes half a second to compose each."""
    unrecorded = []
    for cell in runs:
        try:
            has_record = _print_recorded(cell)
        except UserError:  # a record that is wrong: `job` says how
            has_record = False
        if has_record and _folders is not None:
            _folders.add(cell.folder)
        elif not has_record:
            unrecorded.append(cell)
    return unrecorded


def narrowed(runs: Sequence[Cell], unrecorded: Sequence[Cell]) -> list[str]:
    """Overrides that sweep, of each key's values among `runs`, only those that a cell of `unrecorded` has."""
    words = []
    for key in dict.fromkeys(item.partition("=")[0] for cell in runs for item in cell.overrides):
        before, after = (
            dict.fromkeys(item for cell in some for item in cell.overrides if item.startswith(f"{key}="))
            for some in (runs, unrecorded)
        )
        if after and len(after) < len(before):
            words.append(f"{key}={','.join(item.removeprefix(f'{key}=') for item in after)}")
    return words


def _start(cell: Cell, overrides: Sequence[str]) -> None:
    """Start a cell's run in a process of its own, unless the sweep has been stopped."""
    if supervise.stopping():
        return
    launch = cell.asked["launch"]
    if _progress:
        _progress.began(cell)
    try:
        with supervise.stoppable():
            limits = (launch["tries"], launch["processes"], launch["per_gpu"], cell.asked["device"])
            code = supervise.start("lora_repro.run", overrides, cell.folder, *limits)
        if _progress:
            _progress.ended(cell, failed=bool(code))
    except UserError as error:
        console.report_error(error)


def sweep(arguments: Sequence[str], hydra_node: DictConfig, shows: bool = True) -> int:
    """Run every cell, print the table and return the exit code: 0 if every cell has its record.

    shows: whether to print all outcomes and the table at the end; else only those of runs without a record.
    """
    check_launch(hydra_node)
    launcher = str(hydra_node.launcher._target_)
    if launcher == ray_launcher.NAME:
        ray_launcher.use()
    if not str(hydra_node.sweeper._target_).endswith("BasicSweeper"):
        return _search(arguments, hydra_node)
    global _folders
    _folders = set()
    runs = unique(cells(arguments))
    if not runs:
        raise UserError("nothing to run: no row has these seeds")
    if own := _own_task(hydra_node, arguments, runs):
        sys.argv.append(own)  # Hydra reads it
    check_shown(runs)
    records = published_records(runs[0].asked["profile_name"])
    announce(runs, records, arguments)
    missing = [cell for cell in runs if not (cell.folder / RECORD).is_file()]
    if missing:
        gpus.say_if_cpu(missing[0].asked["device"], missing[0].asked["profile_name"])
    preflight.check([cell.asked for cell in with_starts(missing) if not (cell.folder / RECORD).is_file()])
    rule = bisection.rule_among(runs)
    slots = _share(hydra_node, runs, missing, rule)
    if rows := in_order(runs, records, rising=launcher.endswith("BasicLauncher") and slots == 1):
        sys.argv.append(rows)  # Hydra reads it
        runs = unique(cells([*arguments, rows]))  # in that order
        missing = [cell for cell in runs if cell.signature in {run.signature for run in missing}]
    global _progress
    _progress = None
    if launcher.endswith("BasicLauncher") and not rule:
        _progress = Progress(Pace(missing, records, slots), growing_table(arguments, runs) if shows else None)
    if rule is None and (launcher.endswith("BasicLauncher") or not missing):  # other launchers' workers would print them again
        if not (unrecorded := _without_record(runs)):
            return _report(arguments, runs, 0, False, shows)
        sys.argv += narrowed(runs, unrecorded)  # Hydra reads it
    by_setting = {cell.setting: cell.asked["train"]["lr"] for cell in with_starts(runs) if cell.guess is not None}
    os.environ[rates.PLANNED] = json.dumps(by_setting)
    launch: Callable[[], int] = partial(_launch, slots) if rule is None else partial(_halve, arguments, runs, rule, slots)
    try:
        # submitit's jobs outlive this process
        code, stopped = (launch(), False) if "submitit" in launcher else _stoppable(launch, hydra_node)
        if rule:
            runs = [cell for cell in runs if bisection.begun(cell)]
        return _report(arguments, runs, code, stopped, shows)
    finally:
        del os.environ[rates.PLANNED]


def swept(arguments: Sequence[str]) -> int:
    """Sweep an experiment within another program, without its table at the end; returns the exit code. Raises UserError."""
    check_options(arguments)
    config = compose(unswept(arguments)[0], hydra_node=True)
    preflight.check_writable(Path(str(config.paths.runs)))
    before, sys.argv[1:] = sys.argv[1:], [*arguments]  # Hydra reads them
    environment = dict(os.environ)
    try:
        return sweep(arguments, config.hydra, shows=False)
    finally:
        sys.argv[1:] = before
        for name in {*os.environ} - {*environment}:
            del os.environ[name]  # what it set for its runs would silence and slow those that follow in this program
        os.environ.update(environment)


def _own_task(hydra_node: DictConfig, arguments: Sequence[str], runs: Sequence[Cell]) -> str:
    """`task=mine` for an experiment that chose a task of its own: Hydra would sweep those of its family in its place."""
    family = (hydra_node.sweeper.get("params") or {}).get("task")
    if family is None or any(item.startswith("task=") for item in arguments):
        return ""
    tasks = {item for cell in runs for item in cell.overrides if item.startswith("task=")}
    return tasks.pop() if len(tasks) == 1 and tasks != {f"task={family}"} else ""


def check_shown(runs: Sequence[Cell]) -> None:
    """Raise UserError if the experiment's table could not show these runs, before they are made.

    It needs a declaration, and a table by metric a task that measures what it compares.
    """
    table = runs[0].asked["row"]["table"]
    declaration = show.declaration(table) if table else None
    if not isinstance(declaration, Pivot) or declaration.by != "metric":
        return
    metric = declaration.metrics[0].key
    for cell in {run.task: run for run in runs}.values():
        metrics = (cell.asked["task"].get("metrics"), build(cell.asked["task"]).directions)
        if metric not in {*(metrics[0] or ()), *metrics[1], "dev_loss"}:
            raise UserError(
                f"the table of {table} compares {metric}, which task {cell.task} does not measure (it measures "
                f"{', '.join(metrics[1])}): leave experiment= out, as in -m method=lora,full task={cell.task}"
            )


def _report(arguments: Sequence[str], runs: Sequence[Cell], code: int, stopped: bool, shows: bool = True) -> int:
    """Print the outcome of every cell and the experiment's table; returns the sweep's exit code. code: that of its launch."""
    statuses = [Status.of(cell) for cell in runs]
    if shows or any(status.code for status in statuses):
        print(table(statuses if shows else [status for status in statuses if status.code]), flush=True)
    name = runs[0].asked["row"]["table"] if runs else None
    if shows and name and code != INTERRUPTED and any(not status.code for status in statuses):
        print()
        overrides = [item for item in arguments if not item.startswith(("-", "experiment=", "hydra"))]
        rows = dict.fromkeys(cell.row.name for cell in runs)
        show.show(name, overrides, rows=[*rows] if others_of(name, runs, arguments) else ())
    elif shows and not name and code != INTERRUPTED and sum(not status.code for status in statuses) > 1:
        try:
            print(f"\n{sweep_tables.show_grid(runs)}", flush=True)
        except UserError as error:  # such as runs of different data
            console.say(f"no table of means: {error}")
    if code == INTERRUPTED:
        return code
    code_of_runs = exit_code(statuses)
    return STOPPED if stopped and code_of_runs else code_of_runs or code


def check_launch(hydra_node: DictConfig) -> None:
    """Raise UserError for a launcher or a number of processes with which a sweep cannot run."""
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError("torchrun starts one run (hydra.mode=RUN), not a sweep: leave torchrun out and set launch.processes=2")
    if hydra_node.launcher.get("n_jobs") == 0:
        raise UserError("hydra.launcher.n_jobs must be a whole number other than 0 (-1: as many as there are cores), not 0")


def _share(hydra_node: DictConfig, runs: Sequence[Cell], missing: Sequence[Cell], rule: bisection.Rule | None) -> int:
    """Set the threads of a run; returns how many runs this process starts at a time."""
    launcher, slots = str(hydra_node.launcher._target_), 1
    if launcher.endswith("LocalLauncher"):  # it starts all jobs of a batch at once
        jobs = len({cell.seed for cell in runs}) if rule else len(runs)
        share_cores(min(jobs, hydra_node.sweeper.max_batch_size or jobs))
    if launcher.endswith("BasicLauncher") and (slots := parallel.at_once(missing)) > 1:
        share_cores(slots)
        threads = os.environ["OMP_NUM_THREADS"]
        console.say(f"{slots} runs at a time, {threads} thread(s) each; one after another: launch.together=1")
    return slots


def _stoppable(launch: Callable[[], int], hydra_node: DictConfig) -> tuple[int, bool]:
    """(exit code, whether it was stopped) of a sweep whose runs a signal to this process stops, too."""
    launcher = str(hydra_node.launcher._target_)
    mark = supervise.mark_of(Path(str(hydra_node.sweep.dir)).absolute())
    os.environ[console.MARK] = str(mark)
    if "joblib" in launcher or launcher == ray_launcher.NAME:
        os.environ.setdefault("TQDM_DISABLE", "1")  # bars of several runs on one terminal overwrite each other
    with supervise.stoppable():
        code = launch()
    stopped = supervise.stopping()
    mark.unlink(missing_ok=True)
    return code, stopped


def in_order(runs: Sequence[Cell], records: Mapping[str, Mapping[str, Any]], rising: bool = False) -> str:
    """The rows as an override, by their published times; empty for fewer than two rows.

    The shortest comes first, so that something is seen soon, then from the longest to the shortest, so that none goes on alone at
    the end; if `rising`, as for one run at a time, from the shortest to the longest. Rows whose time is not known come last, in
    the table's order. records: signature -> published record.
    """
    seconds: dict[str, float] = {}
    order: dict[str, int] = {}
    for cell in runs:
        row = next((item for item in cell.overrides if item.startswith("row/")), None)
        if row is not None:
            took = records[cell.signature]["measured"]["wall_seconds"] if cell.signature in records else 0.0
            seconds[row], order[row] = max(took, seconds.get(row, 0.0)), cell.row.order
    ranking = sorted((row for row in seconds if seconds[row]), key=lambda row: (seconds[row], row))
    if not rising:
        ranking = [*ranking[:1], *reversed(ranking[1:])]
    rows = [*ranking, *sorted((row for row in seconds if not seconds[row]), key=lambda row: (order[row], row))]
    return f"{rows[0].partition('=')[0]}={','.join(row.partition('=')[2] for row in rows)}" if len(rows) > 1 else ""


def _launch(slots: int = 1, work: Callable[[DictConfig], float | None] = job) -> int:
    """Let Hydra run the sweep, `slots` runs at a time, each by `work`; returns the exit code."""
    try:
        with _progress.shown() if _progress and slots > 1 else nullcontext(), parallel.side_by_side(slots):
            hydra_program(work)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenExecutor:
        console.report_error(UserError("a worker of this sweep was killed; run the same command again to resume"))
        return 1
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    return 0


def searched_job(config: DictConfig) -> float | None:
    """A job of a sweeper that minimises what this returns: the run's dev loss or negated dev score; None if the run failed."""
    job(config)
    cell = cell_of(config, job_overrides())
    run_record = record.find(cell.folder, cell.asked)
    return (
        ranking_key(run_record["measured"], config.train.select_by)[0]
        if run_record and run_record["status"] != "diverged"
        else None
    )


def _search(arguments: Sequence[str], hydra_node: DictConfig) -> int:
    """Let a sweeper that searches, such as Optuna, choose runs by their dev rows; prints the best and returns the exit code.

    Raises UserError for an experiment, whose rows it cannot read, for a task that reports its dev rows, and if every run failed.
    """
    config = compose(unswept(arguments)[0])
    if config.row.table:
        raise UserError("hydra/sweeper: a search cannot read a table's rows: leave experiment= out, and name method= and task=")
    if config.task.get("held_out") == 0:
        raise UserError("task.held_out=0: a search would choose on the rows that it reports: set task.held_out=200")
    preflight.check([resolved(config)])
    result = Path(str(hydra_node.sweep.dir)) / "optimization_results.yaml"
    result.unlink(missing_ok=True)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # we report that every run failed, without Hydra's traceback
    logging.getLogger("optuna").setLevel(logging.WARNING)  # each run prints a line of ours
    try:
        code, stopped = _stoppable(partial(_launch, work=searched_job), hydra_node)
    except ValueError as error:
        if "No trials are completed" not in str(error):
            raise
        raise UserError("hydra/sweeper: every run of the search failed, for the reasons above") from error
    if result.is_file():
        best = OmegaConf.load(result)
        params = {key: value if isinstance(value, str) else f"{value:.4g}" for key, value in best.best_params.items()}
        by = config.train.select_by
        optimum = -best.best_value if by == "score" else best.best_value
        print(f"best: {'  '.join(f'{key}={value}' for key, value in params.items())}  dev {by} {optimum:.4g}", flush=True)
    return code or (STOPPED if stopped else 0)


def _halve(arguments: Sequence[str], runs: Sequence[Cell], rule: bisection.Rule, slots: int = 1) -> int:
    """Let Hydra run a bisection, round by round; returns the last exit code that is not 0."""
    for_hydra = [item for item in arguments if item.startswith(("hydra.", "hydra/", "-"))]
    code = 0
    for round_cells in bisection.rounds(runs, rule):
        for cells_of_row in grouped(round_cells, lambda cell: cell.overrides[:-1]):  # the last one is the seed
            if not (unrecorded := _without_record(cells_of_row)):
                continue
            sys.argv[1:] = [*for_hydra, *unrecorded[0].overrides[:-1], f"seed={','.join(str(cell.seed) for cell in unrecorded)}"]
            code = _launch(slots) or code
            if code == INTERRUPTED or supervise.stopping():
                return code
    return code


def share_cores(jobs: int) -> None:
    """Divide the threads among `jobs` simultaneous runs, unless OMP_NUM_THREADS is set. joblib does so by itself."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, parallel.cores() // max(1, jobs))))
