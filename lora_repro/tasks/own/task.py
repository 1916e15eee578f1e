"""What the tasks on the user's own files have in common: their files, splits, privacy, and a score of the user's own."""

from __future__ import annotations

import math
import numbers
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lora_repro.config import paths
from lora_repro.config.file_hashes import HUB, content_hash
from lora_repro.errors import UserError
from lora_repro.tasks.base import SPLITS, AbstractTask, Example, Splits
from lora_repro.tasks.own import data as own_data
from lora_repro.tasks.own.audit import audit
from lora_repro.tasks.own.columns import Row
from lora_repro.tasks.own.data import OwnData, rows_sha256

OWN_SCORE = "own_score"
SAVED = ("dataset_dict.json", "dataset_info.json")  # one of them is in a folder that `datasets` saved
Score = Callable[[str, str], float]


class OwnTask(AbstractTask):
    """A task on the user's own files.

    - `train`, `dev`, `test`: a file each (`tables.read`); without dev or test, rows of train are held out (`data.divide`).
    - `columns`: role -> column (`columns.ROLES`), where their names do not tell. `label`: what captions call the data.
    - `metrics`: the scores; the first one is the task's main score in a table.
    - `held_out`: dev rows at most, if there is no dev file. `max_train`, `max_test`: rows at most.
    - `function`: `score.py:name`, the user's own score, `own_score` among the metrics: name(output, expected) gives 0 (worst) to
      1 for one test row. Its file must be named with --trust, since a setting may also come from an adapter of unknown origin.
    - `with_texts`: keep inputs, answers and outputs in the run's predictions. Otherwise they hold keys and scores only.
    - `sha256`: the content of each file, which names a run; filled in by conf/task.
    """

    train: str | None
    dev: str | None
    test: str | None
    columns: Mapping[str, str | None]
    label: str
    metrics: Sequence[str]
    held_out: int
    max_train: int | None
    max_test: int | None
    function: str | None
    with_texts: bool
    sha256: Mapping[str, str | None]

    source: ClassVar[str] = "own"
    publishes_outputs: ClassVar[bool] = False
    attribution: ClassVar[str] = "Your own data, which no record holds."
    scores: ClassVar[tuple[str, ...]] = ()  # what may stand in `metrics` besides `own_score`; each has a bootstrap

    @property
    def directions(self) -> dict[str, int]:
        return dict.fromkeys(self.metrics, 1)

    def check(self) -> None:
        """Raise UserError for a metric that this task lacks, or `own_score` without its function or the other way round."""
        if bad := [metric for metric in self.metrics if metric not in (*self.scores, OWN_SCORE)]:
            raise UserError(f"task.metrics: no metric {bad[0]!r}; choose from {', '.join((*self.scores, OWN_SCORE))}")
        if not self.metrics:
            raise UserError(f"task.metrics is empty: choose from {', '.join(self.scores)}")
        if (self.function is None) == (OWN_SCORE in self.metrics):
            raise UserError(f"task.function=score.py:name and {OWN_SCORE} in task.metrics belong together: give both")

    def data(self) -> OwnData:
        """The data in the named files. Raises UserError for whatever cannot be used."""
        return self._data({"train": self.train, "dev": self.dev, "test": self.test})

    def _data(self, sources: Mapping[str, str | None]) -> OwnData:
        return own_data.read(sources, self.columns, self.kind, self.held_out, self.max_train, self.max_test)

    def ready(self, folder: str | None) -> None:
        self._sources(folder)

    def load(self, folder: str | None) -> Splits:
        """The splits. Of a task without `train` (from a record) the files are found by their content, as `folder` or in it."""
        data = self._data(self._sources(folder))
        if self.function is not None:
            function, some = own_function(self.function), data.parts.test[0].answer
            for output in (some, ""):  # refuses before the training what scoring would refuse after it
                _checked(function, output, some, self.function)
        for split, digest in data.sha256.items():
            if self.sha256.get(split) not in (None, digest):
                raise UserError(f"{data.names[split]} has changed since this command began: run it again")
        parts = {"train": data.parts.train, "dev": data.parts.dev, "test": data.parts.test}
        hashes = dict(data.sha256) | {f"{self.name}/rows/{split}": rows_sha256(rows) for split, rows in parts.items()}
        counts = ", ".join(f"{len(rows):,} {split}" for split, rows in parts.items())
        train, dev = ([self.example(row, scored=False) for row in parts[split]] for split in ("train", "dev"))
        caption = f"{self.label} ({counts} rows of local files)"
        return Splits(train, dev, self.tested(parts["test"]), caption, hashes, said=audit(data).text)

    def _sources(self, folder: str | None) -> dict[str, str | None]:
        sources = {"train": self.train, "dev": self.dev, "test": self.test}
        if self.train is not None or not any(self.sha256.get(split) for split in SPLITS):
            return sources
        digests = {split: self.sha256.get(split) for split in SPLITS}
        locations = {digest: digest for digest in digests.values() if digest and HUB.fullmatch(digest)}
        top = Path(folder).expanduser() if folder else None
        for path in (top, *top.glob("*")) if top else ():
            if path.is_file() or any((path / name).is_file() for name in SAVED):  # no other folder was a source
                locations[str(content_hash(str(path)))] = str(path)
        if missing := [split for split, digest in digests.items() if digest and digest not in locations]:
            raise UserError(f"the record knows its {missing[0]} file by its content: name its folder with paths.data=DIR")
        return {split: locations[digest] if digest else None for split, digest in digests.items()}

    def example(self, row: Row, scored: bool) -> Example:
        """A row to train on or, if `scored`, to answer."""
        raise NotImplementedError

    def tested(self, rows: Sequence[Row]) -> list[Example]:
        """The rows of the test split as inputs to answer."""
        return [self.example(row, scored=True) for row in rows]

    def told(self, statistics: list[dict[str, object]], outputs: Sequence[str], examples: Sequence[Example]) -> dict[str, float]:
        """The user's own score, if there is one. Adds to the statistics what it gave and, if asked for, the texts."""
        score = own_function(self.function) if self.function is not None else None
        for line, output, example in zip(statistics, outputs, examples, strict=True):
            if score is not None:
                line[OWN_SCORE] = max(_checked(score, output, reference, str(self.function)) for reference in example.references)
            if self.with_texts:
                texts = (example.input, example.second)
                line |= {"input": "\n".join(filter(None, texts)), "references": list(example.references)}
        if score is None:
            return {}
        return {OWN_SCORE: math.fsum(float(str(line[OWN_SCORE])) for line in statistics) / len(statistics)}


def own_function(spec: str) -> Score:
    """The function of `score.py:name`. Raises UserError if its file is not trusted, or does not define it."""
    file, _, name = spec.rpartition(":")
    path = Path(file).expanduser()
    if path.suffix != ".py" or not name.isidentifier():
        raise UserError(f"task.function={spec}: write the file and the function's name, score.py:name")
    if path.name not in paths.trusted():
        why = "settings may come from elsewhere, so only what you name is run"
        raise UserError(f"task.function runs the code in {path.name}: if it is yours, add --trust {path.name} ({why})")
    module = types.ModuleType(path.stem)
    try:
        # Compiled from its text: Python's bytecode cache takes a file of the same size and second for the one it knows.
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise UserError(f"task.function: {path} cannot be run ({type(error).__name__}: {error})".replace("\n", " ")) from None
    function: Any = getattr(module, name, None)
    if not callable(function):
        raise UserError(f"task.function: {path} defines no function {name}")
    return function  # type: ignore[no-any-return]


def _checked(score: Score, output: str, expected: str, spec: str) -> float:
    try:
        value = score(output, expected)
    except TypeError as error:
        raise UserError(f"task.function={spec}: {error}; it takes two texts, the output and the expected one") from None
    except (Exception, SystemExit) as error:  # it may fail in any way
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"task.function={spec} fails for the output {output[:40]!r}: {reason}") from None
    if not isinstance(value, numbers.Real) or not 0 <= value <= 1:
        raise UserError(f"task.function={spec} gave {value!r:.40}: it must give a number from 0 (worst) to 1 (best)")
    return float(value)
