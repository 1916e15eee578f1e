"""Step metrics: a JSON-lines file always, a W&B mirror if asked. Disk first: a dashboard can never fail or change a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Protocol

from lora_repro.errors import UserError


class Mirror(Protocol):
    """A second place for metrics."""

    def log(self, step: int, values: dict[str, float]) -> None: ...

    def finish(self, scores: dict[str, float]) -> None: ...


class Metrics:
    """`metrics.jsonl` of one run; on resume the steps after the checkpoint are dropped, since they come again."""

    def __init__(self, path: Path, mirror: Mirror | None = None) -> None:
        self.path, self.mirror, self._resumed = path, mirror, False

    def _drop_from(self, step: int) -> None:
        if self.path.exists():
            lines = self.path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] < step]
            self.path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def log(self, step: int, values: dict[str, float]) -> None:
        if not self._resumed:
            self._drop_from(step)
            self._resumed = True
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self.mirror:
            self.mirror.log(step, values)

    def finish(self, scores: dict[str, float]) -> None:
        if self.mirror:
            self.mirror.finish(scores)


class NoTracker:
    """Nothing beyond the run's own files."""

    def start(self, signature: str, asked: dict[str, Any], row: dict[str, Any], folder: Path) -> Mirror | None:
        return None


class WandbTracker:
    """A Weights & Biases mirror, offline unless the usual variables (WANDB_MODE, WANDB_API_KEY) say otherwise."""

    def __init__(self, project: str = "lora_repro", mode: str = "offline") -> None:
        if mode not in ("offline", "online"):
            raise UserError(f"tracker.mode must be offline or online, not {mode!r}")
        self.project, self.mode = project, mode

    def start(self, signature: str, asked: dict[str, Any], row: dict[str, Any], folder: Path) -> Mirror | None:
        try:
            return _Wandb(self, signature, asked, row, folder)
        except Exception as error:  # a broken dashboard of any kind must not cost the run
            print(f"W&B did not start ({error}); the run goes on without it", file=sys.stderr)
            return None


class _Wandb:
    def __init__(self, tracker: WandbTracker, signature: str, asked: dict[str, Any], row: dict[str, Any], folder: Path) -> None:
        import wandb

        self.run = wandb.init(
            project=tracker.project,
            id=signature,
            resume="allow",
            group=str(row.get("table", "adhoc")),
            name=str(row.get("name", signature)),
            tags=[asked["method"]["name"], asked["task"]["name"], asked["backbone"]["name"]],
            config=asked,
            dir=str(folder),
            mode=tracker.mode,  # type: ignore[arg-type]
        )

    def _guarded(self, call: Any, *arguments: Any, **named: Any) -> None:
        try:
            call(*arguments, **named)
        except Exception as error:  # see WandbTracker.start
            print(f"W&B call failed ({error}); the run goes on", file=sys.stderr)

    def log(self, step: int, values: dict[str, float]) -> None:
        self._guarded(self.run.log, values, step=step)

    def finish(self, scores: dict[str, float]) -> None:
        self._guarded(self.run.summary.update, scores)
        self._guarded(self.run.finish)
