"""The straight line of one run: load, apply, encode, train, answer, score, record. Read it first.

A run that has a record is not repeated; an unfinished one resumes from its checkpoint.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lora_repro import console
from lora_repro.analysis.forgetting import general_loss
from lora_repro.config import signature
from lora_repro.config.compose import (
    build,
    resolved_with_starts,
    starts_of,
)
from lora_repro.data import DataConfig, subset
from lora_repro.errors import Busy, UserError
from lora_repro.files import remove_temporaries as sweep_temporaries
from lora_repro.files import why_it_ended
from lora_repro.metrics import jvm
from lora_repro.objectives.base import Objective
from lora_repro.planning.cells import own_title
from lora_repro.records import attempts, provenance, record
from lora_repro.records.run_folder import CHECKPOINTS, METRICS, clean
from lora_repro.run.stages import (
    Adapted,
    Answers,
    adapt,
    all_losses,
    answer,
    backbone_of,
    encode,
    label_of,
    learn,
    met_in_test,
    objective_of,
    prompts,
    read,
    settle,
)
from lora_repro.tasks.base import AbstractTask, Example, Scores
from lora_repro.tracking.metrics import Metrics
from lora_repro.train import resume_files
from lora_repro.train.loop import TrainConfig
from lora_repro.train.precision import allow_tf32, resolve_precision
from lora_repro.train.progress import Trained
from lora_repro.train.ranks import Ranks

WAIT_SECONDS = 5.0
COLLAPSED = 0.99  # share of inputs with the same answer; below 1, so that one or two other answers hide no collapse


def run(config: DictConfig, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The record of one configuration: found if it exists, else measured and saved. Raises UserError.

    `overrides`: those that composed `config`; the runs that it starts from, if any, are composed with them too.
    """
    config_dict = resolved_with_starts(config, overrides)
    if not config_dict["row"]["table"]:
        config_dict["row"] |= {"name": config.method.name, "label": own_title(config.method.name, overrides)}
    name = signature.signature(config_dict)
    folder = Path(config.paths.runs) / config.profile_name / name
    ranks = Ranks.here(config.device)
    if run_record := ranks.led(lambda: record.find(folder, config_dict)):
        if ranks.first:
            record.tidy(folder)
        return run_record
    starts = first(config, overrides)
    with ranks.hold(record.lock(folder)):
        # Another process may have finished it while we waited to start.
        if run_record := ranks.led(lambda: record.find(folder, config_dict)):
            return run_record
        try:
            if ranks.first:
                sweep_temporaries(folder)
                sweep_temporaries(folder / CHECKPOINTS)
            mirror = build(config.tracker).start(name, config_dict, folder) if ranks.first else None
            machine = partial(memory, ranks)
            with Metrics(folder / METRICS, mirror, machine) as metrics:
                return measure(config, config_dict, name, folder, metrics, starts)
        except UserError:
            if ranks.first:
                resume_files.forget_inputs(folder)
                record.vacate(folder)
            raise
        except OSError as error:
            raise UserError(why_it_ended(error, folder)) from error


def memory(ranks: Ranks) -> dict[str, float]:
    """What a mirror shows of the machine during training: peak memory so far in MiB, the GPU's if the run uses one."""
    on_gpu = ranks.device.type == "cuda"
    return {"gpu_memory_mb" if on_gpu else "memory_mb": provenance.peak_memory_mb(ranks.device)}


def first(config: DictConfig, overrides: Sequence[str]) -> list[Path]:
    """The folders of the runs that this one starts from (`starts`); a run without a record is run now.

    Waits for a run that another process is running. Raises UserError if one did not finish.
    """
    folders = []
    starts = starts_of(config, overrides)
    build(config.method).check_starts(len(starts), [str(start.task.name) for start, _ in starts])
    for start, own in starts:
        task = str(start.task.name)
        run_record = awaited(start, own, task)
        if run_record["status"] != "finished":
            raise UserError(f"cannot start from the {task} run {run_record['signature']}: it {run_record['status']}")
        folders.append(Path(str(start.paths.runs)) / str(start.profile_name) / str(run_record["signature"]))
    return folders


def awaited(start: DictConfig, overrides: Sequence[str], task: str) -> dict[str, Any]:
    """The record of a run that several runs may start from: the first process runs it, the others wait."""
    announced = False
    while True:
        try:
            return run(start, overrides)
        except Busy:
            if not announced:
                print(f"waiting for the {task} run, which another process is running", file=sys.stderr, flush=True)
            announced = True
            time.sleep(WAIT_SECONDS)


def measure(
    config: DictConfig, config_dict: dict[str, Any], name: str, folder: Path, metrics: Metrics, starts: Sequence[Path] = ()
) -> dict[str, Any]:
    """The straight line: load, apply, encode, train, answer, score, record. Each stage takes the values of earlier ones.

    Ranks other than the first only train, then receive the first one's record. A row without a model has human answers.
    """
    start = time.monotonic()
    # Build everything that the configuration names before anything is loaded, so that a mistake shows at once.
    task, method, data, settings = (build(config[group]) for group in ("task", "method", "data", "train"))
    objective, spec, ranks, label = objective_of(config), backbone_of(config), Ranks.here(config.device), label_of(config)
    probe = build(config.probe) if config.get("probe") else None
    settings.ready()
    precision = resolve_precision(settings.precision, ranks.device)
    allow_tf32(ranks.device, precision)  # now, so that the record says how all of the run's products were computed
    provenance.reset_peak_memory(ranks.device)

    splits = read(task, config.paths.data)
    if splits.said and ranks.first and not attempts.in_sweep():  # each run of a sweep would say the same
        console.say(splits.said)
    test = subset(splits.test, data.n_test, data.subset_seed)
    overlap = met_in_test(task, subset(splits.train, data.n_train, data.subset_seed), test)
    model: Adapted | None = None
    training: Trained | None = None
    answers: Answers | None = None
    cut, chosen_by, earlier = 0, 0, 0.0  # `earlier`: seconds that earlier attempts trained and answered, without their start-up
    if method.needs_model:
        on_general_text = partial(general_loss, objective=objective, dtype=precision)
        model = adapt(spec, method, config.seed, ranks.device, starts, probe, folder, on_general_text)
        rows = encode(splits, objective, model.backbone, method, data) if model.trainable.parameters() else None
        shots = subset(splits.train, data.shots, config.seed)
        prompts(model.backbone, method, objective, data.max_length, test, shots)  # refuses before training
        settle(folder, splits, model.backbone, ranks)
        if rows:
            cut, chosen_by, train_start = rows.cut, len(rows.dev), time.monotonic()
            training = learn(model, rows, objective, settings, config.seed, folder, metrics, label, ranks)
            earlier = max(0.0, training.seconds - (time.monotonic() - train_start))
            if model.observer and training.status == "finished" and ranks.first:
                asked_for = (model.backbone, method, objective, rows.dev, settings.eval_batch_size, precision)
                model.observer.finish(training.steps, partial(all_losses, *asked_for))
        ask = partial(answer, model.backbone, method, objective, data.max_length, settings.precision, label)
        if ranks.first and test and (training is None or training.status == "finished"):
            if before := resume_files.load_answers(folder):
                answers = Answers(**before)
                earlier += answers.seconds
            else:
                code = provenance.attempt(ranks.device, precision, training.code if training else None)
                answers = replace(ask(test, shots), code=code)
                resume_files.save_answers(folder, vars(answers))
        outputs = answers.outputs if answers else []
    else:
        outputs, test = task.human(test)
    if not ranks.first:
        return ranks.led(dict[str, Any])

    scores = task.score(outputs, test) if outputs else None
    measurements = facts(model, cut, chosen_by, training, starts, answers, scores)
    if model and answers and data.n_train_scored:
        measurements |= scores_on_train(ask, task, subset(splits.train, data.n_train, data.subset_seed), data, test)
    if model and model.alone is not None and (training is None or training.status == "finished"):
        losses = {"before": model.alone, "after": on_general_text(model.backbone, method=method)}
        measurements["general_loss"] = {key: record.finite(value) for key, value in losses.items() if value is not None}
    if model and not test:  # data.n_test=0: the trained weights and their dev loss are all that is wanted
        measurements["scores"] = {"dev_loss": measurements.get("dev_loss")}
    measurements["wall_seconds"] = round(time.monotonic() - start + earlier, 1)
    measurements["peak_memory_mb"] = max(training.peak_memory_mb if training else 0, provenance.peak_memory_mb(ranks.device))
    result = {
        "schema": record.SCHEMA,
        "signature": name,
        # Only training can collapse: an untuned backbone may give every input the same answer.
        "status": judge(training.status, outputs, spec.source == "random") if training else "finished",
        "asked": signature.identity(config_dict),
        "row": {key: config_dict["row"][key] for key in ("table", "name", "label")},
        "measured": measurements,
        "where": {
            **place(settings, ranks, answers.code if answers else training.code if training else None),
            **from_model(model, settings, objective),
            **({"scored_by": programs} if (programs := jvm.used()) else {}),
            "data": {"caption": splits.caption, "hashes": splits.hashes, **overlap, **about_data(task)},
        },
    }
    resume_files.thin(folder, config.launch.keep_gb)
    triples = zip(test, outputs if task.keeps_outputs else [None] * len(outputs), scores.per_input, strict=True) if scores else ()
    predictions = [{"key": example.key, **({} if text is None else {"output": text}), **rest} for example, text, rest in triples]
    result = record.save(folder, result, predictions)
    metrics.finish(result, predictions)
    clean(folder)
    return ranks.led(lambda: result)


def facts(
    model: Adapted | None,
    cut: int,
    dev_rows: int,
    training: Trained | None,
    starts: Sequence[Path],
    answers: Answers | None,
    scores: Scores | None,
) -> dict[str, Any]:
    """The measurements of a record, except wall time and peak memory.

    cut: rows that were cut to data.max_length. dev_rows: rows that chose the weights.
    """
    measurements: dict[str, Any] = {"parameters": {"method": 0, "head": 0, "total": 0}}
    if model:
        measurements = {"parameters": model.counts, "note": model.note}
    if cut:
        measurements["rows_cut"] = cut
    if training:
        measurements |= training.facts() | {"dev_rows": dev_rows}
    if starts:
        measurements["started_from"] = [start.name for start in starts]
    if answers:
        measurements |= {"test_rows_cut": answers.cut} if answers.cut else {}
        measurements |= {"decode_seconds": answers.seconds, "forward_calls": answers.calls, **answers.seen}
    if scores:
        measurements["scores"] = finite_scores(scores)
    return measurements


def scores_on_train(
    ask: Callable[[Sequence[Example]], Answers],
    task: AbstractTask,
    rows: Sequence[Example],
    data: DataConfig,
    test: list[Example],
) -> dict[str, Any]:
    """The scores on `data.n_train_scored` of the training rows, for the generalisation gap, and those of one constant answer.

    A random sample, since a file may be ordered by source, as STS-B's and CoLA's are.
    """
    some = subset(rows, min(data.n_train_scored, len(rows)), data.subset_seed)
    examples = [replace(example, references=(example.target,)) for example in some]
    usual = Counter(example.target for example in some).most_common(1)[0][0]
    return {
        "train_scores": finite_scores(task.score(ask(examples).outputs, examples)),
        "train_scored": len(some),
        "one_answer_scores": finite_scores(task.score([usual] * len(test), test)),
    }


def finite_scores(scores: Scores) -> dict[str, Any]:
    """The scores as a record holds them: None for one that is not finite."""
    return {key: record.finite(value) for key, value in scores.values.items()}


def about_data(task: AbstractTask) -> dict[str, Any]:
    """The record's mark on data of which even a model's outputs may not be published, and settings that came from the data."""
    private = not task.publishes_outputs and getattr(task, "source", "") != "embedded"
    return ({"outputs_private": True} if private else {}) | ({"found": settings} if (settings := task.found) else {})


def judge(status: str, outputs: Sequence[str], drawn: bool = False) -> str:
    """`collapsed` if a finished model gives at least 99 % of inputs the same answer (text, class or number), else `status`.

    drawn: whether the model is one for tests, of random weights: it knew nothing that its training could have lost.
    """
    if drawn:
        return status
    if status == "finished" and len(outputs) > 1 and Counter(outputs).most_common(1)[0][1] >= COLLAPSED * len(outputs):
        return "collapsed"
    return status


def place(settings: TrainConfig, ranks: Ranks, before: dict[str, Any] | None) -> dict[str, Any]:
    """Code, machine and precision of a run, and how its batches were split, if they were: dropout masks then differ."""
    environment = provenance.where(provenance.attempt(ranks.device, resolve_precision(settings.precision, ranks.device), before))
    if ranks.size > 1:
        environment["processes"] = ranks.size
    if settings.micro_batch_size:
        environment["micro_batch_size"] = settings.micro_batch_size
    return environment


def from_model(model: Adapted | None, settings: TrainConfig, objective: Objective) -> dict[str, Any]:
    """The backbone of a run and how its rows were batched; a row without a model has neither."""
    if model is None:
        return {"backbone": {"label": "none", "sha256": ""}}
    return {
        "batching": model.backbone.batching,
        "batch_sizes": {"eval": settings.eval_batch_size, "decode": objective.decoding.batch_size},
        "backbone": model.backbone.recorded,
    }
