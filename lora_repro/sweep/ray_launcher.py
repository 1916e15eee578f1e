"""Hydra's launcher for Ray (`hydra/launcher=ray`): each job of a sweep is a Ray task, on a local Ray or on a cluster.

hydra-ray-launcher is not used: it needs cloudpickle before 3 and AWS's packages, which conflict with our pinned versions, and
one lost worker ends its sweep. This module retries tasks itself and does not leave that to Ray: the run that a killed worker
leaves behind first writes its checkpoint, for which the next worker waits.
"""

from __future__ import annotations

import math
import os
import signal
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from lora_repro import console
from lora_repro.config import hydra_internals
from lora_repro.config.hydra_internals import JobReturn, JobStatus, Singleton, run_job, setup_globals
from lora_repro.errors import NotAvailable, UserError
from lora_repro.sweep import parallel, supervise

NAME = "hydra_plugins.lora_repro.RayLauncher"  # as in the yaml: Hydra accepts launchers only with names in hydra_plugins
STORE = 100 * 2**20  # bytes of shared memory for what tasks exchange, here configurations; Ray's default is a third of memory
LETS_GO = 600.0  # seconds for the run of a killed worker to end its step and write its checkpoint
HANDED_ON = ("LORA_REPRO_", "HF_", "WANDB_", "TRACKIO_", "TQDM_")  # variables passed on to a cluster's nodes, which lack them
# Switched off in a local Ray: sending usage statistics, a lower priority for runs than with other launchers (nice 15), and
# killing what a killed worker leaves behind. A cluster has settings of its own, so runs there leave the worker's group.
OFF = ("RAY_USAGE_STATS_ENABLED", "RAY_worker_niceness", "RAY_process_group_cleanup_enabled")
Job = tuple[int, tuple[str, ...]]  # (number, the overrides that compose it)


def use() -> None:
    """Register this launcher with Hydra in this process. Raises NotAvailable without Ray."""
    _ray()
    hydra_internals.register_launcher(NAME, RayLauncher)


def _ray() -> Any:
    for name in OFF:
        os.environ.setdefault(name, "0")
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise NotAvailable("hydra/launcher=ray needs Ray: pip install -e '.[ray]'") from None
    return ray


class RayLauncher(Launcher):
    """The launcher; `conf/hydra/launcher/ray.yaml` documents its settings."""

    def __init__(self, address: str | None = None, n_jobs: int = -1, num_cpus: float = 1, num_gpus: float = 0) -> None:
        self.address, self.n_jobs, self.num_cpus, self.num_gpus = address, n_jobs, num_cpus, num_gpus

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """The return of every job, in order. Raises BrokenExecutor if a job lost its workers, after all others have ended."""
        setup_globals()
        ray = _ray()
        self._connect(ray)
        tasks = _Tasks(ray, ray.remote(num_cpus=self.num_cpus, num_gpus=self.num_gpus, max_retries=0)(work), self._given())
        jobs = [(initial_job_idx + place, tuple(overrides)) for place, overrides in enumerate(job_overrides)]
        with supervise.stoppable():  # Ray has installed a SIGTERM handler that would exit at once
            return tasks.all(jobs, self.n_jobs if self.n_jobs > 0 else len(jobs))

    def _connect(self, ray: Any) -> None:
        """Start a local Ray or connect to the cluster, once. Raises UserError if this machine lacks the GPUs that a run needs."""
        if not ray.is_initialized():
            resources: dict[str, Any] = {}
            if self.address is None:
                room = max(parallel.cores(), math.ceil(self.n_jobs * self.num_cpus))
                resources = {"num_cpus": room, "object_store_memory": STORE, "include_dashboard": False}
            ray.init(address=self.address or "local", logging_level="ERROR", **resources)
        n_gpus = ray.cluster_resources().get("GPU", 0)
        if self.address is None and n_gpus < self.num_gpus:  # a cluster may grow, this machine does not
            raise UserError(f"hydra.launcher.num_gpus={self.num_gpus:g}, but Ray finds {n_gpus:g} GPUs on this machine")

    def _given(self) -> dict[str, Any]:
        """The arguments that all tasks share."""
        variables = {name: value for name, value in os.environ.items() if name.startswith(HANDED_ON) and name != console.MARK}
        return {
            "context": self.context,
            "function": self.function,
            "config": self.config,
            "singletons": Singleton.get_state(),
            "folder": str(Path.cwd()),
            "variables": variables,
        }


class _Tasks:
    """Runs jobs as tasks of Ray, a limited number at a time, and collects their returns."""

    def __init__(self, ray: Any, task: Any, arguments: dict[str, Any]) -> None:
        self.ray, self.task, self.given = ray, task, arguments
        self.at_work: dict[Any, tuple[int, Job, int]] = {}  # task -> (place of its job, job, number of the try)

    def all(self, jobs: Sequence[Job], most: int) -> list[JobReturn]:
        """The returns of all jobs, at most `most` at a time.

        Raises BrokenExecutor if a job lost its workers, after all others have ended; UserError if a node cannot work.
        """
        waiting = deque((place, job, 1) for place, job in enumerate(jobs))
        returns = [JobReturn(status=JobStatus.COMPLETED) for _ in jobs]  # stopped jobs keep these
        failures = 0
        try:
            while waiting or self.at_work:
                while waiting and len(self.at_work) < most and not supervise.stopping():
                    self._start(*waiting.popleft())
                tasks, _ = self.ray.wait(list(self.at_work), timeout=1)
                for task in tasks:
                    place, job, number = self.at_work.pop(task)
                    if job_return := self._returned(task):
                        returns[place] = job_return
                    elif not supervise.stopping():
                        again = number < int(self.given["config"].launch.tries)
                        decision = "trying again" if again else "giving up"
                        print(f"the Ray worker of job {job[0]} was killed; {decision}", file=sys.stderr, flush=True)
                        waiting.extend([(place, job, number + 1)] if again else [])
                        failures += not again
                if supervise.stopping():
                    waiting.clear()
                    self._stop()
        except self.ray.exceptions.RayError as error:  # Ray itself was killed; its workers and runs stop
            raise BrokenExecutor from error
        except BaseException:  # Ctrl-C, or a node that cannot work
            self._stop()
            raise
        if failures:
            raise BrokenExecutor
        return returns

    def _start(self, place: int, job: Job, number: int) -> None:
        self.at_work[self.task.remote(job, again=number > 1, **self.given)] = place, job, number

    def _returned(self, task: Any) -> JobReturn | None:
        """The return of an ended task; None if it was stopped, or lost its worker or node."""
        errors = self.ray.exceptions
        try:
            job_return: JobReturn = self.ray.get(task)
            return job_return
        except (errors.TaskCancelledError, errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError):
            return None
        except errors.RayTaskError as error:
            raise UserError(f"a node of Ray cannot work in {self.given['folder']}: {error.cause}") from error

    def _stop(self) -> None:
        """Make the current runs write their checkpoints and end."""
        for task in self.at_work:
            self.ray.cancel(task)  # raises KeyboardInterrupt in the worker
        if self.at_work:
            self.ray.wait(list(self.at_work), num_returns=len(self.at_work))


def work(
    job: Job,
    again: bool,
    context: HydraContext,
    function: TaskFunction,
    config: DictConfig,
    singletons: dict[Any, Any],
    folder: str,
    variables: Mapping[str, str],
) -> JobReturn:
    """A task in a worker of Ray: runs one job as Hydra does, in the command's folder."""
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Ray cancels by SIGINT, which a script's `ray start &` ignores
    for name, value in variables.items():
        os.environ.setdefault(name, value)
    os.environ[supervise.APART] = "1"
    setup_globals()
    Singleton.set_state(singletons)
    number, overrides = job
    job_config = context.config_loader.load_sweep_config(config, list(overrides))
    with open_dict(job_config):
        job_config.hydra.job.id = f"{job_config.hydra.job.name}_{number}"
        job_config.hydra.job.num = number
    HydraConfig.instance().set_config(job_config)
    with supervise.patient(LETS_GO if again else 0.0), _no_main():
        return run_job(function, job_config, "hydra.sweep.dir", "hydra.sweep.subdir", hydra_context=context)


@contextmanager
def _no_main() -> Iterator[None]:
    """Start runs without the main module of this process, which is Ray's and imports all of Ray."""
    main = vars(sys.modules["__main__"])
    file = main.pop("__file__", None)
    try:
        yield
    finally:
        main["__file__"] = file
