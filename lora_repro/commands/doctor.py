"""Check that this machine has what a profile needs: a tick per check, or the command that fixes it.

    make doctor                                                     for profile mini
    make doctor PROFILE=laptop DATA=/path/to/glue
    lora-repro doctor profile=paper experiment=e2e paths.data=/path/to/e2e

Exit code 1 if something that the profile needs is missing. A line with a dash is optional. `experiment=`, `backbone=`, `method=`
or `task=` limits the checks to what that needs; without them, the data of one experiment are enough.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_repro import console
from lora_repro.errors import UserError
from lora_repro.sweep import health
from lora_repro.sweep.health import Finding

if TYPE_CHECKING:
    from omegaconf import DictConfig

SYMBOLS = {"ready": ("✓", "ok", console.GREEN), "missing": ("✗", "NO", console.RED), "note": ("–", "--", console.YELLOW)}


@dataclass(frozen=True)
class Requirements:
    """What a profile runs: a configuration for each of its backbones, and one for each of its tasks."""

    profile: str
    experiment: str
    backbones: tuple[DictConfig, ...]
    tasks: tuple[DictConfig, ...]

    @property
    def texts(self) -> bool:
        """Whether an output is scored with METEOR."""
        return any("beam" in config.decode for config in self.tasks)

    @property
    def hub(self) -> bool:
        """Whether a backbone must be downloaded from the hub; `checks.data` covers the data."""
        from lora_repro.backbone import availability

        specs = [config.backbone for config in self.backbones]
        return any(spec.source == "hub" and not availability.has_weights(spec) for spec in specs)


def find_requirements(overrides: Sequence[str]) -> Requirements:
    """What all experiments, a named one, or a grid need at a profile. Raises UserError if that does not compose."""
    from omegaconf import DictConfig

    from lora_repro.config.compose import profile_of
    from lora_repro.config.paths import choices
    from lora_repro.planning.cells import cells

    profile, rest = profile_of(overrides)
    experiment = next((item.partition("=")[2] for item in rest if item.startswith("experiment=")), "")
    experiments = choices("row")
    if experiment and experiment not in experiments:
        raise UserError(f"no experiment {experiment!r}; choose from {', '.join(experiments)}")
    backbones: dict[str, Mapping[str, Any]] = {}
    tasks: dict[str, Mapping[str, Any]] = {}
    scope = experiment or ("this grid" if any(item.startswith(("backbone=", "task=", "method=")) for item in rest) else "")
    for table in [experiment] if scope else experiments:
        settings = [f"profile={profile}", "seed=0", *(item for item in rest if not item.startswith("experiment="))]
        if table:
            rows = choices(f"row/{table}")  # without a named experiment, a table's first row stands for all its rows
            settings = [f"experiment={table}", f"row/{table}={','.join(rows if experiment else rows[:1])}", *settings]
        for cell in cells(settings):
            task, backbone = cell.asked["task"]["name"], cell.asked["backbone"]
            tasks.setdefault(task, cell.asked)
            timed = cell.asked.get("bench") and backbone["source"] == "hub"  # latency is timed on random weights of its shape
            if not timed and (backbone.get("quantise") or backbone["name"] not in backbones):
                backbones[backbone["name"]] = cell.asked
    if not tasks:
        raise UserError(f"{scope or 'no experiment'} has no run with {' '.join(rest)}: change these settings")
    return Requirements(profile, scope, *(tuple(map(DictConfig, each.values())) for each in (backbones, tasks)))


def run_checks(overrides: Sequence[str]) -> Iterator[Finding]:
    """Run every check in turn and yield each finding at once. Raises UserError for what does not compose."""
    # If one of these fails, all later checks would fail for the same reason.
    for check in (health.python, health.packages):
        yield (finding := check())
        if not finding.ok:
            return
    requirements = find_requirements(overrides)
    yield health.device(requirements.profile)
    yield from health.disk(requirements.profile, Path(str(requirements.tasks[0].paths.runs)))
    yield health.meteor(requirements.texts)
    yield (hub := health.hub(requirements.hub))
    yield from (health.backbone(config, hub.ok) for config in requirements.backbones)
    read = [health.data(config, hub.ok) for config in requirements.tasks]
    enough = not requirements.experiment and any(item.ok for item in read)
    yield from (replace(item, needed=item.needed and not enough) for item in read)
    yield health.tracker()
    yield health.commit()


def shown(finding: Finding) -> str:
    """One line with a symbol, plus a line with the command that fixes it; in ASCII if the terminal has no more."""
    symbol, plain, colour = SYMBOLS[finding.kind]
    encoding = sys.stdout.encoding or "ascii"
    try:
        symbol.encode(encoding)
    except UnicodeEncodeError:
        symbol = f"{plain:<2}"
    text = finding.what.encode(encoding, "replace").decode(encoding)
    mend = "" if finding.ok or not finding.mend else f"\n    {finding.mend}"
    return f"{console.paint(symbol, colour)} {text}{mend}"


@console.command
def main(arguments: Sequence[str]) -> int:
    """The command line above; returns the exit status."""
    missing = 0
    for finding in run_checks(list(arguments)):
        missing += finding.kind == "missing"
        if finding.kind == "missing" or not console.quiet():
            print(shown(finding), flush=True)
    summary = f"{missing} thing{'s' if missing > 1 else ''} missing; the fix is below each" if missing else "ready"
    console.say(summary)
    return 1 if missing else 0
