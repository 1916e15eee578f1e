"""A comparison's page: its numbers are the answer's, it asks nothing of a network, and tells nothing of the data unasked."""

from __future__ import annotations

import base64
import csv
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from planted import seal
from test_page import Seen

from lora_repro.commands.compare import requested
from lora_repro.compare import answer as answering
from lora_repro.compare import page as pages
from lora_repro.compare import pictures
from lora_repro.compare.advice import advice
from lora_repro.compare.answer import Answer, answer
from lora_repro.compare.budget import Plan
from lora_repro.compare.compare import write
from lora_repro.compare.declare import Guess
from lora_repro.compare.disagreements import SHOWN, disagreements
from lora_repro.compare.page import command, page
from lora_repro.compare.request import Request
from lora_repro.files import sealed, write_json
from lora_repro.planning.cells import Cell, Row
from lora_repro.records import rates
from lora_repro.report.figures import points
from lora_repro.report.figures.points import Panel, Point, undominated
from lora_repro.results import OWN, Store
from lora_repro.tasks.base import example_key
from lora_repro.tasks.own.data import content

EVIL = '"><script>alert(1)</script>'
FILE = "<script>alert(2).csv"  # a slash is no part of a name
MARKS = ("zebra", "giraffe", "okapi")  # in every input, and the two classes
LABELS = {"full": "Full fine-tuning", "lora": f"LoRA {EVIL}", "bitfit": "BitFit $x$"}
STEPS = {
    "steps": 30,
    "train_seconds": 3.0,
    "peak_memory_mb": 500,
    "train_losses": [[step, 0.7 - step / 50] for step in range(1, 31)],
    "dev_scores": [[10, 0.8], [20, 0.85], [30, 0.85]],
    "dev_losses": [[10, 0.5], [20, 0.4], [30, 0.4]],
}
COUNTS = {"full": 40_000, "lora": 2_000, "bitfit": 700, "untuned": 0}


class Made(NamedTuple):
    request: Request
    answer: Answer

    @property
    def html(self) -> str:
        plan = Plan(self.request, (), 7, ("1 of 3 seeds",))
        return page(self.request, self.answer, advice(self.answer), plan)


@pytest.fixture(autouse=True)
def _searches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trials that a test writes count, in memory of this process alone."""
    monkeypatch.setattr(rates, "_view", None)


def asked_for(folder: Path, **more: Any) -> Request:
    """A request on 60 training rows and 40 test rows of two classes."""
    for name, count in ((FILE, 60), ("test.csv", 40)):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            write = csv.writer(file)
            write.writerow(["sentence", "label"])
            write.writerows((f"zebra {name[:4]} {number}", MARKS[1 + number % 2]) for number in range(count))
    files = {"train": str(folder / FILE), "test": str(folder / "test.csv")}
    return Request("random_bert", files, folder, overrides=("profile=laptop",), **more)


def ran(
    request: Request,
    right: dict[str, Sequence[Sequence[bool]]],
    change: dict[str, dict[str, Any]] | None = None,
    metric: str = "accuracy",
    trials: Sequence[tuple[float, float | None]] = ((1e-3, 0.7), (3e-3, 0.8), (9e-3, None)),
    constant: float | None = 50.0,
) -> Made:
    """The answer of planted runs. right[row][seed]: which test rows that run had right. change: row -> of what was measured."""
    runs, records, cells = request.folder / "runs", {}, []
    test_rows = request.data.parts.test
    for order, (name, seeds) in enumerate(right.items()):
        config = {
            "profile_name": "laptop", "paths": {"runs": str(runs), "data": None},
            "task": {"_target_": "lora_repro.tasks.own.classes.OwnLabels", "name": "own_labels", "metrics": [metric]},
            "train": {"_target_": "lora_repro.train.loop.TrainConfig", "lr": 3e-3, "select_by": "score"},
            "method": {"_target_": "lora_repro.methods.bitfit.BitFit", "name": name},
            "backbone": {"source": "random", "name": "b"}, "data": {},
        }  # fmt: skip
        by = "score" if metric == "accuracy" else "loss"
        plant_search(runs, config, trials if name != "untuned" else (), by)
        for seed, each in enumerate(seeds):
            signature = f"{name}{seed}"
            place = runs / "laptop" / signature
            place.mkdir(parents=True)
            lines = [line(row, bool(one), metric, request.with_texts) for row, one in zip(test_rows, each, strict=True)]
            (place / "predictions.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
            extra = dict((change or {}).get(name, {}))
            status = extra.pop("status", "finished")
            counts = {"method": COUNTS[name], "head": 66 * bool(COUNTS[name]), "total": 10**6}
            metrics = {"scores": {metric: float(np.mean(each))}, "parameters": counts, **STEPS, **extra}
            record = {
                "schema": 1, "signature": signature, "status": status, "asked": {**config, "seed": seed},
                "row": {"table": "t", "name": name, "label": LABELS.get(name, name)}, "measured": metrics,
                "where": {"data": {"caption": "own", "hashes": {}, "found": {"classes": [*MARKS[1:]]}},
                          "backbone": {"label": "a BERT", "sha256": "ab" * 32}, "device": "a CPU", "precision": "fp32",
                          "git_sha": "cd" * 20, "dirty": True, "finished_at": "2026-12-01T10:00:00Z"},
            }  # fmt: skip
            seal(place, record)
            records[signature] = json.loads((place / "record.json").read_text())
            table_row = Row(name, LABELS.get(name, name), order, 9, True, {}, {})
            cells.append(Cell(table_row, seed, {}, (), signature, {**config, "seed": seed}, place, guess=1e-3))
    guesses = {name: Guess(1e-3, 10.0, 4) for name in right}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answering, "_learnt", lambda rows, metric: (constant, {}))
        title = f"a BERT on {request.data.names['train']}, by {len(right)} methods"
        comparison = answer(title, cells, Store(OWN, runs / "laptop", records), guesses, {metric}.__contains__)
    assert comparison is not None
    return Made(request, comparison)


def plant_search(runs: Path, asked: dict[str, Any], trials: Sequence[tuple[float, float | None]], by: str) -> None:
    """A search that chose the best of these (rate, held-out score or loss); None diverged."""
    if not trials:
        return
    rows = [{"lr": lr, "dev_score": value if by == "score" else None, "dev_loss": None if value is None else 1 - value}
            for lr, value in trials]  # fmt: skip
    one = {"length": 1.0, "seed": 1000, "by": by, "chosen": 3e-3, "edge": "high", "trials": rows}
    setting = rates.setting_signature(asked)
    record = {"schema": 1, "setting": setting, "chosen": 3e-3, "edge": "high", "length": 1.0, "searches": [one]}
    path = rates.own_path(runs, "laptop", setting)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, sealed(record))


def line(row: Any, right: bool, metric: str, with_texts: bool) -> dict[str, Any]:
    """What a run keeps of a test row: of a class also its name, which is the user's; an output's text only if asked for."""
    texts = {"input": row.input, "references": [row.answer]} if with_texts else {}
    if metric == "accuracy":
        output = row.answer if right else next(one for one in MARKS[1:] if one != row.answer)
        return {"key": example_key(content(row)), "output": output, "gold": row.answer, "correct": int(right), **texts}
    output = {"output": "okapi <b>" if right else "nothing"} if with_texts else {}
    return {"key": example_key(content(row)), metric: float(right), **texts, **output}


def hits(share: float, seeds: int = 3, rows: int = 40) -> list[list[bool]]:
    """The first rows right, as many as `share` tells, in every seed one more."""
    return [[number < share * rows + seed for number in range(rows)] for seed in range(seeds)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    right = {"full": hits(0.7), "lora": hits(0.8), "bitfit": hits(0.5)}
    change = {"lora": {"peak_memory_mb": 400, "train_seconds": 2.0}, "bitfit": {"peak_memory_mb": 390}}
    return ran(asked_for(tmp_path_factory.mktemp("compare")), right, change)


@pytest.fixture(scope="module")
def html(made: Made) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rates, "_view", None)
        return made.html


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without pictures, which take seconds."""
    for name in ("trade_offs", "learning", "searches"):
        monkeypatch.setattr(pages.pictures, name, lambda *_: [])


def drawings(html: str) -> list[str]:
    """The SVGs of the page, as text; a PNG has no text."""
    sources = [one["src"] for one in Seen(html).of("img")]
    payloads = [source.partition("base64,")[2] for source in sources if source.startswith("data:image/svg+xml")]
    return [base64.b64decode(one).decode() for one in payloads]


def titles(html: str) -> list[str]:
    return [one["alt"] for one in Seen(html).of("img")]


def test_the_advice_stands_first(made: Made, html: str) -> None:
    texts = [text.strip() for text in Seen(html).texts if text.strip()]
    words = advice(made.answer)
    start = texts.index(words[0])
    assert texts[start : start + len(words)] == words
    assert html.index("<h1>") < html.index('class="lead"') < html.index("<table")
    assert "by 3 methods" in texts[start - 1]


def test_its_numbers_are_those_of_the_frame(made: Made, html: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = made.answer.frame()
    scores = html[html.index('id="scores"') : html.index('id="costs"')]
    lines = scores.split("<tr>")[2:]  # the first is the header's
    assert len(lines) == 3
    for html_row, (_, row) in zip(lines, frame.iterrows(), strict=True):
        numbers = [float(one) for one in re.findall(r'data-n="([^"]+)"', html_row)]
        assert numbers[0] == round(row["accuracy"], 1)
        assert int(row["trained"]) in numbers and round(row["step_ms"]) in map(round, numbers)
        assert row["lr"] in numbers
        assert row["row"] == "full" or round(row["difference"], 1) in numbers
    plots: list[Panel] = []
    monkeypatch.setattr(points, "save", lambda panels, *_, **__: plots.extend(panels))
    monkeypatch.setattr(pictures, "embed_figure", lambda stem: pictures.PageFigure("", "", "", 0, 0))
    pictures.trade_offs(made.answer)
    scale = {"trained": 1.0, "memory_mb": 2**20 / 1e6, "step_ms": 1.0}
    assert len(plots) == len(scale)
    for panel, (column, factor) in zip(plots, scale.items(), strict=True):
        places = [(point.x, point.y, point.sd) for point in panel.points if point.x]
        expected = zip(factor * frame[column], frame["accuracy"], frame["accuracy_sd"], strict=True)
        assert np.allclose(places, list(expected))


def test_it_loads_nothing(html: str) -> None:
    document = Seen(html)
    for one in [attributes for _, attributes in document.tags]:
        assert one.get("src", "data:").startswith("data:")
        assert one.get("href", "comparison.csv").startswith("comparison.")
    assert not document.of("link", "iframe", "object", "embed", "base", "form", "video", "audio")
    assert "default-src 'none'" in html and len(document.of("script", "style")) == 2
    assert len(drawings(html)) >= 5
    for text in [html, *drawings(html)]:
        assert not re.search(r"url\((?!#)|@import|(?:href|src)=[\"']?(?:https?:)?//", text)


def test_foreign_text_stays_text(html: str) -> None:
    """Of a method's label and a file's name."""
    for text in (html, *drawings(html)):
        assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in html and "&lt;script&gt;alert(2).csv" in html
    assert any("LoRA" in title and EVIL in title for title in titles(html))  # read back from its escaped form
    assert any("BitFit $x$:" in title for title in titles(html))


def test_it_tells_nothing_of_the_data_unasked(made: Made, html: str) -> None:
    predictions = (made.answer.best.median_run.predictions).read_text()
    assert "okapi" in predictions  # so leaving it out is the page's doing
    for text in (html, *drawings(html)):
        assert not [word for word in MARKS if word in text]


@pytest.mark.usefixtures("undrawn")
def test_texts_are_shown_if_they_were_kept(tmp_path: Path) -> None:
    request = asked_for(tmp_path, with_texts=True)
    document = ran(request, {"full": hits(0.5), "lora": hits(0.9)}, metric="exact_match").html
    assert "zebra test 2" in document and "okapi &lt;b&gt;" in document and "okapi <b>" not in document


def test_the_rows_of_disagreement(tmp_path: Path) -> None:
    """On rows 0 to 9 both are right; on 10 to 29 LoRA alone, on 30 in one of its seeds; full alone on the last."""
    lora = [[number < 30 or (number == 30 and seed == 0) for number in range(40)] for seed in range(2)]
    full = [[number < 10 or number == 39 for number in range(40)] for _ in range(2)]
    report = ran(asked_for(tmp_path), {"full": full, "lora": lora})
    section = disagreements(report.answer, report.request)
    assert section is not None and section.table is not None
    assert "differs on 22 of 40 test rows" in section.said
    assert f"{LABELS['lora']} is better on 21, Full fine-tuning on 1" in section.said
    assert len(section.table.rows) == SHOWN
    places = [row[0] for row in section.table.rows]
    assert places == [f"test.csv, line {number + 2}" for number in range(10, 10 + SHOWN)]  # a header, then row 0
    test_rows = report.request.data.parts.test
    assert [row[1] for row in section.table.rows] == [example_key(test_rows[n].input) for n in range(10, 10 + SHOWN)]
    assert {row[2:] for row in section.table.rows} == {("100.0", "0.0")} and section.table.header[2] == LABELS["lora"]


@pytest.mark.usefixtures("undrawn")
def test_methods_that_answer_alike_disagree_nowhere(tmp_path: Path) -> None:
    report = ran(asked_for(tmp_path), {"full": hits(0.5), "lora": hits(0.5)})
    section = disagreements(report.answer, report.request)
    assert section is not None and section.table is None and "differs on 0 of 40" in section.said
    assert "differs on 0 of 40" in report.html


def test_the_front_holds_what_no_other_beats_in_both() -> None:
    def at(label: str, x: float, y: float) -> Point:
        return Point(label, x, y, None)

    cloud = [at("dear", 100, 80), at("beaten", 50, 60), at("cheap", 10, 70), at("twin", 10, 70), at("dearer", 200, 80),
             at("line", 0, 99)]  # fmt: skip
    assert [one.label for one in undominated(cloud)] == ["cheap", "twin", "dear"]


def test_a_cost_s_title_has_the_highest_mean_and_the_cheapest(made: Made) -> None:
    first, memory, time = (figure.title for figure in pictures.trade_offs(made.answer))
    lora, bitfit = LABELS["lora"], LABELS["bitfit"]
    assert first == f"{lora}: accuracy 82.5 with 2,066 trained values; {bitfit}: 52.5 with 766 trained values"
    assert memory == f"{lora}: accuracy 82.5 with 419 MB of memory; {bitfit}: 52.5 with 409 MB of memory"
    assert time == f"{lora}: accuracy 82.5 with 67 ms a step"


def test_searches_say_how_far_the_rate_lies_from_its_first_guess(made: Made, html: str) -> None:
    assert f"{LABELS['bitfit']}: rate 0.003, 3 times its first guess" in titles(html)
    assert "Full fine-tuning: 0.003, 3 times its first guess" in html
    one = pictures.tried(made.answer.rows[0])
    assert one is not None and dict(one.rates) == {1e-3: pytest.approx(70), 3e-3: pytest.approx(80), 9e-3: None}
    caption = pictures._how(one)
    assert "times 10 (median of 4 published" in caption and "diverged" in caption and "highest tried" in caption
    lower = pictures.Tried(one.row, "score", one.rates, 1e-3, 9e-3, "", 0, False)
    assert lower.distance == "1/9 of its first guess" and "No rate did better" in pictures._how(lower)
    assert pictures.Tried(one.row, "score", one.rates, 1e-3, 1e-3, "", 0, True).distance == "its first guess"


def test_how_it_was_made(made: Made, html: str) -> None:
    for phrase in ("a BERT, SHA-256 abab", "cdcd", "uncommitted", "a CPU", "1 of 3 seeds", "test.csv", "keep their licences"):
        assert phrase in html
    for digest in made.request.data.sha256.values():
        assert digest in html
    table = html[html.index('id="files"') :]
    for rows in (made.request.data.parts.train, made.request.data.parts.dev, made.request.data.parts.test):
        assert f'data-n="{len(rows)}"' in table


def test_the_page_tells_how_many_rows_were_cut(undrawn: None, tmp_path: Path, html: str) -> None:
    right = {"full": hits(0.7, 1), "lora": hits(0.8, 1)}
    cut = ran(asked_for(tmp_path), right, {name: {"rows_cut": 7, "test_rows_cut": 3} for name in right})
    assert "7 training and dev rows and 3 test inputs" in cut.html and "data.max_length" not in html


def test_its_command_asks_for_the_same_comparison(tmp_path: Path) -> None:
    request = asked_for(
        tmp_path, columns={"text": "sentence", "label": "label"}, methods=("full", "lora"), ranks=(1, 8), seeds=3,
        targets=(("query", "value"), ("query",)), metric="accuracy", revision="abc", with_texts=True,
    )  # fmt: skip
    comparison = ran(request, {"full": hits(0.5), "lora": hits(0.6)}).answer
    words = shlex.split(command(request, comparison))
    assert words[:2] == ["lora-repro", "compare"]
    again, _ = requested(words[2:])
    fields = "model files columns methods ranks targets seeds metric revision with_texts overrides".split()
    for name in fields:
        assert getattr(again, name) == getattr(request, name), name
    shorter = command(request.shorter(without=("lora_r8",)), comparison)
    assert shorter.startswith("lora-repro run --config-dir") and f"experiment={request.name}" in shorter


def test_one_seed_a_diverged_run_and_memory_that_was_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = {"lora": {"status": "diverged", "scores": None, "dev_scores": [], "dev_losses": [], "peak_memory_mb": None}}
    report = ran(asked_for(tmp_path), {"full": hits(0.7, 1), "lora": hits(0.1, 1), "bitfit": hits(0.5, 1)}, change)
    curves = [figure.title for figure in pictures.learning(report.answer, 5)]
    assert len(curves) == 2 and all("Full fine-tuning: held-out" in title for title in curves)
    frame = report.answer.frame().set_index("row")
    assert frame.loc["lora", "accuracy"] == 0 and np.isnan(frame.loc["lora", "memory_mb"])
    first, memory, _ = (figure.title for figure in pictures.trade_offs(report.answer))
    assert first.startswith("Full fine-tuning: accuracy 70.0") and "LoRA" not in memory
    for name in ("trade_offs", "learning", "searches"):
        monkeypatch.setattr(pages.pictures, name, lambda *_: [])
    document = report.html
    assert "diverged" in document and "1 a method of the 3 asked for" in document


def test_where_every_training_diverged_it_says_so_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing: dict[str, Any] = {"status": "diverged", "scores": None, "dev_scores": [], "dev_losses": []}
    report = ran(asked_for(tmp_path), {"full": hits(0.7, 2), "lora": hits(0.1, 2)}, {"full": nothing, "lora": nothing})
    assert report.answer.diverged and not report.answer.frame()["best"].any()
    (sentence,) = advice(report.answer)
    assert "diverged" in sentence and sentence in report.html and not pictures.trade_offs(report.answer)
    write(report.request, report.answer, [sentence], Plan(report.request, (), 7, ()))
    output = capsys.readouterr().out
    assert "comparison.html" in output and "generate" not in output


def test_texts_of_which_only_the_loss_is_known(tmp_path: Path) -> None:
    """The untuned model trains nothing, so it has no curve, no rate and no cost of training."""
    change = {name: {"dev_scores": []} for name in ("full", "lora")}
    baseline = {"steps": 0, "train_seconds": 0, "train_losses": [], "dev_scores": [], "dev_losses": []}
    report = ran(
        asked_for(tmp_path),
        {"untuned": hits(0.2), "full": hits(0.7), "lora": hits(0.75)},
        {**change, "untuned": baseline},
        metric="exact_match",
        constant=None,
        trials=((1e-3, 0.1), (3e-3, 0.3)),
    )
    names = titles(report.html)
    assert sum("held-out loss" in name for name in names) == 1
    assert not any("held-out exact match" in name for name in names)
    assert sum(": rate " in name for name in names) == 2 and len(names) == 3 + 1 + 2
    one = pictures.tried(report.answer.rows[1])
    assert one is not None and one.by == "loss" and one.rates[3e-3] == pytest.approx(0.7)
