"""What all that is published cost: results/compute.md, written by `python -m lora_repro claims` and `render`.

Hours of wall time, sum of `wall_seconds` of records and measurements and of `train_seconds` of trials, a line for each table of
each profile. A run that several tables show is counted once, under the table it was run for.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from lora_repro.records import manifest, record
from lora_repro.records.disk import write_text

NAME = "compute.md"
HEAD = """# Compute spent on what is published

Hours of wall time of a run's process, on the machine that its record names; what a killed run had done before it was
resumed is in them. Collapsed and diverged runs are runs like all others: published, counted here, and scored in every mean.
Trials: what searching a learning rate took, training alone. Not in it: runs whose protocol no longer holds and which are
published no more ([what was run](../docs/results.md)).

| Profile | Table | Runs | of them failed | Hours | Trials of a rate | Hours |
| --- | --- | ---: | --- | ---: | ---: | ---: |
"""


@dataclass
class Spent:
    """What one table took, in seconds."""

    runs: int = 0
    run_seconds: float = 0.0
    trials: int = 0
    trial_seconds: float = 0.0
    failed: Counter[str] = field(default_factory=Counter)  # how a run ended, if not well -> how many

    def add(self, other: Spent) -> None:
        self.runs += other.runs
        self.run_seconds += other.run_seconds
        self.trials += other.trials
        self.trial_seconds += other.trial_seconds
        self.failed += other.failed

    def line(self, *names: str) -> str:
        failed = ", ".join(f"{count} {status}" for status, count in sorted(self.failed.items())) or "none"
        cells = (*names, self.runs, failed, f"{self.run_seconds / 3600:.1f}", self.trials, f"{self.trial_seconds / 3600:.1f}")
        return f"| {' | '.join(map(str, cells))} |"


def spent(folder: Path) -> dict[str, Spent]:
    """table -> what it took, of all that results/<profile>/ holds."""
    found: defaultdict[str, Spent] = defaultdict(Spent)
    for run in record.load_records(folder / "records").values():
        failed = Counter([run["status"]] if run["status"] != "finished" else [])
        found[run["row"]["table"]].add(Spent(1, run["measured"].get("wall_seconds", 0), failed=failed))
    for path in sorted((folder / "measures").glob("*.json")):
        found[path.stem].add(Spent(1, json.loads(path.read_text(encoding="utf-8"))["where"]["wall_seconds"]))
    for path in sorted((folder / "trials").glob("*.json")):
        search = json.loads(path.read_text(encoding="utf-8"))
        trials = [trial for one in search["searches"] for trial in one["trials"]]
        taken = sum(trial["train_seconds"] for trial in trials)
        failed = Counter(trial["status"] for trial in trials if trial["status"] != "finished")
        found[search["row"]["table"]].add(Spent(0, 0.0, len(trials), taken, failed))
    return dict(sorted(found.items()))


def write(results: Path) -> Path:
    """results/compute.md of every published profile; returns its path."""
    lines, total = [], Spent()
    for folder in sorted(path for path in results.iterdir() if (path / "records").is_dir()):
        for table, took in spent(folder).items():
            lines.append(took.line(folder.name, table))
            total.add(took)
    write_text(results / NAME, HEAD + "\n".join([*lines, total.line("**all**", "")]) + "\n")
    manifest.note(results, [results / NAME])
    return results / NAME
