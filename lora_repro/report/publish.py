"""Copy this checkout's finished, clean records to results/<profile>/, then render every published table.

    python -m lora_repro publish profile=mini    (--force or FORCE=1 replaces published records that differ)

It prints what it left out and why, such as a run that no experiment asks for, which no table would show. Only --force replaces
a published record by a different one.
"""

import json
import math
import os
import shutil
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from lora_repro import cli
from lora_repro.config.hydra_errors import empty_profile_message
from lora_repro.config.paths import ROOT
from lora_repro.costs import measures
from lora_repro.errors import UserError
from lora_repro.records import manifest
from lora_repro.records.disk import write_text
from lora_repro.records.record import load_predictions, load_records, read
from lora_repro.records.run_folder import PREDICTIONS, UPDATES
from lora_repro.report import show
from lora_repro.report.prune import requested_runs
from lora_repro.report.rescoring import score_mismatch

# Keys that no published prediction may have: the data's own texts are not ours to publish.
PRIVATE = ("input", "target", "references")


@cli.command
def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """Publish one profile; returns the exit status."""
    parser = cli.parser("publish", __doc__)
    parser.add_argument("profile", nargs="?", default="profile=mini", help="profile=mini (default)")
    parser.add_argument("--force", action="store_true", help="replace published records that differ (or FORCE=1)")
    given = parser.parse_args(arguments)
    profile = cli.named_profile(given.profile)
    if profile == "smoke":
        raise UserError("profile smoke is for tests and is not published: its numbers mean nothing")
    force = given.force or os.environ.get("FORCE", "") not in ("", "0")
    results = root / "results"
    manifest.check_evidence(results / profile)
    if not (runs := root / "runs" / profile).is_dir():
        raise UserError(empty_profile_message(profile, f"no record under {runs}: make a run first"))
    wanted = {cell.signature for cell in requested_runs(profile)}
    for path in (runs / "measures").glob("*.json"):  # asked for anew, on its own number of threads
        wanted.add(measures.signature_of(measures.declared("latency", profile, read(path)["asked"]["overrides"])))
    found = publish(runs, results / profile, force, wanted)
    manifest.begin(results)
    manifest.record_files(results, _published(results / profile, found))
    show.render_published(show.names(), root)
    return 0


def publish(runs: Path, results: Path, force: bool = False, wanted: Container[str] | None = None) -> dict[str, str]:
    """Copy what may be published. Returns signature (or name of a measurement) -> what became of it, and prints it too.

    wanted: the signatures of the runs and measurements that an experiment asks for; all others are left out. None: each may be
    published.
    Raises UserError if there is nothing to publish.
    """
    records, measures = load_records(runs), sorted((runs / "measures").glob("*.json"))
    if not records and not measures:
        raise UserError(f"no record under {runs}: make a run first")
    outcome = {}
    for path in measures:
        outcome[path.stem] = _copy_measure(path, results / "measures" / path.name, force, wanted)
        print(f"measures/{path.stem}: {outcome[path.stem]}")
    for signature, record in sorted(records.items()):
        unasked = "no experiment asks for it" if wanted is not None and signature not in wanted else None
        reason = unasked or refusal(record, runs / signature / PREDICTIONS)
        outcome[signature] = f"left out: {reason}" if reason else _copy(record, runs, results, force)
        row = record.get("row") or {}
        cli.say(f"{signature}  {'/'.join(filter(None, (row.get('table'), row.get('name'))))}: {outcome[signature]}")
    return outcome


def _published(results: Path, found: Mapping[str, str]) -> list[Path]:
    """The published files of every run and measurement that was not left out."""
    names = [name for name, became in found.items() if not became.startswith("left out")]
    return [path for name in names for kind in manifest.EVIDENCE for path in (results / kind).glob(f"{name}.*")]


def refusal(record: dict[str, Any], predictions: Path) -> str | None:
    """Why this run may not be published, or None if it may."""
    # A collapsed or diverged run is a result, too.
    if record["status"] not in ("finished", "collapsed", "diverged"):
        return f"status is {record['status']}"
    if record["where"].get("dirty") is not False:
        return "it ran with uncommitted changes or outside a git checkout"
    if (record["asked"].get("backbone") or {}).get("source") == "folder":
        return "its backbone is a folder of this machine, which readers do not have"
    if bad := _not_finite(record["measured"], "measured"):
        return f"{bad} is not a finite number"
    answered = record["status"] != "diverged"
    if answered and not record["measured"].get("scores"):
        return "it has no scores"
    if not predictions.is_file():
        return "its predictions are missing"
    lines = load_predictions(predictions)
    if answered and not lines and (record["asked"].get("data") or {}).get("n_test") != 0:
        return "its predictions are empty"
    for line in lines:
        if bad := _not_finite(line, "predictions"):
            return f"{bad} is not a finite number"
        if leaked := [key for key in PRIVATE if key in line]:
            return f"its predictions hold the data's own text ({leaked[0]})"
    return score_mismatch(record, lines)


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
    asked = record["asked"]
    ours = asked.get("task", {}).get("source") == "embedded"
    human = asked.get("method", {}).get("name") == "human" and not ours
    if not human and not record["where"].get("data", {}).get("outputs_private"):
        return text
    lines = [{key: value for key, value in line.items() if key != "output"} for line in load_predictions(path)]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _copy(record: dict[str, Any], runs: Path, results: Path, force: bool) -> str:
    """Copy a run. Predictions are written first and the record last, so that a published record is always complete."""
    signature = str(record["signature"])
    target = results / "records" / f"{signature}.json"
    texts = (
        json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        _predictions(record, runs / signature / PREDICTIONS),
    )
    copied = (target, results / "predictions" / f"{signature}.jsonl")
    if all(
        path.is_file() and path.read_text(encoding="utf-8") == text
        for path, text in zip(copied, texts, strict=True)
    ):
        return "published already"
    replaced = target.exists()
    if replaced and not force:
        return "left out: a different record is published; FORCE=1 replaces it"
    arrays = runs / signature / UPDATES
    if arrays.is_file():  # what a probe measured
        (results / "updates").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(arrays, results / "updates" / f"{signature}.safetensors")
    for path, text in reversed(list(zip(copied, texts, strict=True))):
        write_text(path, text)
    return "replaced" if replaced else "published"


def _copy_measure(source: Path, target: Path, force: bool, wanted: Container[str] | None) -> str:
    """Publish a measurement that is not a training run (`measures`), by the same rules as a record."""
    found = read(source)
    if found["status"] != "finished":
        return f"left out: status is {found['status']}"
    if found["where"].get("dirty") is not False:
        return "left out: it was measured with uncommitted changes or outside a git checkout"
    if wanted is not None and found["signature"] not in wanted:
        return "left out: it was measured with other settings than its experiment has now; measure again"
    if bad := _not_finite(found, source.stem):
        return f"left out: {bad} is not a finite number"
    text, replaced = source.read_text(encoding="utf-8"), target.exists()
    if replaced and target.read_text(encoding="utf-8") == text:
        return "published already"
    if replaced and not force:
        return "left out: a different measurement is published; FORCE=1 replaces it"
    write_text(target, text)
    return "replaced" if replaced else "published"
