"""Choose a row's learning rate on dev data: three trials a method, never more for one than for another.

    python -m lora_repro tune experiment=e2e row/e2e=lora profile=laptop paths.data=/data/e2e

Trains with a third of, once and three times the row's own `train.lr`, on a few training rows (`tune.n_train`, 512 where a
profile does not say), and keeps the rate with the lowest dev loss. Nothing is decoded and test data is not touched; GLUE at the
paper's scale has no dev rows but the ones it reports, and there, as in the paper, they choose too. The choice goes into
conf/tuned/<profile>.yaml, where later runs find it, and the trials to results/<profile>/trials/.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lora_repro import cli, manifest, provenance, record
from lora_repro.config.compose import CONF, build, compose, resolved
from lora_repro.disk import write_json, write_text
from lora_repro.errors import UserError
from lora_repro.stages import adapt, backbone_of, encode, label_of, learn, objective_of
from lora_repro.tracking.metrics import Metrics
from lora_repro.train import kept
from lora_repro.train.progress import Trained
from lora_repro.train.ranks import Ranks

FACTORS = (1 / 3, 1.0, 3.0)
N_TRAIN = 512
HEAD = """\
# @package train
# The learning rate of each task and method, chosen by dev loss at seed 0 from three (python -m lora_repro tune). The trials, with
# their losses and numbers of rows: results/{}/trials/<task>_<method>.json.
"""


def shortened(config: DictConfig, lr: float) -> tuple[DictConfig, Path]:
    """The configuration of a trial at `lr`, and the trial's folder. Raises UserError for a run that starts from another."""
    if config.get("starts"):
        raise UserError(f"a trial starts from no other run, and this one has starts={config.starts}: starts=null")
    config = config.copy()
    OmegaConf.set_struct(config, False)
    config.pop("probe", None)  # a trial is trained and nothing else
    config.train.lr = lr
    most = OmegaConf.select(config, "tune.n_train") or N_TRAIN
    config.data.n_train = min(most, config.data.n_train or most)
    config.train.epochs = OmegaConf.select(config, "tune.epochs") or config.train.epochs
    asked = resolved(config)
    # Decoding is no part of a trial.
    name = record.signature({key: value for key, value in asked.items() if key != "decode"})
    return config, Path(config.paths.runs) / config.profile_name / "trials" / name


def trial(config: DictConfig, lr: float) -> dict[str, Any]:
    """Train once at `lr` and return its dev loss (None if it diverged); found again if it was run before.

    Raises UserError if there is nothing to train.
    """
    config, folder = shortened(config, lr)
    path = folder / "trial.json"
    if path.exists():
        return record.read(path)
    with record.lock(folder):
        trained, parameters = trained_at(config, folder)
        facts = trained.facts()
        result = {
            "schema": record.SCHEMA,
            "signature": folder.name,
            "row": config.row.name,
            "lr": lr,
            "n_train": config.data.n_train,
            "status": trained.status,
            # What it had reached before it diverged says nothing for this rate.
            "dev_loss": facts["dev_loss"] if trained.status == "finished" else None,
            "steps": facts["steps"],
            "train_seconds": facts["train_seconds"],
            "parameters": parameters,
            **trained.code,
            "finished_at": provenance.now(),
        }
        write_json(path, result)
        kept.clean(folder)
        (folder / kept.ADAPTER).unlink(missing_ok=True)
    return result


def trained_at(config: DictConfig, folder: Path) -> tuple[Trained, dict[str, int]]:
    """How a trial's training ended, and what it trained. Raises UserError if there is nothing to train."""
    task, method, data, settings = (build(config[group]) for group in ("task", "method", "data", "train"))
    objective, ranks = objective_of(config), Ranks.here(config.device)
    splits = task.load(config.paths.data)
    model = adapt(backbone_of(config), method, config.seed, ranks.device)
    if not model.trainable.parameters():
        raise UserError(f"{config.method.name} trains nothing: there is no rate to choose")
    rows = encode(splits, objective, model.backbone, method, data)
    metrics = Metrics(folder / "metrics.jsonl")
    trained = learn(model, rows, objective, settings, config.seed, folder, metrics, label_of(config), ranks)
    return trained, model.trainable.counts(model.backbone.model)


def told(trials: list[dict[str, Any]]) -> str:
    """A line a trial."""
    losses = ["diverged" if found["dev_loss"] is None else f"dev loss {found['dev_loss']:.4f}" for found in trials]
    return "\n".join(f"lr {found['lr']:.3g}: {loss}" for found, loss in zip(trials, losses, strict=True))


def with_rate(table: str, task: str, method: str, lr: float) -> str:
    """The table of a profile with one more rate, below its task's others; whatever stands in it stays as it is written."""
    lines, line = table.splitlines(), f"  {method}: {{lr: {lr:.3g}}}"
    if f"{task}:" not in lines:
        return "\n".join([*lines, f"{task}:", line]) + "\n"
    end = first = lines.index(f"{task}:") + 1
    for place in range(first, len(lines)):
        if not lines[place].startswith("  "):
            break
        end = place + 1
    return "\n".join([*lines[:end], line, *lines[end:]]) + "\n"


def tune(arguments: Sequence[str]) -> tuple[Path, list[dict[str, Any]]]:
    """Run the trials and write the choice into the profile's table; the table and the trials.

    Raises UserError if there is a choice already, or if every trial diverged.
    """
    cli.unmirrored(arguments, "trials")
    config = compose(list(arguments))
    if not config.row.label:
        raise UserError("name one row to tune, for example: experiment=e2e row/e2e=lora")
    task, method = str(config.task.name), str(config.method.name)
    path = CONF / "tuned" / f"{config.profile_name}.yaml"
    refuse_chosen(path, task, method)
    trials = [trial(config, float(f"{config.train.lr * factor:.3g}")) for factor in FACTORS]
    finite = [found for found in trials if found["dev_loss"] is not None]
    if not finite:
        raise UserError("every trial diverged; lower the row's train.lr and tune again")
    chosen = min(finite, key=lambda found: float(found["dev_loss"]))
    published = CONF.parent / "results" / config.profile_name / "trials"
    write_json(published / f"{task}_{method}.json", {"chosen": chosen["lr"], "trials": trials})
    manifest.note(published.parents[1], [published / f"{task}_{method}.json"])
    with record.lock(Path(config.paths.runs) / config.profile_name / "trials"):  # another method's may end now
        refuse_chosen(path, task, method)
        table = path.read_text(encoding="utf-8") if path.exists() else HEAD.format(config.profile_name)
        write_text(path, with_rate(table, task, method, chosen["lr"]))
    return path, trials


def refuse_chosen(path: Path, task: str, method: str) -> None:
    if path.exists() and OmegaConf.select(OmegaConf.load(path), f"{task}.{method}") is not None:
        raise UserError(f"conf/tuned/{path.name} has a rate of {method} on {task} already; delete its line to tune again")


@cli.command
def main(arguments: Sequence[str]) -> int:
    path, trials = tune(arguments)
    print(told(trials))
    cli.say(f"the best is written to {path}")
    return 0
