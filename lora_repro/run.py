"""One run is a straight line: backbone, method, data, training, decoding, scoring, record.

    python -m lora_repro.run method=lora seed=1                     one run at the default profile
    python -m lora_repro.run experiment=e2e                         every row of a table
    python -m lora_repro.run experiment=e2e row/e2e=lora profile=laptop paths.data=/data/e2e

A run that has a record is not repeated; an unfinished one goes on from its checkpoint.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from lora_repro import outcome, provenance, record
from lora_repro.backbone import Backbone, BackboneSpec
from lora_repro.compose import CONF, build, compose
from lora_repro.data import DataConfig, encode, encode_prompt, subset
from lora_repro.decode import BeamSearch, Prompt
from lora_repro.errors import UserError
from lora_repro.estimate import announce
from lora_repro.methods.base import AbstractMethod, Shape
from lora_repro.precision import autocast, resolve_precision, round_frozen
from lora_repro.tasks.base import AbstractTask, Example, Splits
from lora_repro.tracking import Metrics
from lora_repro.train import TrainConfig, train


def run(config: DictConfig) -> dict[str, Any]:
    """The record of one configuration: found if it exists, else measured and saved. Raises UserError."""
    asked: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    name = record.signature(asked)
    folder = Path(config.paths.runs) / config.profile_name / name
    if found := record.find(folder):
        return found
    with record.lock(folder):
        if found := record.find(folder):  # another process finished it while we waited to start
            return found
        try:
            return measure(config, asked, name, folder)
        except OSError as error:
            raise UserError(f"cannot write in {folder}: {error.strerror or error}; free some space, then run again") from error


@dataclass(frozen=True)
class Parts:
    """Everything a configuration names, built. A mistake in the last part then costs nothing of the others."""

    method: AbstractMethod
    task: AbstractTask
    backbone: BackboneSpec
    train: TrainConfig
    decoder: BeamSearch
    data: DataConfig
    device: torch.device
    seed: int
    label: str

    @classmethod
    def of(cls, config: DictConfig) -> Parts:
        name = config.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(
            method=build(config.method),
            task=build(config.task),
            backbone=build(config.backbone),
            train=build(config.train),
            decoder=build(config.decode),
            data=DataConfig(**config.data),
            device=torch.device(name),
            seed=config.seed,
            label=f"{config.row.name if config.row.table else config.method.name} seed {config.seed}",
        )


def measure(config: DictConfig, asked: dict[str, Any], name: str, folder: Path) -> dict[str, Any]:
    """The straight line. Each stage gets the value of the one before and nothing else."""
    started = time.monotonic()
    parts = Parts.of(config)
    provenance.reset_peak_memory()
    splits = parts.task.load(config.paths.data)
    test = subset(splits.test, parts.data.n_test, parts.data.subset_seed)
    metrics = Metrics(folder / "metrics.jsonl", build(config.tracker).start(name, asked, asked["row"], folder))
    outputs: list[str] = []
    if parts.method.needs_model:
        backbone, measured = adapt(parts, splits, folder, metrics)
        origin = {"label": backbone.label, "sha256": backbone.sha256}
        if measured["status"] == "finished":
            outputs = decode(backbone, parts, test, measured)
    else:
        outputs, test = parts.task.human(test)
        measured = {"status": "finished", "parameters": {"method": 0, "head": 0, "total": 0}}
        origin = {"label": "none", "sha256": ""}
    predictions = []
    if outputs:
        scores = parts.task.score(outputs, test)
        measured["scores"] = {key: record.finite(value) for key, value in scores.values.items()}
        predictions = [
            {"key": example.key, "output": text, **statistics}
            for example, text, statistics in zip(test, outputs, scores.per_input, strict=True)
        ]
        metrics.finish(scores.values)
    status = measured.pop("status")
    if "steps" in measured:  # an untuned backbone may say what it likes
        status = outcome.judge(status, outputs)
    measured["wall_seconds"] = round(time.monotonic() - started, 1)
    measured["peak_memory_mb"] = provenance.peak_memory_mb(parts.device)
    result = {
        "schema": record.SCHEMA,
        "signature": name,
        "status": status,
        "asked": record.identity(asked),
        "row": {key: asked["row"][key] for key in ("table", "name", "label")},
        "measured": measured,
        "where": {
            **provenance.where(parts.device, resolve_precision(parts.train.precision, parts.device)),
            "backbone": origin,
            "data": {"caption": splits.caption, "hashes": splits.hashes},
        },
    }
    record.save(folder, result, predictions)
    outcome.clean(folder)
    return result


def adapt(parts: Parts, splits: Splits, folder: Path, metrics: Metrics) -> tuple[Backbone, dict[str, Any]]:
    """A backbone adapted by the method and trained, and what that measured. Goes on from whatever `folder` holds."""
    backbone = parts.backbone.load().to(parts.device)
    shape = Shape.of(backbone)
    torch.manual_seed(parts.seed)
    trainable = parts.method.apply(backbone)
    backbone.to(parts.device)  # the parameters that the method created
    measured = {"status": "finished", "parameters": trainable.counts(backbone.model), "note": parts.method.note(shape)}
    parameters = {**trainable.method, **trainable.head}
    round_frozen(backbone.model, resolve_precision(parts.train.precision, parts.device), backbone.embedding)
    if parameters:
        trained = outcome.restore(folder, parameters)
        if trained is None:
            data, slots = parts.data, parts.method.virtual_tokens
            train_rows, dev_rows = (
                encode(subset(examples, n, data.subset_seed), backbone, slots, data.max_length)
                for examples, n in ((splits.train, data.n_train), (splits.dev, data.n_dev))
            )
            trained = train(
                backbone,
                parameters,
                train_rows,
                dev_rows,
                parts.train,
                parts.seed,
                folder / "checkpoints",
                metrics.log,
                parts.label,
            )
            outcome.keep(folder, parameters, trained)
        measured.update(outcome.facts(trained))
    return backbone, measured


def decode(backbone: Backbone, parts: Parts, test: list[Example], measured: dict[str, Any]) -> list[str]:
    """Decode every distinct input once, in the precision of training; notes in `measured` what it took."""
    encoded = [encode_prompt(example.input, backbone, parts.method.virtual_tokens) for example in test]
    prompts = [Prompt(row.ids, row.virtual) for row in encoded]
    started = time.monotonic()
    dtype = resolve_precision(parts.train.precision, parts.device)
    backbone.model.requires_grad_(False)
    round_frozen(backbone.model, dtype, backbone.embedding)
    with (
        tqdm(total=len(prompts), desc=f"{parts.label}: decode", unit="input", dynamic_ncols=True) as bar,
        autocast(parts.device, dtype),
    ):
        decoded = parts.decoder.decode(
            backbone.model, backbone.tokenizer, prompts, backbone.eos, backbone.pad, lambda n: bar.update(n) and None
        )
    measured["decode_seconds"] = round(time.monotonic() - started, 1)
    measured["forward_calls"] = decoded.forward_calls
    return decoded.outputs


def summary(found: dict[str, Any]) -> str:
    """One line a finished run: what was scored, with what, in how long."""
    scores = found["measured"].get("scores", {})
    shown = "  ".join(f"{key} {value:.4g}" if value is not None else f"{key} -" for key, value in scores.items())
    seed, row = found["asked"]["seed"], found["row"]["name"]
    return f"{row:<16} seed {seed}  {found['status']}  {shown}  ({found['measured']['wall_seconds']:.0f} s)"


def check_writable(folder: Path) -> None:
    """Raise UserError unless files can be made in `folder`; Hydra would answer with a traceback."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x" * 4096)
    except OSError as error:
        raise UserError(f"cannot write in {folder}: {error.strerror}; choose another place with paths.runs=/path") from error


exit_code = 0


def job(config: DictConfig) -> None:
    """One job of a sweep. Mistakes become one line and a non-zero exit at the end; the other jobs go on."""
    global exit_code
    try:
        if config.row.table and not config.row.label:
            raise UserError(f"experiment {config.row.table} needs its rows: run it as experiment={config.row.table}, without -m")
        if config.seed >= config.row.seeds:
            return  # this row asks for fewer seeds than the sweep offers
        print(summary(run(config)), flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        exit_code = exit_code or error.exit_code
        if error.exit_code == 130 or (error.exit_code == 75 and HydraConfig.get().mode == RunMode.RUN):
            sys.exit(error.exit_code)


def main() -> None:
    """Command line: Hydra composes, `job` runs."""
    try:
        # A mistake that Hydra would meet in every job of a sweep is one line here, before the first.
        fixed = [item for item in sys.argv[1:] if not item.startswith("-") and not set(item) & set(",*(")]
        config = compose(fixed)
        check_writable(Path(config.paths.runs))
        announce(sys.argv[1:])
        hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(job)()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
