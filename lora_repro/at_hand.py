"""Is a backbone on this machine already? Nothing here downloads."""

from __future__ import annotations

from typing import Any

from lora_repro.backbone import BackboneSpec
from lora_repro.byte_tokenizer import byte_tokenizer
from lora_repro.fetch import backbone_folder


def weights(spec: BackboneSpec) -> bool:
    """Whether `spec.load()` would find its weights here."""
    if spec.source == "random":
        return True
    if spec.source == "wheel":
        return (backbone_folder(spec.name) / "model.safetensors").is_file()
    from transformers.utils.hub import cached_file

    if not (spec.hub_id and spec.revision):
        return False
    try:
        return bool(cached_file(spec.hub_id, "model.safetensors", revision=spec.revision, local_files_only=True))
    except OSError:
        return False


def tokenizer(spec: BackboneSpec) -> Any | None:
    """The backbone's own tokenizer, or None where it is not here."""
    if spec.source == "random":
        return byte_tokenizer(*filter(None, (spec.cls, spec.eos, spec.pad)))
    if spec.source == "hub" and not (spec.hub_id and spec.revision):
        return None
    from transformers import AutoTokenizer

    where = {"revision": spec.revision} if spec.source == "hub" else {}
    name = str(spec.hub_id) if spec.source == "hub" else str(backbone_folder(spec.name))
    try:
        return AutoTokenizer.from_pretrained(name, local_files_only=True, **where)
    except (OSError, ValueError):
        return None
