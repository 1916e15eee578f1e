"""docs/why-your-number-differs.md: every number with decimals on it is computed here from what is published, or listed as quoted.

Each function below belongs to a section of the page (and its line of the table), and returns the phrases that must stand in it.
A decimal number that is in no phrase must be in `QUOTED`: it comes from the issues, the paper, or a run whose command the page
shows.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shlex
from collections.abc import Callable, Iterable
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lora_repro.data import subset
from lora_repro.metrics import bleu, glue
from lora_repro.planning.cells import cells
from lora_repro.report.subjects.choices import inflation
from lora_repro.results import frame
from lora_repro.stats.intervals import student
from lora_repro.tasks.e2e.task import E2E

ROOT = Path(__file__).resolve().parents[1]
LAPTOP = ROOT / "results" / "laptop"
PAGE = (ROOT / "docs" / "why-your-number-differs.md").read_text(encoding="utf-8")
MAIN = {"rte": "accuracy", "mrpc": "accuracy", "cola": "matthews", "stsb": "pearson", "sst2": "accuracy"}
LABEL = {"rte": "RTE", "mrpc": "MRPC", "cola": "CoLA", "stsb": "STS-B", "sst2": "SST-2"}


def printed(value: float, digits: int = 1, sign: bool = False) -> str:
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def spread(values: Iterable[float], sign: bool = False) -> str:
    numbers = list(values)
    return f"{printed(float(np.mean(numbers)), sign=sign)} ± {float(np.std(numbers, ddof=1)):.1f}"


@cache
def records(experiment: str, *overrides: str) -> list[dict[str, Any]]:
    """The published records of these rows at `laptop`, by seed."""
    table = frame(experiment, "laptop", overrides).query("source == 'published'")
    names = table.sort_values(["row", "task", "seed"]).signature.unique()
    return [json.loads((LAPTOP / "records" / f"{name}.json").read_text(encoding="utf-8")) for name in names]


def of(found: list[dict[str, Any]], task: str) -> list[dict[str, Any]]:
    return [record for record in found if record["asked"]["task"]["name"] == task]


def scores(found: list[dict[str, Any]], metric: str) -> list[float]:
    return [100 * record["measured"]["scores"][metric] for record in found]


def predictions(record: dict[str, Any]) -> list[dict[str, Any]]:
    lines = (LAPTOP / "predictions" / f"{record['signature']}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def lora() -> list[dict[str, Any]]:
    return records("glue", "row/glue=lora")


def full() -> list[dict[str, Any]]:
    return records("glue", "row/glue=full")


def learning_rate() -> list[str]:
    searches = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((LAPTOP / "trials").glob("*.json"))]
    row = {"table": "glue", "name": "lora"}
    (cola,) = [item for item in searches if item["row"] == row and item["task"] == "cola"]
    (search,) = cola["searches"]
    by_rate = {trial["lr"]: printed(100 * trial["dev_score"]) for trial in search["trials"]}
    assert search["seed"] == 1000 and [*by_rate] == [0.000667, 0.002, 0.006]
    low, middle, high = by_rate.values()
    return [f"{middle} at 2e-3, {low} at a third of it and {high} at three times it"]


def seeds() -> list[str]:
    stsb = scores(of(lora(), "stsb"), "pearson")
    assert len(stsb) == 7
    median, best = float(np.median(stsb)), max(stsb)
    phrases = [f"{spread(stsb)}, median {printed(median)}, best {printed(best)}, worst {printed(min(stsb))}"]
    gaps = {}
    for task, metric in MAIN.items():
        fives = [*combinations(scores(of(lora(), task), metric), 5)]
        assert len(fives) == 21
        gaps[task] = float(np.mean([max(five) - np.median(five) for five in fives]))
    least, most = printed(min(gaps.values())), printed(max(gaps.values()))
    return [*phrases, ", ".join(f"{LABEL[task]} {printed(gap)}" for task, gap in gaps.items()), f"median: {least} to {most} |"]


def epoch() -> list[str]:
    def inflated(found: list[dict[str, Any]]) -> list[float]:
        return [100 * inflation([(even, odd) for _, even, odd in record["measured"]["dev_halves"]]) for record in found]

    cb = of(records("fusion", "task=cb"), "cb")
    assert len(cb) == 15 and all(len(record["measured"]["dev_halves"]) == 20 for record in cb)
    rte = of(lora(), "rte")
    assert len(rte) == 7 and all(len(record["measured"]["dev_halves"]) == 3 for record in rte)
    return [f"{spread(inflated(cb))} points on CB", f"{spread(inflated(rte))} on RTE", f"| {spread(inflated(cb))} |"]


def rows() -> list[str]:
    phrases, means = [], []
    for task, metric in MAIN.items():
        runs = [*of(lora(), task), *of(full(), task)]
        assert len(runs) == 14
        gaps = [100 * (record["measured"]["dev_score"] - record["measured"]["scores"][metric]) for record in runs]
        phrases.append(f"{LABEL[task]} {spread(gaps)}")
        means.append(float(np.mean(gaps)))
    return [", ".join(phrases), f"| {printed(min(means))} to {printed(max(means))} |"]


def metric() -> list[str]:
    mrpc = of(lora(), "mrpc")
    gold = [line["gold"] for line in predictions(mrpc[0])]
    constant = glue.score(["accuracy", "f1"], ["1"] * len(gold), gold, "1")
    answers = [[line["output"] for line in predictions(record)] for record in mrpc]
    both = [glue.score(["accuracy", "f1"], answer, gold, "1") for answer in answers]
    for name in ("accuracy", "f1"):
        assert scores(mrpc, name) == pytest.approx([100 * score[name] for score in both])
    accuracy, f1 = ([100 * score[name] for score in both] for name in ("accuracy", "f1"))
    cola, stsb = of(lora(), "cola"), of(lora(), "stsb")
    gaps = np.subtract(scores(stsb, "spearman"), scores(stsb, "pearson"))
    return [
        f"accuracy {spread(accuracy)}, F1 {spread(f1)}",
        f"| {printed(float(np.mean(np.subtract(f1, accuracy))))} |",
        f"{printed(100 * constant['accuracy'])} and {printed(100 * constant['f1'])}",
        f"accuracy {printed(float(np.mean(scores(cola, 'accuracy'))))} where Matthews' correlation is "
        f"{printed(float(np.mean(scores(cola, 'matthews'))))}",
        f"Spearman's lies {printed(float(np.mean(gaps)), sign=True)} from Pearson's",
    ]


def e2e() -> list[dict[str, Any]]:
    return records("e2e", "row/e2e=lora")


def scorer() -> list[str]:
    official, by_sentence = [], []
    for record in e2e():
        lines = predictions(record)
        counts = [bleu.BleuCounts(tuple(p["matches"]), tuple(p["totals"]), p["hyp_len"], p["ref_len"]) for p in lines]
        official.append(100 * bleu.bleu(counts))
        by_sentence.append(100 * float(np.mean([bleu.bleu([count]) for count in counts])))
    assert len(official) == 5 and official == pytest.approx(scores(e2e(), "bleu"))
    samsum = of(records("gpt3", "task=samsum"), "samsum")
    gaps = np.subtract(scores(samsum, "rouge1_py_rouge"), scores(samsum, "rouge1_rouge_score"))
    return [
        f"official {printed(float(np.mean(official)))}",
        f"mean of sentences' own BLEU {printed(float(np.mean(by_sentence)))}",
        f"at most {np.abs(gaps).max():.1f} points over {len(samsum)} runs",
    ]


def length() -> list[str]:
    """What outputs shorter than the references cost: BLEU without its factor exp(1 - ref_len / hyp_len), less BLEU."""
    costs, shares = [], []
    for record in e2e():
        lines = predictions(record)
        share = sum(line["hyp_len"] for line in lines) / sum(line["ref_len"] for line in lines)
        shares.append(100 * share)
        costs.append(100 * record["measured"]["scores"]["bleu"] * (1 / min(1.0, math.exp(1 - 1 / share)) - 1))
    conf = yaml.safe_load((ROOT / "conf" / "row" / "e2e.yaml").read_text(encoding="utf-8"))
    reruns = conf["lora"]["row"]["reruns"]["gpt2_medium"]
    assert reruns["source"] == "microsoft/LoRA issue 165, length penalty 0.8"
    least, most = printed(min(reruns["bleu"])), printed(max(reruns["bleu"]))
    return [
        f"{spread(costs)} BLEU",
        f"{printed(float(np.mean(shares)))} % of",
        f"; {spread(costs)} by length alone |",
        f"{least} to {most} with 0.8, where the paper has {paper('e2e', 'lora', 'gpt2_medium')['bleu']} and prints 0.9",
    ]


def precision() -> list[str]:
    phrases = []
    for experiment, task, name in (("qlora", "e2e", "bleu"), ("qlora_glue", "stsb", "pearson")):
        wide, narrow = (of(records(experiment, f"row/{experiment}={row}"), task) for row in ("lora_all", "lora_all_bf16"))
        pairs = [(a, b) for a in wide for b in narrow if a["asked"]["seed"] == b["asked"]["seed"]]
        assert len(pairs) == 3
        for a, b in pairs:  # the same run but for the precision: the rate, too
            alike = [{**run["asked"], "train": {**run["asked"]["train"], "precision": None}} for run in (a, b)]
            assert alike[0] == alike[1] and a["where"]["precision"] != b["where"]["precision"]
        gaps = [scores([b], name)[0] - scores([a], name)[0] for a, b in pairs]
        _, low, high = student(gaps)
        assert low < 0 < high  # the page: neither surely differs from 0
        phrases.append(f"{spread(gaps, sign=True)} {'BLEU' if task == 'e2e' else 'on STS-B'}")
    return phrases


# What the page's own runs gave, by signature: their records are not published.
RUNS = {"34aef0bd": 80.046, "3210e369": 79.014, "2c5cc36d": 79.128}  # SST-2, batches of 128, seeds 0 to 2: accuracy


def batch_size() -> list[str]:
    sst2 = [record for record in of(lora(), "sst2") if record["asked"]["seed"] in (0, 1, 2)]
    assert [record["asked"]["train"]["batch_size"] for record in sst2] == [16] * 3
    small, large = scores(sst2, "accuracy"), [*RUNS.values()]
    gap = float(np.mean(large) - np.mean(small))
    return [f"{spread(small)} at 16 (375 steps) and {spread(large)} at 128 (47 steps)", f"| {printed(gap)} |"]


def paper(table: str, row: str, backbone: str) -> dict[str, str]:
    """A row of the paper, as conf/paper has it."""
    lines = (ROOT / "conf" / "paper" / f"{table}.csv").read_text(encoding="utf-8").splitlines()
    (entry,) = [line for line in csv.DictReader(lines[1:]) if (line["row"], line["backbone"]) == (row, backbone)]
    return entry


def start() -> list[str]:
    tasks = ("rte", "mrpc", "stsb")
    with_it, without = (paper(table, "lora", "roberta_large") for table in ("glue", "glue_dagger"))
    gaps = [float(with_it[task].split()[0]) - float(without[task].split()[0]) for task in tasks]
    rte = of(lora(), "rte")
    assert len(rte) == 7 and not any(record["asked"].get("starts_from") for record in lora())
    return [
        f"RTE {with_it['rte']} with it and {without['rte']} without",
        ", ".join(f"{printed(gap, sign=True)} on {LABEL[task]}" for task, gap in zip(tasks[1:], gaps[1:], strict=True)),
        f"; {printed(gaps[0], sign=True)} (the paper's own) |",
        f"LoRA has {spread(scores(rte, 'accuracy'))}",
    ]


# The sections with numbers that are computed here.
COMPUTED: dict[str, Callable[[], list[str]]] = {
    "Learning rate": learning_rate,
    "Start from MNLI": start,
    "Seeds and medians": seeds,
    "Epoch chosen on the reported rows": epoch,
    "Dev or test": rows,
    "Batch size": batch_size,
    "F1 or accuracy": metric,
    "Scorer": scorer,
    "Length penalty": length,
    "Precision": precision,
}


def section(title: str) -> str:
    """The text of a section, its line of the table before it, in one line each."""
    (line,) = [line for line in PAGE.splitlines() if line.startswith("| [") and anchor(title) in line]
    text = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return f"{line}\n{' '.join(text.split())}"


def anchor(title: str) -> str:
    return f"(#{re.sub(r'[^a-z0-9 ]', '', title.lower()).replace(' ', '-')})"


# Numbers that nothing under results/ gives: from the issues and the paper, and from runs whose command the page shows.
QUOTED: dict[str, set[str]] = {
    "Lead": {"86.6", "68.7", "68.9", "70.4"},
    "Scorer": {"63.8", "64.7", "58.8", "28.8", "0.8", "5.8"},
    "Start from MNLI": {"62.5", "49.1", "+13.4"},
    "Seeds and medians": {"26.7", "32.5"},
    "Length penalty": {"0.8", "0.9", "64.2", "64.6", "22.1", "23.1", "+0.3"},
    "Padding": {"80.0", "74.1", "−6.0"},
}

DECIMAL = re.compile(r"[+−]?\d+\.\d+(?![\d.]*[a-z])")


def told() -> list[str]:
    return re.findall(r"^## (.*)$", PAGE, re.M)


@pytest.mark.parametrize("title", COMPUTED)
def test_a_section_says_what_the_records_say(title: str) -> None:
    text = section(title)
    phrases = COMPUTED[title]()
    assert phrases and not [phrase for phrase in phrases if phrase not in text]
    numbers = {number for phrase in phrases for number in DECIMAL.findall(phrase)} | QUOTED.get(title, set())
    assert not {*DECIMAL.findall(text)} - numbers


def test_the_table_has_a_line_for_each_cause_and_no_number_is_without_a_source() -> None:
    causes = [title for title in told() if title != "Not measured"]
    assert all(section(title) for title in causes) and {*COMPUTED, *QUOTED} <= {*causes, "Lead"}
    for title in {*causes} - {*COMPUTED}:
        assert {*DECIMAL.findall(section(title))} <= QUOTED[title]
    lead = PAGE.split("\n| Cause")[0]
    assert {*DECIMAL.findall(lead)} <= QUOTED["Lead"]
    assert not DECIMAL.findall(PAGE.split("\n## Not measured\n")[1])


def test_each_command_composes_and_those_of_our_runs_name_their_records() -> None:
    """A default that changes gives a command another signature: the page's number is no longer its own."""
    total = 0
    for line in re.findall(r"^    lora-repro run (.*)$", PAGE, re.M):
        command, _, signatures = line.partition("  # ")
        runs = cells(shlex.split(command))
        assert runs
        if signatures:
            assert [cell.signature[:8] for cell in runs] == signatures.split()
            total += len(runs)
    assert total >= 3


@pytest.mark.skipif("E2E_DATA" not in os.environ, reason="set E2E_DATA to a folder with the E2E CSV files")
def test_other_scorers_on_the_published_outputs() -> None:
    """Needs sacrebleu, too, which is no dependency."""
    sacrebleu = pytest.importorskip("sacrebleu")
    from nltk.translate.bleu_score import corpus_bleu

    references = [list(example.references) for example in subset(E2E("folder", "raw").load(os.environ["E2E_DATA"]).test, 250, 0)]
    streams = [[group[i] if i < len(group) else None for group in references] for i in range(max(map(len, references)))]
    split = [[reference.split() for reference in group] for group in references]
    by_scorer: dict[str, list[float]] = {}
    for record in e2e():
        outputs = [line["output"] for line in predictions(record)]
        for name, value in {
            "cased": sacrebleu.corpus_bleu(outputs, streams).score,
            "lower": sacrebleu.corpus_bleu(outputs, streams, lowercase=True).score,
            "first": sacrebleu.corpus_bleu(outputs, [[group[0] for group in references]]).score,
            "nltk": 100 * corpus_bleu(split, [output.split() for output in outputs]),
        }.items():
            by_scorer.setdefault(name, []).append(value)
    cased, lower, first, nltk = (printed(float(np.mean(by_scorer[name]))) for name in ("cased", "lower", "first", "nltk"))
    assert by_scorer["lower"] == pytest.approx(scores(e2e(), "bleu"))
    text = section("Scorer")
    assert f"sacrebleu {cased} with case ({lower} without" in text and f"blanks {nltk}" in text and f"alone {first}" in text
    official = scores(e2e(), "bleu")
    near, far = (printed(float(np.mean(np.subtract(official, by_scorer[name])))) for name in ("cased", "nltk"))
    assert f"| {near} to {far} |" in text
