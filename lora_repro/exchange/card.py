"""The model card of an export: what it is, its scores and from how many runs, its training command, how to use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lora_repro.exchange import snippets
from lora_repro.planning.rerun_command import Command, trust

if TYPE_CHECKING:
    from lora_repro.exchange.restore import Restored


def card(run: Restored, form: str, made_by: Command) -> str:
    """The README.md of a run exported as `form` (peft or merged). `made_by`: the command that trains it again."""
    record, backbone = run.record, run.backbone
    config, measurements, environment = record["asked"], record["measured"], record["where"]
    name, base = record["row"]["label"] or config["method"]["name"], environment["backbone"]["label"]
    count = measurements["parameters"]
    facts = {
        "Base model": f"{base}: {base_of(config['backbone'])}",
        "Method": _named(config["method"]),
        "Trained values": f"{count['method']:,}" + (f", and {count['head']:,} in the head" if count["head"] else ""),
        "Training": settings(config["train"]),
        "Data": environment["data"]["caption"],
        "Profile, seed": f"{run.profile}, {config['seed']}",
        "Run": f"{record['signature']}, {record['status']}, {environment['finished_at'][:10]}, commit {_commit(environment)}",
    }
    # An export is opened without its method's class.
    answer = " ".join(["lora-repro generate FOLDER", *trust({**config, "method": {}})])
    source = "" if "synthetic" in environment["data"]["caption"] else run.task.attribution
    return "\n".join(
        [
            *_head(config, form),
            f"# {name} on {base}, {config['task']['name']}",
            "",
            "| | |\n|---|---|",
            *(f"| {key} | {_cell(value)} |" for key, value in facts.items()),
            "",
            "## Scores",
            "",
            *_scores(measurements, environment),
            "",
            "## Training command",
            "",
            f"    {made_by.text}",
            "",
            *([f"At commit {environment['git_sha'] or 'unknown'}; {made_by.problem}.", ""] if made_by.problem else []),
            "## Use",
            "",
            f"`{answer} {snippets.example(config['task']['name'], backbone)}` answers as the run did"
            f" (decoding: {settings(config['decode']) or 'the most likely class'}). Without this project:",
            "",
            "```python",
            snippets.code(config["backbone"], form, backbone),
            "```",
            "",
            *snippets.notes(config, form, backbone, run.task.labels),
            "",
            "## Licence",
            "",
            "The base model and the data keep their licences. The trained weights are subject to both: read them before you share"
            " this export."
            f" {source + ' ' if source else ''}The code that trained it is under the MIT licence.",
            "",
        ]
    )


def _head(config: Mapping[str, Any], form: str) -> list[str]:
    """The YAML that model hubs read."""
    hub = config["backbone"].get("hub_id") if config["backbone"]["source"] == "hub" else None
    library = "peft" if form == "peft" else "transformers"
    tags = f"tags: [lora_repro, {config['method']['name']}, {config['task']['name']}]"
    return ["---", f"library_name: {library}", *([f"base_model: {hub}"] if hub else []), tags, "---", ""]


def base_of(backbone: Mapping[str, Any]) -> str:
    """Where the weights under an adapter come from and how they are identified."""
    if backbone["source"] == "hub":
        return f"{backbone['hub_id']} at revision {backbone['revision']}"
    if backbone["source"] == "wheel":
        wheel = backbone["wheel"]
        return f"from the wheel {wheel['package']} {wheel['version']} (`lora-repro fetch {backbone['name']}`)"
    return "a folder" if backbone["source"] == "folder" else "random weights, for tests: it knows nothing"


def settings(node: Mapping[str, Any]) -> str:
    """`rank 4, alpha 32, targets query value`, or `methods lora (rank 4, ...) and bitfit`; only names are left out."""
    return ", ".join(f"{key} {_said(value)}" for key, value in node.items() if key not in ("_target_", "name"))


def _said(value: Any) -> str:
    if isinstance(value, list):
        return (" and " if any(isinstance(part, Mapping) for part in value) else " ").join(map(_said, value))
    return _named(value) if isinstance(value, Mapping) and "name" in value else str(value)


def _named(node: Mapping[str, Any]) -> str:
    """`lora (rank 4, alpha 32)`; without settings only the name."""
    return f"{node['name']} ({details})" if (details := settings(node)) else str(node["name"])


def _scores(measurements: Mapping[str, Any], environment: Mapping[str, Any]) -> list[str]:
    scores = measurements.get("scores") or {}
    if not scores:
        return ["Not scored."]
    rows = [f"| {name} | {'—' if value is None else f'{value:.4f}'} |" for name, value in scores.items()]
    note = (
        f"One run (n = 1): no spread over seeds, so these scores support no conclusion about the method. Scores are fractions"
        f" (NIST has its own unit), measured in {environment['precision']} on the data named above."
    )
    return ["| metric | value |\n|---|---|", *rows, "", note]


def _commit(environment: Mapping[str, Any]) -> str:
    if not environment["git_sha"]:
        return "unknown"  # an installed package
    return f"{environment['git_sha']}{' with uncommitted changes' if environment['dirty'] else ''}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
