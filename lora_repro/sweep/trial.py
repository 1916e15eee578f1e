"""One learning-rate trial: the run itself at one rate, without decoding, with a seed that no table reports.

Its result is `trial.json` in runs/<profile>/trials/<signature>, without weights. An unfinished trial resumes. So does one that
paused on the way, unless it is given up there: it is then `pruned`, and begins anew should it be asked for in full. Missing runs
that a trial starts from are run before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lora_repro import console
from lora_repro.config import signature
from lora_repro.config.compose import build, resolved, resolved_with_starts, starts_of
from lora_repro.errors import STOPPED, Busy, Terminated, UserError
from lora_repro.files import write_json
from lora_repro.records import attempts, provenance, record
from lora_repro.records.rates import PRUNED
from lora_repro.records.run_folder import ADAPTER, METRICS, clean
from lora_repro.run.stages import adapt, backbone_of, encode, label_of, learn, objective_of, read, settle
from lora_repro.sweep import supervise
from lora_repro.tracking.metrics import Metrics
from lora_repro.train.progress import Trained
from lora_repro.train.ranks import Ranks, world_size

TRIAL = "trial.json"
Trial = dict[str, Any]


def trial_config(config: DictConfig, lr: float, number: int = 0) -> tuple[DictConfig, Path]:
    """(the configuration of trial `number` at rate `lr`, its folder).

    Raises UserError for starts that are not folders (`resolve_starts`), and where several processes are to share a trial.
    """
    if world_size() > 1 or int(config.launch.processes) > 1:
        raise UserError("a trial trains in a single process: leave torchrun out and set launch.processes=1")
    starts = list(config.get("starts") or ())
    if not all(isinstance(start, str) for start in starts):
        raise UserError(f"such a trial cannot start from other runs (starts={config.starts}): set starts=null")
    config = config.copy()
    OmegaConf.set_struct(config, False)
    config.pop("probe", None)  # a trial is only trained
    if config.tune.held_out and config.task.get("held_out") == 0:
        config.task.held_out = config.tune.held_out
        if config.data.n_train is not None and "train" in (config.task.get("rows") or {}):  # a run may use all of them
            config.data.n_train = min(config.data.n_train, config.task.rows.train - config.task.held_out)
    train, length = config.train, float(config.tune.length)
    train.lr, config.seed = lr, config.tune.seed + number
    train.epochs *= length
    for key in ("steps", "eval_every"):  # as many evaluations as the run has
        if train[key] is not None:
            train[key] = max(1, round(train[key] * length))
    if train.warmup >= 1:
        train.warmup = max(1, round(train.warmup * length))
    config_dict = resolved(config)
    # Decoding is not part of a trial.
    first = {"starts_from": [Path(start).name for start in starts]} if starts else {}
    name = signature.signature({**{key: value for key, value in config_dict.items() if key != "decode"}, **first})
    return config, Path(config.paths.runs) / config.profile_name / "trials" / name


def trial(config: DictConfig, lr: float, number: int = 0, pause_after: float = 1) -> Trial:
    """Train once at `lr`, unless that trial was run before, and return its measurements (no loss or score if it diverged).

    number: which of the trials at this rate, each with a seed of its own. pause_after: the share of its length after which it
    pauses, so that it has neither loss nor score yet. Raises UserError if there is nothing to train.
    """
    config, folder = trial_config(config, lr, number)
    if result := _known(folder, pause_after):
        return result
    with record.lock(folder):
        if result := _known(folder, pause_after):  # another process has run it meanwhile
            return result
        (folder / TRIAL).unlink(missing_ok=True)
        training, parameters = train_trial(config, folder, pause_after)
        outcome = measurements(config, folder, training, parameters)
        return outcome if training.status == "paused" else save_trial(folder, outcome)


def _known(folder: Path, pause_after: float) -> Trial | None:
    """The result of a trial that has ended; None of a pruned one that is to be trained in full."""
    path = folder / TRIAL
    result = record.read(path) if path.exists() else None
    return None if result and result.get("status") == PRUNED and pause_after == 1 else result


def give_up(config: DictConfig, lr: float, number: int, outcome: Trial) -> Trial:
    """Save and return a paused trial as a pruned one."""
    _, folder = trial_config(config, lr, number)
    with record.lock(folder):
        return save_trial(folder, {**outcome, "status": PRUNED})


def save_trial(folder: Path, outcome: Trial) -> Trial:
    """Save and return a trial's measurements; delete its weights."""
    write_json(folder / TRIAL, outcome)
    clean(folder)
    (folder / ADAPTER).unlink(missing_ok=True)
    return outcome


def measurements(config: DictConfig, folder: Path, training: Trained, parameters: Mapping[str, int]) -> Trial:
    """What a trial measured, as its file holds it."""
    facts = training.facts()
    finished = training.status == "finished"
    return {
        "schema": record.SCHEMA,
        "signature": folder.name,
        "row": {"name": config.row.name},
        "lr": float(config.train.lr),
        "status": training.status,
        # The values from before it diverged do not count for this rate.
        "dev_loss": facts["dev_loss"] if finished else None,
        "dev_score": facts.get("dev_score") if finished else None,
        # The curves tell at which part of its length a trial could have been given up.
        **{curve: facts[curve] for curve in ("train_losses", "dev_losses", "dev_scores") if curve in facts},
        "steps": facts["steps"],
        "train_seconds": facts["train_seconds"],
        "parameters": dict(parameters),
        **training.code,
        "finished_at": provenance.now(),
    }


def train_trial(config: DictConfig, folder: Path, pause_after: float = 1) -> tuple[Trained, dict[str, int]]:
    """(how a trial's training ended or paused, its parameter counts). Raises UserError if there is nothing to train."""
    task, method, data, settings = (build(config[group]) for group in ("task", "method", "data", "train"))
    objective, ranks = objective_of(config), Ranks.here(config.device)
    splits = read(task, config.paths.data)
    starts = [Path(start) for start in config.get("starts") or ()]
    method.check_starts(len(starts))
    model = adapt(backbone_of(config), method, config.seed, ranks.device, starts)
    if not model.trainable.parameters():
        raise UserError(f"{config.method.name} trains nothing: it has no learning rate to choose")
    rows = encode(splits, objective, model.backbone, method, data)
    settle(folder, splits, model.backbone, ranks)
    metrics = Metrics(folder / METRICS)
    training = learn(model, rows, objective, settings, config.seed, folder, metrics, label_of(config), ranks, pause_after)
    return training, model.counts


def resolve_starts(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """The configuration with folders of finished runs as `starts`; unchanged if it starts from none. `overrides` composed it.

    They are the runs that the table's own run starts from, not runs with the trial's seed, so they cost nothing extra if the
    table is run, too. They must not have trained on rows that the trial holds out: if the run itself holds out nothing, a start
    on its task or on a mixture of tasks is replaced by a run that holds out the same rows.

    Missing runs are each run in a process of their own. Raises UserError if one fails, Busy if another process is running it.
    """
    starts = starts_of(config, overrides)
    if not starts:
        return config
    folders = []
    for start, words in starts:
        n = config.tune.held_out
        if n and start.task.get("held_out") == 0 and ("members" in start.task or start.task.name == config.task.name):
            words = (*words, f"task.held_out={n}")
            start = start.copy()
            OmegaConf.update(start, "task.held_out", n)
        config_dict = resolved_with_starts(start, words)
        folder = Path(str(start.paths.runs)) / str(start.profile_name) / signature.signature(config_dict)
        if record.find(folder, config_dict) is None:
            console.say(f"a trial starts from this run, made first: {start.row.name or start.method.name} on {start.task.name}")
            with supervise.stoppable():
                limits = (start.launch.tries, 1, start.launch.per_gpu, start.device)
                code = supervise.start("lora_repro.run", list(words), folder, *limits)
            if code == STOPPED:
                raise Terminated if supervise.stopping() else Busy(f"a trial needs {folder}, which another process is running")
        run_record = record.find(folder, config_dict)
        if run_record is None or run_record["status"] != "finished":
            why = run_record["status"] if run_record else attempts.attempts(folder).get("why", "it did not start")
            raise UserError(f"a trial of {config.row.name} needs the run {folder}, which is not finished: {why}")
        folders.append(str(folder))
    new_config = config.copy()
    OmegaConf.set_struct(new_config, False)
    new_config.starts = folders
    return new_config
