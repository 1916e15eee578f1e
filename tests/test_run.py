"""The whole line at smoke scale: measured once, found again, resumed, refused in one line."""

from __future__ import annotations

import errno
import json
import multiprocessing
import re
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import refused, tiny_backbone
from forked import forked
from omegaconf import DictConfig

from lora_repro.commands import run
from lora_repro.config import signature
from lora_repro.config.compose import compose, resolved
from lora_repro.data import subset
from lora_repro.errors import Busy, UserError
from lora_repro.files import sealed, write_json
from lora_repro.records import provenance, record, run_folder
from lora_repro.run import run as one_run
from lora_repro.run import stages
from lora_repro.sweep import preflight
from lora_repro.tasks.base import Example, Scores
from lora_repro.tasks.e2e.task import E2E
from lora_repro.tracking.background import unfinished

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def quick_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """No METEOR, no Java: these tests are about runs, not metrics."""

    def score(self: E2E, outputs: list[str], examples: list[Example]) -> Scores:
        return Scores({"bleu": 0.5, "nist": float("nan")}, [{"words": len(text.split())} for text in outputs])

    monkeypatch.setattr(E2E, "score", score)


def config(tmp_path: Path, *overrides: str, row: str = "lora") -> DictConfig:
    return compose(["experiment=e2e", f"row/e2e={row}", "profile=smoke", f"paths.runs={tmp_path}", *overrides])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.usefixtures("quick_scores")
def test_a_run_leaves_a_complete_record_and_is_never_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_record = one_run.run(config(tmp_path))
    assert run_record["status"] in ("finished", "collapsed") and run_record["schema"] == 1
    measures, where = run_record["measured"], run_record["where"]
    assert measures["parameters"]["method"] == 2 * 4 * ((32 + 32) + (32 + 16)) and measures["parameters"]["head"] == 0
    assert measures["steps"] == 2 and measures["train_tokens"] > 0 and measures["peak_memory_mb"] > 50
    assert measures["scores"] == {"bleu": 0.5, "nist": None}  # NaN is "no score", never a number
    assert {"git_sha", "dirty", "finished_at", "versions", "device", "kernels", "precision", "backbone", "data"} <= set(where)
    assert where["batching"] == "packed" and where["batch_sizes"]["eval"] > 0 and where["batch_sizes"]["decode"] > 0
    assert "synthetic" in where["data"]["caption"] and where["data"]["hashes"]
    folder = tmp_path / "smoke" / run_record["signature"]
    predictions = record.load_predictions(folder / "predictions.jsonl")
    assert len(predictions) == 4 and {"key", "output", "words"} <= set(predictions[0])
    assert sorted(path.name for path in folder.iterdir()) == [
        "adapter.safetensors",
        "lock",
        "metrics.jsonl",
        "predictions.jsonl",
        "record.json",
    ]
    before = files(folder)
    monkeypatch.setattr(one_run, "measure", lambda *a: pytest.fail("measured again"))
    assert one_run.run(config(tmp_path)) == run_record and files(folder) == before


@pytest.mark.usefixtures("quick_scores")
@pytest.mark.parametrize(
    "backbone, row",
    [
        ("random_llama", "full"),
        ("random_gpt2", "ft_top2"),
        ("random_llama", "adapter_l_small"),
        ("random_gpt2", "adapter_h"),
        ("random_llama", "prelayer"),  # what it does differs most between the two
        ("random_gpt2", "prelayer"),
        ("random_llama", "prompt_tuning"),
        ("random_gpt2", "bitfit"),
        ("random_llama", "linear_probe"),
        ("random_gpt2", "linear_probe"),
        ("random_llama", "untuned"),
        ("random_gpt2", "human"),
    ],
)
def test_every_row_runs_and_so_do_both_decoder_families(tmp_path: Path, backbone: str, row: str) -> None:
    run_record = one_run.run(config(tmp_path, f"backbone={backbone}", row=row))
    assert run_record["row"]["name"] == row and run_record["measured"]["scores"]["bleu"] == 0.5
    counts = run_record["measured"]["parameters"]
    assert (counts["method"] + counts["head"] > 0) == (row not in ("untuned", "human"))


@pytest.mark.usefixtures("quick_scores")
def test_a_run_interrupted_in_decoding_does_not_train_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = one_run.run(config(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        patch.setattr(one_run, "answer", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            one_run.run(config(tmp_path / "cut"))
    monkeypatch.setattr("lora_repro.run.stages.train", lambda *a: pytest.fail("trained again"))
    continuation = one_run.run(config(tmp_path / "cut"))
    name = reference["signature"]
    assert continuation["measured"]["dev_loss"] == reference["measured"]["dev_loss"]
    assert (tmp_path / "cut/smoke" / name / "predictions.jsonl").read_bytes() == (
        tmp_path / "whole/smoke" / name / "predictions.jsonl"
    ).read_bytes()


@pytest.mark.usefixtures("quick_scores")
@pytest.mark.parametrize("row", ["lora", "untuned"])
def test_a_run_does_not_go_on_with_other_data(
    row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Answers to the old rows were paired with the new ones, and the record had the new rows' hash."""
    with monkeypatch.context() as patch:
        patch.setattr(E2E, "score", lambda *a: (_ for _ in ()).throw(UserError("no Java")))
        with pytest.raises(UserError, match="no Java"):
            one_run.run(config(tmp_path, row=row))
    load = E2E.load
    monkeypatch.setattr(E2E, "load", lambda *a: replace(load(*a), hashes={"rows/test": "other"}))
    trainings, answers = [], []
    answer = one_run.answer
    monkeypatch.setattr("lora_repro.run.stages.train", lambda *a, own=stages.train: trainings.append(1) or own(*a))
    monkeypatch.setattr(one_run, "answer", lambda *a: answers.append(1) or answer(*a))
    run_record = one_run.run(config(tmp_path, row=row))
    assert (len(trainings), len(answers)) == (row == "lora", 1)
    assert run_record["where"]["data"]["hashes"] == {"rows/test": "other"}
    assert "the data or the backbone changed since this run began, so it begins anew" in capsys.readouterr().err
    assert not (tmp_path / "smoke" / run_record["signature"] / run_folder.INPUTS).exists()


@pytest.mark.usefixtures("quick_scores")
def test_a_run_goes_on_with_its_backbone_s_files_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tokenizer or configuration of the same weights counts; what an older version did not note is no difference."""
    folder = tmp_path / "model"
    backbone = tiny_backbone("llama")
    backbone.model.save_pretrained(folder)  # type: ignore[operator]
    backbone.tokenizer.save_pretrained(folder)
    mine = ["backbone=random_llama", "backbone.source=folder", f"backbone.hub_id={folder}"]
    with monkeypatch.context() as patch:
        patch.setattr(E2E, "score", lambda *a: (_ for _ in ()).throw(UserError("no Java")))
        with pytest.raises(UserError, match="no Java"):
            one_run.run(config(tmp_path / "runs", *mine))
    (inputs_file,) = (tmp_path / "runs").glob(f"smoke/*/{run_folder.INPUTS}")
    inputs = {key: value for key, value in json.loads(inputs_file.read_text())["inputs"].items() if key != "backbone_files"}
    shutil.copytree(tmp_path / "runs", tmp_path / "old")
    (old,) = (tmp_path / "old").glob(f"smoke/*/{run_folder.INPUTS}")
    write_json(old, sealed({"inputs": inputs}))
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-02'))
    trainings: list[int] = []
    monkeypatch.setattr("lora_repro.run.stages.train", lambda *a, own=stages.train: trainings.append(1) or own(*a))
    run_record = one_run.run(config(tmp_path / "runs", *mine))
    assert trainings == [1] and "begins anew" in capsys.readouterr().err
    assert run_record["where"]["backbone"]["files_sha256"] != run_record["where"]["backbone"]["sha256"]
    one_run.run(config(tmp_path / "old", *mine))
    assert trainings == [1] and "begins anew" not in capsys.readouterr().err


def test_a_training_that_is_refused_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_repro.run.stages.train", lambda *a: (_ for _ in ()).throw(UserError("no compiler")))
    with pytest.raises(UserError, match="no compiler"):
        one_run.run(config(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_what_cannot_be_asked_is_refused_before_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_run, "learn", lambda *a: pytest.fail("it trained"))
    with pytest.raises(UserError, match="new ones, but this backbone has 512 positions"):
        one_run.run(config(tmp_path, "backbone=random_gpt2", "decode.max_new_tokens=500"))


def test_products_are_as_coarse_from_the_first_as_the_record_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 is on before anything is computed or noted."""

    def stopped(*given: object) -> None:
        raise UserError("TF32 is on")

    monkeypatch.setattr(one_run, "allow_tf32", stopped)
    monkeypatch.setattr(one_run, "adapt", lambda *a: pytest.fail("the backbone was used"))
    with pytest.raises(UserError, match="TF32 is on"):
        one_run.run(config(tmp_path))


@pytest.mark.usefixtures("quick_scores")
def test_what_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shared cache that is read-only was told as paths.runs, and so was the advice."""

    def forbidden(*words: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/shared/cache/x")

    monkeypatch.setattr(one_run, "read", forbidden)
    with pytest.raises(UserError, match=r"^cannot use /shared/cache/x: Permission denied; give access"):
        one_run.run(config(tmp_path))


@pytest.mark.usefixtures("quick_scores")
def test_a_run_resumed_after_its_training_answers_in_the_same_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recomputing decides the batching; it was switched on by the training alone."""
    settings = config(tmp_path, "train.recompute=true")
    with monkeypatch.context() as patch:
        patch.setattr(one_run, "answer", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            one_run.run(settings)
    assert one_run.run(settings)["where"]["batching"] == "padded"


@pytest.mark.usefixtures("quick_scores")
def test_a_run_that_failed_in_scoring_keeps_what_was_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = one_run.run(config(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        patch.setattr(E2E, "score", lambda *a: (_ for _ in ()).throw(UserError("no Java")))
        with pytest.raises(UserError, match="no Java"):
            one_run.run(config(tmp_path / "cut"))
    monkeypatch.setattr(one_run, "answer", lambda *a: pytest.fail("decoded again"))
    continuation = one_run.run(config(tmp_path / "cut"))
    name = reference["signature"]
    same = [tmp_path / part / "smoke" / name / "predictions.jsonl" for part in ("whole", "cut")]
    assert same[0].read_bytes() == same[1].read_bytes()
    assert continuation["measured"]["forward_calls"] == reference["measured"]["forward_calls"]
    assert not (tmp_path / "cut" / "smoke" / name / run_folder.ANSWERS).exists()


@pytest.mark.usefixtures("quick_scores")
def test_a_run_that_goes_on_under_other_code_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained on uncommitted changes, decoded on a clean commit; and the peak of the training counts."""
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "_IMPORTED", {"git_sha": "a" * 40, "dirty": True})
        patch.setattr(provenance, "peak_memory_mb", lambda device: 123456)
        patch.setattr(one_run, "answer", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            one_run.run(config(tmp_path))
    monkeypatch.setattr(provenance, "_IMPORTED", {"git_sha": "b" * 40, "dirty": False})
    rerun = one_run.run(config(tmp_path))
    assert (rerun["where"]["git_sha"], rerun["where"]["dirty"]) == ("b" * 40, True)
    assert rerun["measured"]["peak_memory_mb"] == 123456
    assert "code" not in rerun["measured"]


@pytest.mark.usefixtures("quick_scores")
@pytest.mark.parametrize("row", ["lora", "untuned"])
def test_answers_of_other_code_are_said_so(row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded on uncommitted changes, scored on a clean commit."""
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "_IMPORTED", {"git_sha": "a" * 40, "dirty": True})
        patch.setattr(E2E, "score", lambda *a: (_ for _ in ()).throw(UserError("no Java")))
        with pytest.raises(UserError, match="no Java"):
            one_run.run(config(tmp_path, row=row))
    monkeypatch.setattr(provenance, "_IMPORTED", {"git_sha": "b" * 40, "dirty": False})
    monkeypatch.setattr(one_run, "answer", lambda *a: pytest.fail("decoded again"))
    rerun = one_run.run(config(tmp_path, row=row))
    assert (rerun["where"]["git_sha"], rerun["where"]["dirty"]) == ("b" * 40, True) and "code" not in rerun["measured"]


@pytest.mark.usefixtures("quick_scores")
def test_a_diverged_run_is_recorded_as_such_without_scores(tmp_path: Path) -> None:
    run_record = one_run.run(config(tmp_path, "train.lr=1e38", "train.epochs=3", "train.warmup=0", row="full"))
    assert run_record["status"] == "diverged" and "scores" not in run_record["measured"]


@pytest.mark.usefixtures("quick_scores")
def test_a_tracker_changes_nothing_that_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home"))
    plain = one_run.run(config(tmp_path / "plain", "train.epochs=4"))
    tracker_record = one_run.run(config(tmp_path / "tracked", "train.epochs=4", "tracker=wandb"))
    assert all(mirror.join(300) for mirror in list(unfinished))
    name = plain["signature"]
    assert tracker_record["signature"] == name
    assert all(tracker_record["measured"][key] == plain["measured"][key] for key in ("dev_losses", "train_losses"))
    assert plain["measured"]["train_losses"][-1][0] == plain["measured"]["steps"]
    ours, theirs = (tmp_path / kind / "smoke" / name for kind in ("plain", "tracked"))
    for name_ in ("adapter.safetensors", "predictions.jsonl", "metrics.jsonl"):
        assert (ours / name_).read_bytes() == (theirs / name_).read_bytes(), name_
    assert list((theirs / "wandb").glob(f"offline-run-*/run-{name}.wandb")) and not (ours / "wandb").exists()


@pytest.mark.usefixtures("quick_scores")
def test_a_second_starter_is_busy(tmp_path: Path) -> None:
    cell = config(tmp_path)
    name = signature.signature(resolved(cell))  # type: ignore[arg-type]
    with record.lock(tmp_path / "smoke" / name), pytest.raises(Busy):
        one_run.run(cell)


@pytest.mark.usefixtures("quick_scores")
def test_a_full_disk_is_one_line_and_spares_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = one_run.run(config(tmp_path))
    before = files(tmp_path / "smoke" / earlier["signature"])

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record, "save", full)
    with pytest.raises(UserError, match="No space left on device; free some space"):
        one_run.run(config(tmp_path, "seed=1"))
    assert files(tmp_path / "smoke" / earlier["signature"]) == before

    def no_memory(*arguments: Any) -> None:
        raise OSError(12, "Cannot allocate memory", "java")

    monkeypatch.setattr(record, "save", no_memory)
    with pytest.raises(UserError, match=r"ended: .*Cannot allocate memory: 'java'; run the same command again to resume"):
        one_run.run(config(tmp_path, "seed=2"))

    def forbidden(*arguments: Any) -> None:
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(record, "save", forbidden)
    with pytest.raises(UserError, match=r"Permission denied; choose another folder with paths.runs=/path$"):
        one_run.run(config(tmp_path, "seed=2"))


@pytest.mark.usefixtures("quick_scores")
def test_runs_may_lie_behind_a_link_and_leave_the_same_files(tmp_path: Path) -> None:
    """As on a larger disk; links inside a run's own folder are refused."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "smoke").symlink_to(tmp_path / "disk")
    run_record = one_run.run(config(tmp_path / "linked", "train.checkpoint_every=1"))
    one_run.run(config(tmp_path / "plain", "train.checkpoint_every=1"))
    behind, plain = (folder / str(run_record["signature"]) for folder in (tmp_path / "disk", tmp_path / "plain" / "smoke"))
    assert files(behind).keys() == files(plain).keys() and not (behind / "checkpoints").exists()
    assert (behind / "adapter.safetensors").read_bytes() == (plain / "adapter.safetensors").read_bytes()


def test_a_beam_above_the_vocabulary_is_refused_before_the_training_and_leaves_nothing(tmp_path: Path) -> None:
    refused(lambda: one_run.run(config(tmp_path, "decode.beam=258")), "decode.beam=258 exceeds the vocabulary")
    assert not tmp_path.exists() or not list(tmp_path.iterdir())


def command(tmp_path: Path, *overrides: str) -> list[str]:
    table = [] if any(item.startswith("experiment=") for item in overrides) else ["experiment=e2e"]
    return ["lora_repro.run", *table, "profile=smoke", f"paths.runs={tmp_path}", *overrides]


def test_the_command_line_sweeps_refuses_in_one_line_and_finds_again(tmp_path: Path) -> None:
    """In a fork; real processes of a sweep are `test_sweep`'s."""
    words = ["experiment=glue", "task=sentiment", "seed=0", "row/glue=lora", "method.rank=2,99"]  # e2e would start METEOR's Java
    first = forked(command(tmp_path, *words), ROOT, tmp_path)
    errors = [line for line in first.stderr.splitlines() if line.startswith("error:")]
    assert first.returncode == 2 and len(errors) == 1 and "rank 99 exceeds" in errors[0] and "Traceback" not in first.stderr
    assert first.stdout.startswith("profile smoke is for tests")
    assert "glue at profile smoke: 2 runs" in first.stdout
    pattern = r"^LoRA, method.rank=2, sentiment, seed 0: (finished|collapsed) in \d+ s  accuracy \d.*  \S*/smoke/[0-9a-f]{16}$"
    assert re.search(pattern, first.stdout, re.M)
    texts = ("LoRA, ", "1 of 2 runs are done", "profile smoke. ", "To reproduce: ")
    places = [first.stdout.index(text) for text in texts]
    assert places == sorted(places) and "1 of 2 runs asked for are recorded" in first.stdout
    again = forked(command(tmp_path, *words[:-1], "method.rank=2"), ROOT, tmp_path)
    assert again.returncode == 0 and "1 already here" in again.stdout and again.stdout.count(" already recorded ") == 1


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["row/e2e=lroa"], "lroa"),
        (["row/e2e=lora", "methd.rank=1"], "methd"),
        ([], "needs its rows"),
        (["row/e2e=lora", "seed=zero"], "seed must be a whole number of at least 0"),
        (["row/e2e=lora", "data.n_train=1k"], "n_train"),
        (["row/e2e=lora", "device=gpu"], "device must be auto, cpu or cuda, not gpu"),
        (["row/e2e=lora", "device=cuda:7"], "GPUs here"),
    ],
)
def test_every_mistake_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], overrides: list[str], message: str
) -> None:
    monkeypatch.setattr(sys, "argv", command(tmp_path, "hydra.mode=RUN", *overrides))
    with pytest.raises(SystemExit) as left:
        run.main()
    output = capsys.readouterr().err
    assert left.value.code == 2 and output.startswith("error:") and output.count("\n") == 1 and message in output


FUSION = ["experiment=fusion", "row/fusion=fusion", "sources=[sentiment]"]
# No float32 moves by so little.
UNTRAINED = "extraction=[{row/fusion: adapter_p, task: sentiment, train.lr: 1e-300, data.n_test: 0}]"


@pytest.mark.parametrize(
    "overrides, code, message, left",
    [
        (["method=intrinsic_dimension", "method.d=10000000"], 2, "method.d=10,000,000 exceeds the", 0),
        (["method=adapter_fusion", "method.sources=[sentiment]"], 2, "has 0 of them", 0),
        ([*FUSION, UNTRAINED], 2, "adapters of sentiment were never trained", 1),
        ([*FUSION[:2], "sources=[entailment,sentiment]"], 2, "but starts are runs on sentiment, entailment: name the same", 0),
        (["method=lora", "backbone.quantise=nf4"], 3, "quantise=nf4 needs bitsandbytes: pip install", 0),
    ],
)
def test_what_a_method_needs_and_has_not_is_one_line_and_leaves_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], overrides: list[str], code: int,
    message: str, left: int,
) -> None:  # fmt: skip
    """`left`: runs of their own that it started from."""
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as where it is not installed
    arguments = ["lora_repro.run", "profile=smoke", "task=entailment", f"paths.runs={tmp_path}", "hydra.mode=RUN", *overrides]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as error:
        run.main()
    *progress, error_line = capsys.readouterr().err.splitlines()
    assert error.value.code == code and error_line.startswith("error: ") and message in error_line
    assert all(not line or "step/s" in line for line in progress)  # of a run that it started from
    assert len(list(tmp_path.glob("smoke/*"))) == len(list(tmp_path.glob("smoke/*/record.json"))) == left


@pytest.mark.usefixtures("quick_scores")
def test_killed_outright_a_run_resumes_to_the_same_predictions(tmp_path: Path, one_thread: None) -> None:
    """kill -9 in the middle of training, then the same run again: the same weights to the bit."""
    overrides = ["train.epochs=10", "train.checkpoint_every=3"]
    one_run.run(config(tmp_path / "whole", *overrides))
    process = multiprocessing.get_context("fork").Process(target=one_run.run, args=(config(tmp_path / "cut", *overrides),))
    process.start()
    while not list((tmp_path / "cut").glob("smoke/*/checkpoints/step_*")) and process.is_alive():
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL and not list((tmp_path / "cut").glob("smoke/*/record.json"))
    one_run.run(config(tmp_path / "cut", *overrides))
    for file in ("adapter.safetensors", "predictions.jsonl"):
        (reference,), (cut,) = ((tmp_path / name).glob(f"smoke/*/{file}") for name in ("whole", "cut"))
        assert reference.read_bytes() == cut.read_bytes()
    steps = [json.loads(line)["step"] for line in (cut.parent / "metrics.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == list(range(1, 21)) and steps == sorted(steps)


def test_a_place_that_cannot_be_written_is_named_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write in .*; choose another folder"):
        preflight.check_writable(tmp_path / "file" / "runs")
    preflight.check_writable(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_an_experiment_that_trains_nothing_says_its_own_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run", "experiment=latency", "profile=smoke"])
    with pytest.raises(SystemExit) as error:
        run.main()
    assert error.value.code == 2
    assert capsys.readouterr().err == "error: experiment latency trains nothing; run: lora-repro latency\n"


@pytest.mark.parametrize(
    "status, outputs, expected",
    [
        ("finished", ["a", "a", "a"], "collapsed"),
        ("finished", ["", ""], "collapsed"),
        ("finished", ["a", "a", "b"], "finished"),
        ("finished", ["a"] * 1041 + ["b"] * 2, "collapsed"),  # two answers fewer were no collapse once
        ("finished", ["a"] * 98 + ["b"] * 2, "finished"),
        ("finished", ["a"], "finished"),  # one input cannot tell
        ("diverged", [], "diverged"),
    ],
)
def test_one_answer_to_everything_is_a_collapse(status: str, outputs: list[str], expected: str) -> None:
    assert one_run.judge(status, outputs) == expected
    assert one_run.judge(status, outputs, drawn=True) == status  # random weights had nothing to lose


def test_a_second_sigterm_is_no_traceback_out_of_what_python_ends_with(monkeypatch: pytest.MonkeyPatch) -> None:
    last: list[tuple[Any, ...]] = []
    monkeypatch.setattr(run, "started", lambda arguments: 75)
    monkeypatch.setattr("atexit.register", lambda *call: last.append(call))
    with pytest.raises(SystemExit):
        run.main([])
    assert last[-1] == (signal.signal, signal.SIGTERM, signal.SIG_IGN)


def test_beside_its_score_stands_what_training_rows_and_one_answer_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[list[str]] = []
    real = one_run.answer

    def answer(*settings: Any) -> Any:
        examples = settings[6]
        keys.append([example.key for example in examples])
        return real(*settings)

    monkeypatch.setattr(one_run, "answer", answer)
    arguments = ["experiment=glue", "row/glue=lora", "task=sentiment", "profile=smoke", f"paths.runs={tmp_path}"]
    # Whatever the table: another may show the gap of the same run.
    config = compose([*arguments, "data.n_test=7", "data.n_train_scored=9"])
    measures = one_run.run(config)["measured"]
    assert set(measures["train_scores"]) == set(measures["scores"]) == set(measures["one_answer_scores"])
    splits, data = one_run.read(one_run.build(config.task), None), one_run.build(config.data)
    trained_on = subset(splits.train, data.n_train, data.subset_seed)
    some = [example for example in trained_on if example.key in keys[1]]
    assert len(some) == measures["train_scored"] == 9 and some != trained_on[:9]  # a sample: files may be sorted
    targets = [example.target for example in some]
    asked_of_test = [example.references[0] for example in subset(splits.test, data.n_test, data.subset_seed)]
    usual = max(set(targets), key=targets.count)
    assert measures["one_answer_scores"]["accuracy"] == pytest.approx(asked_of_test.count(usual) / len(asked_of_test))
    assert "one_answer_scores" not in one_run.run(compose([*arguments, "seed=1", "data.n_train_scored=0"]))["measured"]
