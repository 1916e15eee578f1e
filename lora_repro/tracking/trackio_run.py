"""Trackio: the mirror of a run in a SQLite file on this machine, which `trackio show` displays. Nothing else imports trackio.

The file is `$TRACKIO_DIR/<project>.db`, by default in `~/.cache/huggingface/trackio/`. A run's id is its signature, so a resumed
run continues its own curve. Trackio keeps no summary: the final numbers and the predictions are logged at the last step.
"""

from __future__ import annotations

import importlib.util
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

from lora_repro.errors import UserError
from lora_repro.tracking.background import Background
from lora_repro.tracking.metrics import Ending, Mirror
from lora_repro.tracking.redaction import describe, sectioned, table


class TrackioTracker:
    """Settings of the mirror. Raises UserError if Trackio, an extra, is not installed.

    patience: seconds that the end of the program waits for it. predictions: rows of the prediction table, at most.
    """

    def __init__(self, project: str = "lora_repro", patience: float = 30, predictions: int = 200) -> None:
        if importlib.util.find_spec("trackio") is None:
            raise UserError("tracker=trackio needs Trackio: pip install -c constraints.txt -e '.[trackio]'")
        self.project, self.patience, self.predictions = project, patience, predictions

    def start(self, signature: str, config: dict[str, Any], folder: Path) -> Mirror | None:
        # Imported here, not in the mirror's thread: rich, its dependency, draws from Python's random state on import.
        state = random.getstate()
        with suppress(Exception):  # a broken installation: the mirror's thread fails again and reports it
            import trackio.run

            # It prints "Run finished" on stdout, which is for the run's tables.
            vars(trackio.run)["print"] = lambda *words: None
        random.setstate(state)
        return Background("Trackio", lambda: TrackioRun(self, signature, config), self.patience)


class TrackioRun:
    """A Mirror that writes to Trackio; its calls may raise and may hang."""

    def __init__(self, tracker: TrackioTracker, signature: str, config: dict[str, Any]) -> None:
        from trackio.run import Run

        about = describe(signature, config)
        self.tracker, self.last = tracker, 0
        # Not trackio.init, which ends the process's other runs, finds a run by its name, and may send it to a server.
        self.run: Any = Run(
            url=None,
            project=tracker.project,
            client=None,
            name=about["name"],
            run_id=signature,
            group=about["group"],
            config={**about["config"], "tags": about["tags"]},
        )

    def log(self, step: int, values: dict[str, float]) -> None:
        self.last = max(self.last, step)
        self.run.log(sectioned(values), step=step)

    def finish(self, ending: Ending) -> None:
        from trackio.table import Table

        values: dict[str, Any] = {"status": ending.status, **ending.summary}
        if ending.predictions:
            columns, rows = table(ending.predictions, self.tracker.predictions)
            values["predictions"] = Table(columns=columns, data=rows)
        self.run.log(values, step=self.last or int(ending.summary.get("steps", 0)))  # one resumed in decoding logs no step
        self.run.finish()
