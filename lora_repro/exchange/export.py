"""A trained run as a peft adapter or a plain transformers checkpoint, with a model card (`commands/export.py`)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from lora_repro import console
from lora_repro.backbone import weights
from lora_repro.errors import UserError
from lora_repro.exchange import merged, peft_folder
from lora_repro.exchange.card import card
from lora_repro.exchange.open_checkpoint import ORIGIN
from lora_repro.exchange.restore import Restored, restore
from lora_repro.files import sealed, sha256, write_json, write_text
from lora_repro.methods.base import require
from lora_repro.planning.rerun_command import command

FORMATS = ("peft", "merged")


def export(run: Path, target: Path, form: str = "peft", dequantise: bool = False) -> Path:
    """Write the trained model of a run's folder into the new folder `target`, all of it or nothing. Returns `target`.

    `dequantise` turns 4-bit weights into floats, and prints what that loses. Raises UserError if the run cannot be restored,
    the format cannot represent the model exactly, or `target` is not empty.
    """
    target = target.resolve()
    taken = target.exists() and (not target.is_dir() or any(target.iterdir()))
    require(not taken, f"{target} is not empty: give a new folder")
    trained_run = restore(run)
    counts = trained_run.record["measured"]["parameters"]
    require(counts["method"] + counts["head"] > 0, "this run trained nothing: there is nothing to export")
    if dequantise:
        require(form == "merged", "--dequantise needs --format merged: an adapter does not contain the base's weights")
        require(bool(asked_of(trained_run).get("quantise")), "this run's weights are already floats: leave out --dequantise")
        console.say(dequantise_model(trained_run.backbone.model))
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        write(trained_run, temporary, form)
        if target.exists():
            target.rmdir()
        temporary.rename(target)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write {target}: {getattr(error, 'strerror', None) or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def write(run: Restored, folder: Path, form: str) -> None:
    """Write the files of one export. The restored model cannot be used afterwards."""
    config = run.record["asked"]
    if form == "peft":
        random_weights = config["backbone"].get("pretrained") is False
        require(not random_weights, "this run's backbone has random weights, which are not published: use --format merged")
        base = config["backbone"].get("hub_id") or config["backbone"]["name"]
        peft_folder.save(folder, run.backbone, run.method, base, config["backbone"].get("revision"))
    else:
        merged.save(folder, run.backbone, run.task.labels)
    text = card(run, form, command(run.record, run.profile))
    files = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    write_json(folder / ORIGIN, sealed({"format": form, "profile": run.profile, "record": run.record, "files": files}))
    write_text(folder / "README.md", text)


def asked_of(run: Restored) -> dict[str, Any]:
    """The backbone that the run asked for."""
    spec: dict[str, Any] = run.record["asked"]["backbone"]
    return spec


def dequantise_model(model: nn.Module) -> str:
    """Dequantise the model. Returns one line on what that loses."""
    before = weights.stored_bytes(model)
    matrices = weights.dequantise(model)
    return (
        f"dequantised {matrices} matrices: the model takes {weights.stored_bytes(model) / 2**20:,.1f} MiB instead of "
        f"{before / 2**20:,.1f}; it answers as the run did, but quantising it again would also round the update"
    )
