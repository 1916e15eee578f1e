"""GLUE's metrics: by hand, against scikit-learn and scipy, and at the edges; and the Hugging Face metrics, E2E's too."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as official

from lora_repro.errors import UserError
from lora_repro.metrics import glue

ROOT = Path(__file__).parents[1]
PAIRS = st.lists(st.tuples(st.sampled_from("01"), st.sampled_from("01")), min_size=1, max_size=30)
THREE = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=30)
NUMBER = st.one_of(st.integers(0, 5).map(float), st.floats(-10, 10).map(lambda x: round(x, 3)))
NUMBERS = st.lists(st.tuples(NUMBER, NUMBER), min_size=2, max_size=30)


def sides(pairs: list[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    return [prediction for prediction, _ in pairs], [right for _, right in pairs]


def test_classes_by_hand() -> None:
    # TP 3, FP 1, FN 2, TN 4
    predictions, gold = list("1111000000"), list("1110110000")
    assert glue.accuracy(predictions, gold) == pytest.approx(7 / 10)
    assert glue.f1(predictions, gold, "1") == pytest.approx(6 / 9)
    assert glue.f1(predictions, gold, "0") == pytest.approx(8 / 11)
    assert glue.matthews(predictions, gold) == pytest.approx((3 * 4 - 1 * 2) / math.sqrt(4 * 5 * 5 * 6))


def test_correlations_by_hand() -> None:
    # Deviations -1.5 -.5 .5 1.5 and -3 -1 -1 5: covariance 4.5 + .5 - .5 + 7.5; ranks 1 2 3 4 against 1 2.5 2.5 4.
    predictions, gold = [1, 2, 3, 4], [0, 2, 2, 8]
    assert glue.pearson(predictions, gold) == pytest.approx(12 / math.sqrt(5 * 36))
    assert glue.spearman(predictions, gold) == pytest.approx(4.5 / math.sqrt(5 * 4.5))
    assert glue.pearson(["1.0", "2"], ["5", "-5e-1"]) == pytest.approx(-1)


@settings(max_examples=80, deadline=None)
@given(PAIRS)
def test_two_classes_equal_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    predictions, gold = sides(pairs)
    y_pred, y_true = (np.array(side, dtype=int) for side in (predictions, gold))
    assert glue.accuracy(predictions, gold) == pytest.approx(official.accuracy_score(y_true, y_pred))
    assert glue.f1(predictions, gold, "1") == pytest.approx(official.f1_score(y_true, y_pred, zero_division=0.0))
    if len({*predictions, *gold}) == 2:
        assert glue.matthews(predictions, gold) == pytest.approx(official.matthews_corrcoef(y_true, y_pred))
    else:
        assert glue.matthews(predictions, gold) == 0


@settings(max_examples=40, deadline=None)
@given(THREE)
def test_names_of_classes_do_not_matter(pairs: list[tuple[str, str]]) -> None:
    predictions, gold = sides(pairs)
    assert glue.accuracy(predictions, gold) == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    aliases = [[{"a": "x y", "b": 2.5, "c": 0}[label] for label in side] for side in (predictions, gold)]
    assert glue.matthews(predictions, gold) == pytest.approx(glue.matthews(*aliases))
    assert -1 <= glue.matthews(predictions, gold) <= 1


@settings(max_examples=80, deadline=None)
@given(NUMBERS)
def test_correlations_equal_scipy(pairs: list[tuple[float, float]]) -> None:
    predictions, gold = sides(pairs)
    texts = [str(x) for x in predictions], [str(y) for y in gold]
    scores = glue.score(("pearson", "spearman"), *texts)
    if len(set(predictions)) == 1 or len(set(gold)) == 1:
        assert math.isnan(scores["pearson"]) and math.isnan(scores["spearman"])
    else:
        assert scores["pearson"] == pytest.approx(stats.pearsonr(predictions, gold).statistic)
        ranks = [stats.rankdata(side) for side in (predictions, gold)]
        assert scores["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])


@pytest.mark.parametrize("metric", [glue.pearson, glue.spearman])
@pytest.mark.parametrize(
    ("predicted", "gold"),
    [([], []), ([1], [2]), ([3, 3, 3], [1, 2, 3]), ([1, 2], [3, 3]), ([0.1] * 3, [0.1] * 3)],
)
def test_undefined_correlations_are_nan(
    metric: Callable[..., float], predicted: list[float], gold: list[float]
) -> None:
    assert math.isnan(metric(predicted, gold))


def test_nearly_constant_and_huge_numbers_do_not_warn() -> None:
    assert 0.7 < glue.pearson([1, 1, 1 + 1e-15], [1, 2, 3]) < 1  # √3 / 2, less the rounding
    for metric in (glue.pearson, glue.spearman):
        metric([1e308, -1e308, 1e308], [1, 2, 3])


@pytest.mark.parametrize("predicted", ["1111", "0000"])
def test_constant_predictions(predicted: str) -> None:
    assert glue.matthews(list(predicted), list("1010")) == 0
    assert glue.f1(list(predicted), list("1010"), "1") == (pytest.approx(2 / 3) if predicted[0] == "1" else 0)


def test_edges_of_classes() -> None:
    assert glue.matthews(["a"], ["a"]) == 0 and glue.accuracy(["a"], ["a"]) == 1
    assert glue.f1(["0"], ["0"], "1") == 0 and glue.f1(["1"], ["1"], "1") == 1
    many = [f"class {i}" for i in range(40)]
    assert glue.accuracy(many, many) == 1 and glue.matthews(many, many) == pytest.approx(1)


def test_score_keeps_the_order_asked_for() -> None:
    predictions, gold = list("1101"), list("1001")
    scores = glue.score(("f1", "accuracy", "matthews", "spearman", "pearson"), predictions, gold, "1")
    assert list(scores) == ["f1", "accuracy", "matthews", "spearman", "pearson"]
    assert scores["f1"] == pytest.approx(0.8) and scores["accuracy"] == 0.75
    assert scores["pearson"] == pytest.approx(scores["matthews"])  # of two classes, the same thing
    assert all(type(value) is float for value in scores.values())
    assert glue.score([], predictions, gold) == {}


def test_statistics_of_classes() -> None:
    rows = glue.per_input_statistics(list("1100"), list("1010"), "1")
    outcomes = [next(key for key in ("tp", "fp", "fn", "tn") if row[key]) for row in rows]
    assert outcomes == ["tp", "fp", "fn", "tn"]
    assert all(sum(int(str(row[key])) for key in ("tp", "fp", "fn", "tn")) == 1 for row in rows)
    assert [(row["gold"], row["correct"]) for row in rows] == [("1", 1), ("0", 0), ("1", 0), ("0", 1)]
    assert glue.per_input_statistics(["a", "b"], ["a", "c"]) == [
        {"gold": "a", "correct": 1},
        {"gold": "c", "correct": 0},
    ]
    assert json.loads(json.dumps(rows)) == rows


def test_statistics_of_numbers() -> None:
    rows = glue.per_input_statistics(["1.5", "2"], ["0", "5.0"], regression=True)
    assert rows == [{"gold": 0.0, "predicted": 1.5}, {"gold": 5.0, "predicted": 2.0}]


@pytest.mark.parametrize(
    ("metrics", "predicted", "gold", "positive", "message"),
    [
        (["accuracy"], "ab", "a", None, "2 predictions but 1 gold labels: give one of each"),
        (["pearson"], "", "", None, "nothing to score: no predictions given"),
        (
            ["bleu"],
            "1",
            "1",
            None,
            "metric=bleu: GLUE's metrics are accuracy, f1, matthews, pearson, spearman",
        ),
        (["accuracy", "f1"], "1", "1", None, "f1 needs a positive class: name it"),
        (["f1"], "10", "11", "yes", r"positive=yes beside 2 other classes \(0, 1\): give one of two"),
        (
            ["pearson"],
            "1x",
            "12",
            None,
            "prediction 2 of 2 is 'x': a correlation needs finite decimal numbers",
        ),
        (["spearman"], "12", ["1.5", "nan"], None, "gold label 2 of 2 is 'nan'"),
        (["pearson"], ["inf"], ["1"], None, "prediction 1 of 1 is 'inf'"),
    ],
)
def test_mistakes_are_named(
    metrics: list[str], predicted: Any, gold: Any, positive: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        glue.score(metrics, list(predicted), list(gold), positive)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: glue.accuracy([], []), "nothing to score"),
        (lambda: glue.f1([], [], "1"), "nothing to score"),
        (lambda: glue.matthews(["1"], []), "1 predictions but 0"),
        (lambda: glue.spearman([1], [1, 2]), "1 predictions but 2"),
        (lambda: glue.per_input_statistics([], []), "nothing to score"),
        (lambda: glue.per_input_statistics(["a"], ["b"], "c"), "positive=c beside 2 other classes"),
        (lambda: glue.per_input_statistics(["a"], ["1"], regression=True), "prediction 1 of 1 is 'a'"),
    ],
)
def test_mistakes_of_single_functions(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()


def test_evaluate_loads_the_metrics_from_their_paths(tmp_path: Path) -> None:
    """The loader reads imports by pattern and copies the file; E2E's scores are faked, so that no Java is needed."""
    program = """
import json
import evaluate
from lora_repro.errors import UserError
from lora_repro.metrics import nlg
from lora_repro.metrics.evaluate_e2e import E2EMetrics
from lora_repro.metrics.evaluate_glue import GLUEMetrics, TASKS
path = "lora_repro/metrics/evaluate_glue.py"
labels = {"predictions": ["1", "1", "0", "1"], "references": ["1", "0", "0", "1"]}
print(json.dumps({task: GLUEMetrics(task).compute(**labels) for task in TASKS}))
print(json.dumps(evaluate.load(path, "mrpc").compute(**labels)))
numbers = {"predictions": [0.1, 2.5, 4.0], "references": [0, 3, 5]}
print(json.dumps(GLUEMetrics("stsb").compute(**numbers)))
names = {"predictions": ["same", "other"], "references": ["same", "same"]}
print(json.dumps(GLUEMetrics("mrpc").compute(**names, positive="same")))
try:
    GLUEMetrics()
except UserError as error:
    print(error)
nlg.score = lambda outputs, references: {"bleu": float(len(outputs) + len(references[0]))}
texts = {"predictions": ["a", "b"], "references": [["a", "c", "d"], ["b"]]}
print([metric.compute(**texts)["bleu"] for metric in (evaluate.load("lora_repro/metrics/evaluate_e2e.py"), E2EMetrics())])
"""
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, env=environment
    )
    assert process.returncode == 0, process.stderr
    by_import, by_load, numbers, names, mistake, e2e = process.stdout.splitlines()
    scores = json.loads(by_import)
    assert json.loads(by_load) == scores["mrpc"] and json.loads(e2e) == [5.0, 5.0]
    assert {task: list(metrics) for task, metrics in scores.items()} == {
        "mnli": ["accuracy"], "sst2": ["accuracy"], "mrpc": ["accuracy", "f1"], "cola": ["matthews"],
        "qnli": ["accuracy"], "qqp": ["accuracy", "f1"], "rte": ["accuracy"], "stsb": ["pearson", "spearman"],
    }  # fmt: skip
    assert scores["qqp"] == {"accuracy": 0.75, "f1": pytest.approx(0.8)}
    assert scores["cola"]["matthews"] == pytest.approx(2 / math.sqrt(3 * 2 * 2 * 1))
    expected = stats.pearsonr([0.1, 2.5, 4.0], [0, 3, 5]).statistic
    assert json.loads(numbers) == {"pearson": pytest.approx(expected), "spearman": pytest.approx(1)}
    assert json.loads(names) == {"accuracy": 0.5, "f1": pytest.approx(2 / 3)}
    assert mistake == "GLUE task default: name one of mnli, sst2, mrpc, cola, qnli, qqp, rte, stsb"
