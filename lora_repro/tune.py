"""Choose a row's learning rate on dev data: three trials a method, never more for one than for another.

    python -m lora_repro.tune experiment=e2e row/e2e=lora profile=laptop paths.data=/data/e2e

Trains with a third of, once and three times the row's own `train.lr`, on a few training rows (`tune.n_train`, 512 where a
profile does not say), and keeps the rate with the lowest dev loss. Nothing is decoded and test data is not touched; GLUE at the
paper's scale has no dev rows but the ones it reports, and there, as in the paper, they choose too. The choice goes to
conf/tuned/, where later runs find it, and the trials to results/<profile>/trials/.
"""

from __future__ import annotations

from lora_repro import manners

manners.begin(__name__, __doc__)  # --help does not wait for the imports below

import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lora_repro import provenance, record
from lora_repro.compose import CONF, build, compose, resolved
from lora_repro.errors import UserError
from lora_repro.stages import adapt, backbone_of, encode, label_of, learn, objective_of
from lora_repro.tracking import Metrics
from lora_repro.train import kept
from lora_repro.train.progress import Trained
from lora_repro.train.ranks import Ranks

FACTORS = (1 / 3, 1.0, 3.0)
N_TRAIN = 512


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
        record.write_json(path, result)
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


def tuned_text(config: DictConfig, chosen: dict[str, Any], trials: list[dict[str, Any]]) -> str:
    """The yaml of the choice: the rate and no more, the trials as comments."""
    lines = [
        "# @package _global_",
        f"# Chosen by dev loss after {chosen['n_train']} training rows, seed {config.seed}. Trials:",
    ]
    for found in trials:
        loss = "diverged" if found["dev_loss"] is None else f"dev loss {found['dev_loss']:.4f}"
        lines.append(f"#   lr {found['lr']:.3g}: {loss}")
    return "\n".join([*lines, f"train: {{lr: {chosen['lr']:.3g}}}"]) + "\n"


def tune(arguments: list[str]) -> Path:
    """Run the trials and write the choice. Raises UserError if there is a choice already, or if every trial diverged."""
    manners.unmirrored(arguments, "trials")
    config = compose(arguments)
    if not config.row.label:
        raise UserError("name one row to tune, for example: experiment=e2e row/e2e=lora")
    path = CONF / "tuned" / f"{config.profile_name}_{config.task.name}_{config.method.name}.yaml"
    if path.exists():
        raise UserError(f"{path.name} is there already; delete it to tune again")
    trials = [trial(config, float(f"{config.train.lr * factor:.3g}")) for factor in FACTORS]
    finite = [found for found in trials if found["dev_loss"] is not None]
    if not finite:
        raise UserError("every trial diverged; lower the row's train.lr and tune again")
    chosen = min(finite, key=lambda found: float(found["dev_loss"]))
    published = CONF.parent / "results" / config.profile_name / "trials"
    record.write_json(
        published / f"{config.task.name}_{config.method.name}.json",
        {"chosen": chosen["lr"], "trials": trials},
    )
    record.write_text(path, tuned_text(config, chosen, trials))
    return path


def main(arguments: list[str]) -> int:
    try:
        path = tune(arguments)
    except UserError as error:
        return manners.failed(error)
    print(path.read_text(encoding="utf-8"), end="")
    manners.say(f"written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
