"""Copies finished, clean records and rate searches to results/<profile>/ (`commands/publish.py`), or says why it does not.

With --prune it lists, or deletes, what is published and no experiment asks for any more: runs, and searches whose rate no run
adopts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any

from lora_repro import console
from lora_repro.errors import UserError
from lora_repro.files import SEAL, write_json, write_text
from lora_repro.planning.cells import Cell, with_starts
from lora_repro.records import manifest, rates
from lora_repro.records.record import defect, load_predictions, load_records, read
from lora_repro.records.run_folder import METRICS, PREDICTIONS, RECORD, UPDATES
from lora_repro.records.transaction import Change
from lora_repro.report import show
from lora_repro.report.verify import score_mismatch
from lora_repro.results import declared_cells

# The fields that a published prediction may have. Any other could hold the data's own texts, which are not ours to publish.
TEXTS = ("key", "output", "gold", "group")  # gold: a label
NUMBERS = tuple(
    "gold correct predicted tp fp fn tn matches totals hyp_len ref_len meteor ter_edits ter_words rouge_l cider slots "
    "slot_errors readable logical_form execution rouge1_rouge_score rouge2_rouge_score rougeL_rouge_score rouge1_py_rouge "
    "rouge2_py_rouge rougeL_py_rouge".split()
)
PUBLISHED, REPLACED, ALREADY = "published", "replaced", "published already"


def publish_searches(change: Change, runs: Path, cells: Sequence[Cell], force: bool) -> dict[str, str]:
    """Add this checkout's rate searches of declared rows to the published ones.

    Returns setting -> what became of it, and prints it too.
    """
    paths = sorted((runs / "trials").glob("[!.]*.json"))
    settings = {cell.setting for cell in cells} if paths else set()
    outcome = {}
    for path in paths:
        outcome[path.stem] = _publish_search(change, path, runs.name, path.stem in settings, force)
        console.say(f"trials/{path.stem}: {outcome[path.stem]}")
    return outcome


def _publish_search(change: Change, path: Path, profile: str, wanted: bool, force: bool) -> str:
    if not wanted:
        return "left out: no experiment asks for it"
    if path.is_symlink() or not (own := rates.own_trials(path)):
        return "left out: it is a link, or no file"
    if own["setting"] != path.stem:
        return f"left out: it is the search {own['setting']}"
    if any(trial.get("dirty") is not False for search in own["searches"] for trial in search["trials"]):
        return "left out: a trial ran with uncommitted changes or outside a git checkout"
    if bad := _not_finite(own, "search"):
        return f"left out: {bad} is not a finite number"
    trials = rates.published_trials(profile, path.stem)
    before = list(trials["searches"]) if trials else []
    union = rates.trials_of({key: own[key] for key in ("schema", "setting", "row", "task", "axes")}, [*before, *own["searches"]])
    if union["searches"] == before:
        return ALREADY
    # A search that stopped at chance went on.
    survivors = [search for search in before if search in union["searches"] or rates.stopped(search)]
    if len(survivors) < len(before) and not force:
        return "left out: a different search is published; FORCE=1 replaces it"
    write_json(change.staged / profile / "trials" / path.name, union)
    return REPLACED if before else PUBLISHED


def publish(
    change: Change, runs: Path, force: bool = False, signatures: Container[str] | None = None, searched: bool = False
) -> dict[str, str]:
    """Copy what may be published. Returns signature (or name of a measurement) -> what became of it, and prints it too.

    runs: the folder runs/<profile>. signatures: those of the runs and measurements that an experiment asks for; all others are
    left out. None: each may be published. searched: whether there were searches to publish.
    Raises UserError if there is nothing to publish.
    """
    records, measures = load_records(runs, read), sorted((runs / "measures").glob("*.json"))
    if not (records or measures or searched):
        raise UserError(f"no record under {runs}: make a run first")
    outcome = {}
    for path in measures:
        outcome[path.stem] = _copy_measure(path, change, force, signatures)
        print(f"measures/{path.stem}: {outcome[path.stem]}")
    for signature, record in sorted(records.items()):
        objection = "no experiment asks for it" if signatures is not None and signature not in signatures else None
        reason = objection or refusal(record, runs / signature)
        outcome[signature] = f"left out: {reason}" if reason else _copy(record, change, runs, force)
        row = record.get("row") or {}
        console.say(f"{signature}  {'/'.join(filter(None, (row.get('table'), row.get('name'))))}: {outcome[signature]}")
    return outcome


def refusal(record: dict[str, Any], folder: Path) -> str | None:
    """Why a run may not be published, or None if it may. folder: the run's."""
    # A collapsed or diverged run is a result, too.
    if record["status"] not in ("finished", "collapsed", "diverged"):
        return f"status is {record['status']}"
    if record["where"].get("dirty") is not False:
        return "it ran with uncommitted changes or outside a git checkout"
    if (record["asked"].get("backbone") or {}).get("source") == "folder":
        return "its backbone is a folder of this machine, which readers do not have"
    if bad := _not_finite(record["measured"], "measured"):
        return f"{bad} is not a finite number"
    finished = record["status"] != "diverged"
    if finished and not record["measured"].get("scores"):
        return "it has no scores"
    if bad := _altered(record, folder):
        return bad
    lines = load_predictions(folder / PREDICTIONS)
    if finished and not lines and (record["asked"].get("data") or {}).get("n_test") != 0:
        return "its predictions are empty"
    return next(filter(None, map(_unpublishable, lines)), None) or score_mismatch(record, lines)


def _altered(record: dict[str, Any], folder: Path) -> str | None:
    """What the hashes in a record say against it or the files beside it; None if they hold."""
    if folder.is_symlink():
        return "its folder is a link"
    for path in (folder / name for name in (RECORD, PREDICTIONS, UPDATES, METRICS)):
        if path.is_symlink() or (path.exists() and not path.is_file()):
            return f"{path.name} is a link or no plain file"
    if SEAL not in record or "files" not in record:
        return f"its record has no {SEAL if SEAL not in record else 'hashes of its files'}, so it may have been altered"
    if not (folder / PREDICTIONS).is_file():
        return "its predictions are missing"
    for name in (PREDICTIONS, UPDATES):
        if (folder / name).exists() and name not in record["files"]:
            return f"{name} is not among the files of its record"
    if file := defect(folder, record, (PREDICTIONS, UPDATES, METRICS)):
        return f"{file} has changed since the run wrote it"
    return None


def _unpublishable(line: dict[str, Any]) -> str | None:
    """Why a line of predictions may not be published; None if it may."""
    if bad := _not_finite(line, "predictions"):
        return f"{bad} is not a finite number"
    for key, value in line.items():
        items = value if isinstance(value, list) else [value]
        number = key in NUMBERS and all(isinstance(item, int | float) for item in items)
        if not number and not (key in TEXTS and isinstance(value, str)):
            return f"its predictions may hold the data's own text ({key}); what may be there is in lora_repro/report/publish.py"
    return None


def _not_finite(value: object, path: str) -> str | None:
    """The path of the first NaN or infinity inside nested JSON values."""
    if isinstance(value, float):
        return None if math.isfinite(value) else path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return next((bad for key, item in items if (bad := _not_finite(item, f"{path}.{key}"))), None)


def _predictions(record: dict[str, Any], path: Path) -> str:
    """The text of the predictions file, without the outputs if these may not be published.

    That is so if they are the data's own texts (the human row on real data), or if the data's licence forbids publishing what a
    model makes of them.
    """
    text = path.read_text(encoding="utf-8")
    config = record["asked"]
    ours = config.get("task", {}).get("source") == "embedded"
    human = config.get("method", {}).get("name") == "human" and not ours
    if not human and not record["where"].get("data", {}).get("outputs_private"):
        return text
    lines = [{key: value for key, value in line.items() if key != "output"} for line in load_predictions(path)]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _copy(record: dict[str, Any], change: Change, runs: Path, force: bool) -> str:
    """Copy a run: its record, its predictions, and what a probe measured."""
    signature, profile = str(record["signature"]), runs.name
    texts = {
        f"{profile}/records/{signature}.json": json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        f"{profile}/predictions/{signature}.jsonl": _predictions(record, runs / signature / PREDICTIONS),
    }
    files = [change.folder / name for name in texts]
    if all(path.is_file() and path.read_text(encoding="utf-8") == text for path, text in zip(files, texts.values(), strict=True)):
        return ALREADY
    replaced = files[0].exists()
    if replaced and not force:
        return "left out: a different record is published; FORCE=1 replaces it"
    for name, text in texts.items():
        write_text(change.staged / name, text)
    arrays = f"{profile}/updates/{signature}.safetensors"
    if (runs / signature / UPDATES).is_file():
        (change.staged / arrays).parent.mkdir(parents=True, exist_ok=True)
        (change.staged / arrays).write_bytes((runs / signature / UPDATES).read_bytes())
    elif (change.folder / arrays).exists():  # of the record that is replaced
        change.remove(change.folder / arrays)
    return REPLACED if replaced else PUBLISHED


def _copy_measure(source: Path, change: Change, force: bool, signatures: Container[str] | None) -> str:
    """Publish a measurement that is not a training run (`measures`), by the same rules as a record."""
    measurement = read(source)
    if measurement["status"] != "finished":
        return f"left out: status is {measurement['status']}"
    if source.is_symlink():
        return "left out: it is a link"
    if measurement["where"].get("dirty") is not False:
        return "left out: it was measured with uncommitted changes or outside a git checkout"
    if signatures is not None and measurement["signature"] not in signatures:
        return "left out: it was measured with other settings than its experiment has now; measure again"
    if bad := _not_finite(measurement, source.stem):
        return f"left out: {bad} is not a finite number"
    name = f"{source.parents[1].name}/measures/{source.name}"
    text, target = source.read_text(encoding="utf-8"), change.folder / name
    replaced = target.exists()
    if replaced and target.read_text(encoding="utf-8") == text:
        return ALREADY
    if replaced and not force:
        return "left out: a different measurement is published; FORCE=1 replaces it"
    write_text(change.staged / name, text)
    return REPLACED if replaced else PUBLISHED


KINDS = tuple(kind for kind in manifest.EVIDENCE if kind != "measures")


def requested_runs(profile: str) -> list[Cell]:
    """Every run that some experiment asks for at a profile, and the runs that these start from. Raises UserError, as `cells`."""
    return with_starts([cell for name in show.names() for cell in declared_cells(name, profile)])


def leftover(folder: Path, cells: Iterable[Cell]) -> list[Path]:
    """The files of results/<profile> that belong to no run of `cells`, neither as its results nor as rate trials."""
    cells = list(cells)
    runs, settings = {cell.signature for cell in cells}, {cell.setting for cell in cells}
    files = [path for kind in KINDS for path in sorted((folder / kind).glob("[!.]*"))]
    return [path for path in files if path.stem not in (settings if path.parent.name == "trials" else runs)]


@rates.published_only()
def prune(profile: str, delete: bool, root: Path) -> None:
    """Print the files of results/<profile> that nothing asks for; with `delete` delete them, with their hashes.

    root: the folder that holds results/. Raises UserError if nothing is published at the profile.
    """
    folder = root / "results" / profile
    if not folder.is_dir():
        raise UserError(f"nothing is published at profile {profile}: there is no {folder}")
    manifest.check_evidence(folder)
    files = leftover(folder, requested_runs(profile))
    for path in files:
        print(path.relative_to(root))
    if delete:
        with manifest.changing(root / "results") as change:
            for path in files:
                change.remove(path)
    counts = ", ".join(f"{sum(path.parent.name == kind for path in files)} {kind}" for kind in KINDS)
    print(f"results/{profile}: {counts} that nothing asks for{'; deleted: now make render' if delete and files else ''}")
