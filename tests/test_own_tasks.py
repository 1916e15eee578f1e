"""Runs on the user's own files: labels, numbers, prompts and chats, with scores that a table can compare, and nothing told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import refused, tiny_backbone
from test_own_data import CHAT, REVIEWS, objects, saved, write_csv, write_lines

from lora_repro.config import paths
from lora_repro.config.compose import build, compose
from lora_repro.config.file_hashes import content_hash
from lora_repro.costs.forecast import data_of
from lora_repro.exchange.open_checkpoint import open_checkpoint
from lora_repro.exchange.score import score_checkpoint
from lora_repro.metrics import chrf, rouge
from lora_repro.metrics.corpus import METRICS, columns
from lora_repro.objectives.chat import Chat
from lora_repro.objectives.classification import Classification, Labeller
from lora_repro.planning import cells
from lora_repro.planning.rerun_command import command
from lora_repro.records import record
from lora_repro.records.record import load_predictions
from lora_repro.records.run_folder import PREDICTIONS
from lora_repro.report.claims.settled import held_out_rows
from lora_repro.report.numbers import difference
from lora_repro.report.verify import score_mismatch
from lora_repro.results import long, own, runs
from lora_repro.run.run import run
from lora_repro.stats.comparable import paired
from lora_repro.tasks.base import Example
from lora_repro.tasks.own.classes import OwnLabels
from lora_repro.tasks.own.task import OWN_SCORE
from lora_repro.tasks.own.texts import OwnTexts
from lora_repro.tracking.redaction import describe

PROMPTS = [(f"name : Inn {n} | food : {food}", f"Inn {n} serves {food} food.")
           for n in range(12) for food in ("fast", "good", "raw")]  # fmt: skip
NUMBERS = [(f"one {n}", f"two {n * n}", str(n / 2)) for n in range(60)]
SECRET = ("dish", "Inn", "serves", "one 1", "two 1")  # words of the files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "labels.csv", REVIEWS, "text", "label")
    write_csv(tmp_path / "numbers.csv", NUMBERS, "sentence1", "sentence2", "score")
    write_lines(tmp_path / "texts.jsonl", objects(PROMPTS, "prompt", "completion"))
    return tmp_path


def asked(*overrides: str) -> list[str]:
    return ["profile=smoke", *overrides]


def ran(*overrides: str) -> tuple[dict[str, Any], Path]:
    """(the record of a run at smoke, its folder)."""
    words = asked(*overrides)
    run_record = run(compose(words), words)
    return run_record, Path("runs/smoke") / run_record["signature"]


TASKS = {"own_labels": "labels.csv", "own_numbers": "numbers.csv", "own_texts": "texts.jsonl"}


@pytest.mark.parametrize("task", TASKS)
def test_a_run_on_own_files_from_start_to_end(task: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_record, place = ran(f"task={task}", f"task.train={TASKS[task]}")
    assert f"{TASKS[task]}: " in capsys.readouterr().out  # the audit
    lines = load_predictions(place / PREDICTIONS)
    assert list(run_record["measured"]["scores"]) == list(run_record["asked"]["task"]["metrics"])
    assert len(lines) == (4 if task == "own_texts" else 8)
    assert score_mismatch(run_record, lines) is None and run_record["where"]["data"]["outputs_private"] is True
    # Nothing of the data, and no place of the files, stands in what the run wrote.
    for name in ("record.json", PREDICTIONS, "metrics.jsonl"):
        text = (place / name).read_text(encoding="utf-8")
        assert not [word for word in (*SECRET, TASKS[task], str(folder)) if word in text], name
    assert ("output" in lines[0]) == (task != "own_texts")
    # The trained model answers without the files, and is scored again where they lie, whatever they are called.
    model = open_checkpoint(place)
    inputs = {"own_labels": "A dish.", "own_numbers": "one || two", "own_texts": "name : Inn"}
    assert len(model.answer([model.task.ask(inputs[task])])) == 1
    refused(lambda: score_checkpoint(place), "train", "paths.data=")
    (folder / "elsewhere").mkdir()
    (folder / TASKS[task]).rename(folder / "elsewhere" / f"renamed{Path(TASKS[task]).suffix}")
    again, n = score_checkpoint(place, str(folder / "elsewhere"))
    assert n == len(lines) and {key: record.finite(value) for key, value in again.items()} == run_record["measured"]["scores"]


def test_what_a_record_knows_by_its_content_may_be_a_saved_folder_or_on_the_hub(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved(folder / "reviews")
    for place, split in product((source, folder), ("train", "test")):
        task = OwnLabels(classes=("bad", "good"), sha256={"train": content_hash(str(source)), split: content_hash(str(source))})
        assert len(task.load(str(place)).test) == (len(REVIEWS) if split == "test" else len(REVIEWS) // 5)
    part = OwnLabels(classes=("bad", "good"), sha256={"train": content_hash(str(source / "train"))})
    assert part.load(str(source)).test and part.load(str(source / "train")).test
    (folder / "empty").mkdir()
    refused(lambda: OwnLabels(sha256={"train": "0" * 64}).load(str(folder)), "train", "paths.data=")
    for constants in ("datasets.config", "huggingface_hub.constants"):
        monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", True)
    refused(lambda: OwnLabels(sha256={"train": f"owner/name@{'0' * 40}"}).load(None), "owner/name")


def test_a_file_that_changed_is_another_run_and_one_that_moved_is_not(folder: Path) -> None:
    words = ["task=own_labels", "task.train=labels.csv", "method=linear_probe"]
    first, _ = ran(*words)
    (folder / "labels.csv").rename(folder / "moved.csv")
    assert ran("task=own_labels", "task.train=moved.csv", "method=linear_probe")[0] == first
    write_csv(folder / "labels.csv", REVIEWS, "text", "label")
    assert cells.cells(asked(*words))[0].signature == first["signature"]
    write_csv(folder / "labels.csv", REVIEWS[1:], "text", "label")
    cells._run.cache_clear()  # plain values of a command are kept on disk between processes
    assert cells.cells(asked(*words))[0].signature != first["signature"]
    assert "task.train=/path/to/train" in command(first, "smoke").text


def test_a_file_that_changes_while_a_command_runs_is_refused(folder: Path) -> None:
    config = compose(asked("task=own_labels", "task.train=labels.csv"))
    task = build(config.task)
    write_csv(folder / "labels.csv", REVIEWS[2:], "text", "label")
    refused(lambda: task.load(None), "labels.csv", "changed")


def test_two_methods_on_own_files_have_a_difference_with_an_interval(folder: Path) -> None:
    base = ["task=own_texts", "task.train=texts.jsonl", "train.lr=1e-2"]
    for method, seed in product(("untuned", "linear_probe"), (0, 1)):
        ran(*base, f"method={method}", f"seed={seed}")
    grid = cells.cells(asked(*base, "method=untuned,linear_probe", "seed=0,1"))
    results = runs(grid, own(Path("runs/smoke")))
    frame = long(results)
    assert set(frame.query("main").metric) == {"rougeL_rouge_score"} and len(frame.query("metric == 'chrf'")) == 4
    ours, theirs = ({one.cell.seed: one for one in results if one.cell.row.name == name} for name in ("untuned", "linear_probe"))
    for metric in build(compose(asked(*base)).task).metrics:
        interval = difference([(paired(ours, theirs), metric)])
        assert interval and interval.n == 2 and interval.low <= interval.mean <= interval.high


def test_texts_are_kept_if_asked_for(folder: Path) -> None:
    overrides = ("task.with_texts=true", "method=untuned", "task.metrics=[bleu]")
    _, place = ran("task=own_texts", "task.train=texts.jsonl", *overrides)
    line = load_predictions(place / PREDICTIONS)[0]
    assert line["input"] in dict(PROMPTS) and line["references"] == [dict(PROMPTS)[line["input"]]] and "output" in line


def test_a_mirror_is_not_told_where_the_files_lie(folder: Path) -> None:
    (cell,) = cells.cells(asked("task=own_labels", "task.train=labels.csv"))
    assert "labels.csv" not in json.dumps(describe("s", cell.asked))


def labelled(metrics: Sequence[str], classes: Sequence[str], **more: Any) -> OwnLabels:
    return OwnLabels(metrics=metrics, classes=classes, **more)


Statistics = list[dict[str, object]]


def scored(task: Any, outputs: Sequence[str], gold: Sequence[str | tuple[str, ...]]) -> tuple[dict[str, float], Statistics]:
    groups = [(one,) if isinstance(one, str) else one for one in gold]
    scores = task.score(list(outputs), [Example(f"k{n}", f"input {n}", "", group) for n, group in enumerate(groups)])
    return scores.values, scores.per_input


def recomputed(metric: str, statistics: Sequence[Mapping[str, object]]) -> float:
    return float(METRICS[metric].corpus(np.sum(columns(statistics, metric), axis=0)))


@pytest.mark.parametrize("classes", [("a", "b"), ("a", "b", "c"), ("a", "b", "c", "d")])
def test_scores_of_classes_are_those_of_scikit_learn_and_of_their_statistics(classes: tuple[str, ...]) -> None:
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    draw = np.random.default_rng(len(classes))
    gold, predictions = ([str(one) for one in draw.choice(classes, 80)] for _ in range(2))
    task = labelled(("accuracy", "f1", "matthews"), classes, positive="b")
    values, statistics = scored(task, predictions, gold)
    how = {"pos_label": "b"} if len(classes) == 2 else {"average": "macro"}
    reference = {"accuracy": accuracy_score(gold, predictions), "matthews": matthews_corrcoef(gold, predictions)}
    reference["f1"] = f1_score(gold, predictions, **how)
    for metric, value in reference.items():
        assert values[metric] == pytest.approx(value) and recomputed(metric, statistics) == pytest.approx(value)
    assert task.quality(predictions, gold) == values["accuracy"]
    one, all_wrong = scored(task, ["a"] * 3, ["a"] * 3), scored(task, ["b"] * 3, ["a"] * 3)
    for values, statistics in (one, all_wrong):  # a resample may have one class only
        assert {metric: recomputed(metric, statistics) for metric in reference} == pytest.approx(values)


def test_the_rarer_of_two_classes_is_the_positive_one(folder: Path) -> None:
    write_csv(folder / "a.csv", [(f"text {n}", "usual" if n % 4 else "rare") for n in range(60)], "text", "label")
    values, _ = scored(build(compose(asked("task=own_labels", "task.train=a.csv")).task), ["rare", "usual"], ["usual", "usual"])
    assert values["f1"] == 0.0 and values["accuracy"] == 0.5


# By sacrebleu 2.6: CHRF() and BLEU(lowercase=True).
CHRF = [
    (["The Vaults is a pub.", "cheap food"],
     [("The Vaults is a cheap pub.", "A pub called The Vaults."), ("fast food", "cheap  food")], 0.7280514466103418),
    (["a", "hello"], [("ab", "b"), ("hell", "yellow")], 0.844642857142857),
    (["", "über naïve"], [("x",), ("uber naive",)], 0.38367471525475183),
]  # fmt: skip
BLEU = (["The Vaults is a cheap pub in the riverside area.", "It is good."],
        ["The Vaults is a pub in the riverside area.", "It is good, too."], 0.627987645395143)  # fmt: skip


@pytest.mark.parametrize("outputs, references, wanted", CHRF)
def test_chrf_is_sacrebleu_s(outputs: list[str], references: list[tuple[str, ...]], wanted: float) -> None:
    assert chrf.corpus([chrf.counts(*pair) for pair in zip(outputs, references, strict=True)]) == pytest.approx(wanted, abs=1e-12)
    values, statistics = scored(OwnTexts(metrics=["chrf"]), outputs, references)
    assert values["chrf"] == pytest.approx(wanted) and recomputed("chrf", statistics) == pytest.approx(wanted)


def test_bleu_is_sacrebleu_s_of_lower_case() -> None:
    outputs, references, score = BLEU
    values, statistics = scored(OwnTexts(metrics=["bleu"]), outputs, references)
    assert values["bleu"] == pytest.approx(score) and recomputed("bleu", statistics) == pytest.approx(score)


def test_every_score_of_a_text_comes_from_its_statistics_and_takes_the_best_reference() -> None:
    task = OwnTexts(metrics=[*OwnTexts.scores])
    values, statistics = scored(task, ["a b c d e", " f "], [("x", "a b c d e"), ("g", "f")])
    assert {metric: recomputed(metric, statistics) for metric in task.metrics} == pytest.approx(values)
    assert values["exact_match"] == values["rougeL_rouge_score"] == values["chrf"] == 1.0
    assert list(task.directions) == [*OwnTexts.scores]


SETTINGS = {
    "an unknown score": ({"metrics": ["bleau"]}, "bleau"),
    "no score": ({"metrics": []}, "task.metrics"),
    "a function alone": ({"function": "score.py:f"}, "own_score"),
    "own_score alone": ({"metrics": ["own_score"]}, "score.py:name"),
}


@pytest.mark.parametrize("name, kind", list(product(SETTINGS, (OwnLabels, OwnTexts))))
def test_a_score_that_no_table_could_compare_is_refused_at_once(name: str, kind: Any) -> None:
    settings, part = SETTINGS[name]
    refused(lambda: kind(**settings), part)


def test_numbers_take_correlations_alone() -> None:
    refused(lambda: OwnLabels(kind="number", metrics=["accuracy"]), "accuracy", "pearson")
    refused(lambda: OwnLabels(kind="number", metrics=["spearman"]), "pearson before spearman")
    refused(lambda: OwnLabels(kind="rank"), "class or number")


def test_every_score_of_the_tasks_has_a_bootstrap() -> None:
    names = {*OwnLabels().scores, *OwnTexts.scores, OWN_SCORE, "pearson"}
    assert names <= set(METRICS)


def test_the_user_s_own_score_runs_if_its_file_is_trusted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["task=own_texts", "task.train=texts.jsonl", "task.function=score.py:near"]
    words += ["task.metrics=[own_score,chrf]", "method=untuned"]
    (folder / "score.py").write_text("def near(output, expected):\n    return len(expected) / 100\n")
    refused(lambda: ran(*words), "score.py", "--trust score.py")
    monkeypatch.setenv(paths.TRUSTED, "score.py")
    run_record, place = ran(*words)
    lines = load_predictions(place / PREDICTIONS)
    assert recomputed(OWN_SCORE, lines) == pytest.approx(run_record["measured"]["scores"][OWN_SCORE])
    assert score_mismatch(run_record, lines) is None
    (folder / "score.py").write_text("def near(output, expected):\n    return 1\n")
    assert ran(*words)[0]["signature"] != run_record["signature"]
    words[2] = "task.function=score.py:lost"
    refused(lambda: ran(*words), "score.py", "lost")
    words[2] = "task.function=score.py"
    refused(lambda: ran(*words), "score.py:name")
    (folder / "score.py").write_text("def near(output, expected):\n    return 2\n")
    words[2] = "task.function=score.py:near"
    refused(lambda: ran(*words), "gave 2", "0")
    (folder / "score.py").write_text("def near(output):\n    return 1\n")
    refused(lambda: ran(*words), "score.py:near", "two texts")
    (folder / "score.py").write_text("def near(:\n")
    refused(lambda: ran(*words), "score.py", "SyntaxError")


def test_a_task_without_files_says_which_it_needs(folder: Path) -> None:
    for task in TASKS:
        refused(partial(ran, f"task={task}"), "task.train=")
    refused(lambda: ran("task=own_labels", "task.train=none.csv"), "none.csv")


def test_a_plan_counts_the_rows_of_own_files(folder: Path) -> None:
    splits = data_of(compose(["profile=mini", "task=own_labels", "task.train=labels.csv"]))
    assert splits and (len(splits.train), len(splits.dev), len(splits.test)) == (38, 10, 12)
    assert "38 train, 10 dev, 12 test" in splits.caption


TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<|endoftext|>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_a_chat_is_written_by_the_tokenizer_s_template_and_scored_on_its_answer() -> None:
    backbone = tiny_backbone("llama")
    backbone.tokenizer.chat_template = TEMPLATE
    example = Example("k", json.dumps(CHAT[:-1]), "Hello.")
    objective = Chat(task=OwnTexts(columns={"messages": "messages"}))
    (row,), cut = objective.encode([example], backbone, (2, 1), 512)
    text = "<system>Be short.<|endoftext|><user>Hi?<|endoftext|><assistant>"
    ids = backbone.tokenizer.encode(text, add_special_tokens=False)
    assert row.ids[2 : row.prompt_length] == [*ids[:-1], backbone.pad, ids[-1]] and not cut
    assert row.virtual[:2] == [0, 1] and row.virtual[row.prompt_length - 2 : row.prompt_length] == [2, -1]
    assert row.ids[row.prompt_length :] == [*backbone.tokenizer.encode("Hello.", add_special_tokens=False), backbone.eos]
    (prompt,), _ = objective.ask([example], backbone, (2, 1), 512)
    assert prompt.ids == row.ids[: row.prompt_length] and objective.count(row) == 7
    long_chat = [CHAT[0], *({"role": "user", "content": f"turn {n} " * 5} for n in range(9))]
    (row,), cut = objective.encode([Example("k", json.dumps(long_chat), "Hello.")], backbone, (0, 0), 200)
    chat = backbone.tokenizer.decode(row.ids)
    assert cut == 1 and len(row.ids) <= 200 and chat.startswith("<system>") and "turn 8" in chat and "turn 0" not in chat


ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}"
    "{% endif %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_a_long_chat_is_cut_where_the_template_wants_roles_to_alternate() -> None:
    backbone, objective = tiny_backbone("gpt2"), Chat(task=OwnTexts(columns={"messages": "messages"}))
    backbone.tokenizer.chat_template = ALTERNATING
    turns = [{"role": ("user", "assistant")[n % 2], "content": f"turn {n} " * 20} for n in range(5)]
    (row,), cut = objective.encode([Example("k", json.dumps(turns), "yes")], backbone, (0, 0), 250)
    assert cut == 1 and backbone.tokenizer.decode(row.ids).startswith("<user>turn 4")


def test_a_backbone_that_has_no_chats_and_a_template_that_refuses_one_are_one_line() -> None:
    backbone, objective = tiny_backbone("llama"), Chat(task=OwnTexts(columns={"messages": "messages"}))
    example = Example("k", json.dumps(CHAT[:-1]), "Hello.")
    refused(lambda: objective.encode([example], backbone, (0, 0), 512), "chat template")
    backbone.tokenizer.chat_template = "{{ raise_exception('only users') }}"
    refused(lambda: objective.ask([example], backbone, (0, 0), 512), "only users")
    refused(lambda: objective.ask([example], backbone, (0, 0), 512, [example]), "data.shots=1")


def test_a_run_on_chats_from_start_to_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lora_repro.backbone.model import Backbone

    began = Backbone.__init__

    def with_template(self: Backbone, *given: Any, **named: Any) -> None:
        began(self, *given, **named)
        self.tokenizer.chat_template = TEMPLATE

    monkeypatch.setattr(Backbone, "__init__", with_template)
    turns = [[{"role": "user", "content": question}, {"role": "assistant", "content": reply}] for question, reply in PROMPTS]
    write_lines(folder / "chats.jsonl", [{"messages": chat} for chat in turns])
    run_record, place = ran("task=own_texts", "task.train=chats.jsonl")
    assert run_record["where"]["data"]["found"] == {"columns": {"messages": "messages"}}
    assert run_record["measured"]["scores"]["chrf"] is not None
    model = open_checkpoint(place)
    example = model.task.ask("Hi?")
    assert json.loads(example.input) == [{"role": "user", "content": "Hi?"}] and len(model.answer([example])) == 1


def test_a_prompt_that_is_too_long_loses_its_first_words_and_a_completion_is_never_cut() -> None:
    task = OwnTexts()
    example = Example("k", " ".join(f"w{n}" for n in range(100)), "the end")
    cut = task.fit(example, lambda one: len(one.input.split()) <= 30)
    assert cut.input.endswith("w98 w99") and 25 < len(cut.input.split()) <= 30 and task.fit(example, lambda one: True) is example
    refused(lambda: task.fit(example, lambda one: False), "'the end'", "data.max_length")


@pytest.mark.parametrize("decode", ["greedy", "beam"])
def test_a_blank_line_ends_no_answer_of_one_s_own_texts_but_those_of_the_suite_s(decode: str) -> None:
    """Else the first paragraph of what was expected would be the most that a model can write."""
    for task, ends in (("own_texts", False), ("e2e", True)):
        assert build(compose(asked(f"task={task}", f"decode={decode}")).decode).blank_line is ends


def perfect(outputs: Sequence[str], *metrics: str) -> dict[str, float]:
    """The scores of outputs that are exactly what was expected."""
    examples = [Example(str(n), "q", "", (text,)) for n, text in enumerate(outputs)]
    return OwnTexts(metrics=metrics).score([*outputs], examples).values


def test_bleu_of_short_completions_lies_between_0_and_1_and_its_bootstrap_agrees() -> None:
    texts = ["yes"] * 17 + ["the tower is in Paris"] * 3
    assert perfect(texts, "bleu")["bleu"] == pytest.approx(1.0)
    scores = OwnTexts(metrics=("bleu",)).score(texts, [Example(str(n), "q", "", (text,)) for n, text in enumerate(texts)])
    assert float(METRICS["bleu"].corpus(columns(scores.per_input, "bleu").sum(axis=0))) == pytest.approx(1.0)
    assert 0 <= perfect(["yes", "no"], "bleu")["bleu"] <= 1


@pytest.mark.parametrize("text", ["привет большой мир", "今天天气很好", "สวัสดีชาวโลก", "नमस्ते दुनिया", "a café, déjà vu"])
def test_rouge_counts_words_of_any_script(text: str) -> None:
    right, half = "rougeL_rouge_score", text[: len(text) // 2]
    assert perfect([text], right)[right] == pytest.approx(1.0)
    some = OwnTexts(metrics=(right,)).score([half], [Example("1", "q", "", (text,))]).values[right]
    assert 0 < some < 1


def test_rouge_of_ascii_texts_is_rouge_score_s_own() -> None:
    from rouge_score.tokenizers import DefaultTokenizer

    for text in ("The runners' foot_notes: 3.5 miles, re-reading!", "IT'S  generalisation\n(of cannots)"):
        assert rouge.words(text) == DefaultTokenizer(use_stemmer=True).tokenize(text)


def test_numbers_of_any_scale_are_written_with_their_digits() -> None:
    task = OwnLabels(kind="number", metrics=("pearson",))
    objective = Classification.of(task, Labeller(), "loss")
    assert objective._texts(torch.tensor([[1.23456e-5], [12345.6]])) == ["1.2346e-05", "12346"]
    assert Classification(())._texts(torch.tensor([[1.23456e-5]])) == ["0.0000"]  # those of published runs


@pytest.mark.parametrize("wrong", [
    ("task.classes=[good,better]", "task.classes", "bad"),
    ("task.positive=god", "task.positive", "god"),
])  # fmt: skip
def test_classes_that_the_data_do_not_have_are_refused_before_training(wrong: tuple[str, ...], folder: Path) -> None:
    refused(lambda: ran("task=own_labels", "task.train=labels.csv", wrong[0]), *wrong[1:])
    assert not list(Path("runs").rglob("checkpoints"))


def test_a_score_that_fails_for_an_empty_output_is_refused_before_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "score.py").write_text("def f(output, expected):\n    return 1 / len(output.split())\n")
    (folder / "wide.py").write_text("import numpy\ndef f(output, expected):\n    return numpy.float32(0.5)\n")
    monkeypatch.setattr(paths, "trusted", lambda: ("score.py", "wide.py"))
    task = ["task=own_texts", "task.train=texts.jsonl", f"task.metrics=[{OWN_SCORE}]"]
    refused(lambda: ran(*task, "task.function=score.py:f"), "score.py:f", "ZeroDivisionError")
    run_record, _ = ran(*task, "task.function=wide.py:f")
    assert run_record["measured"]["scores"][OWN_SCORE] == 0.5


def test_a_record_says_how_many_rows_chose_the_weights(folder: Path) -> None:
    run_record, _ = ran("task=own_labels", "task.train=labels.csv", "task.held_out=6")
    # As many as the audit says, not as many as were asked for.
    assert run_record["measured"]["dev_rows"] == held_out_rows(run_record) == 5
