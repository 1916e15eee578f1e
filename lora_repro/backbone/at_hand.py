"""Is a backbone on this machine already? Nothing here downloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lora_repro.backbone.byte_tokenizer import byte_tokenizer
from lora_repro.backbone.fetch import backbone_folder
from lora_repro.backbone.spec import BackboneSpec


def weights(spec: BackboneSpec) -> bool:
    """Whether `spec.load()` would find its weights here."""
    if spec.source == "random":
        return True
    if spec.source == "wheel":
        return (backbone_folder(spec.name) / "model.safetensors").is_file()
    if spec.source == "folder":
        return Path(str(spec.hub_id)).is_dir()
    from huggingface_hub import try_to_load_from_cache

    if not (spec.hub_id and spec.revision):
        return False
    # A str where it is here; None, or a mark where the hub is known to have no such file.
    files = ("model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(spec.hub_id, file, revision=spec.revision), str) for file in files)


def tokenizer(spec: BackboneSpec) -> Any | None:
    """The backbone's own tokenizer, or None where it is not here."""
    if spec.source == "random":
        return byte_tokenizer(*filter(None, (spec.cls, spec.eos, spec.pad)))
    if spec.source == "hub" and not (spec.hub_id and spec.revision):
        return None
    from transformers import AutoTokenizer

    where = {"revision": spec.revision} if spec.source == "hub" else {}
    name = str(backbone_folder(spec.name)) if spec.source == "wheel" else str(spec.hub_id)
    try:
        return AutoTokenizer.from_pretrained(name, local_files_only=True, trust_remote_code=False, **where)
    except (OSError, ValueError):
        return None
