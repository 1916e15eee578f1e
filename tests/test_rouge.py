"""ROUGE of two tools: hand-counted values, and py-rouge's own code, run with stand-ins for what it can no longer import."""

from __future__ import annotations

import importlib.metadata
import random
import sys
import types
from typing import Any

import pytest
from bootstrap_interval import paired_bootstrap

from lora_repro.errors import UserError
from lora_repro.metrics import rouge

TEXTS = [
    "Priya found the keys and will bring them to Tom's office tomorrow.",
    "Noah and Nina are planning a surprise party for their neighbours this weekend.",
    "Sam may take the early train suggested by Lena to get there before the meeting.",
    "Marek wants Julia's recipe but Oskar hasn't got it. He should ask her sister.",
    "He cannot come, can not call & is gonna lemme know: the wolves' children went mad!",
    "Zoë's café costs 3.50 €;\nthe agreements of the geese were accidentally running late.\n\nMen saw mice.",
    "The plai was walked; they play, walk and voted as election followed.", "", "...", "a", "wolves wolves wolves\nwolves",
    "the long one " * 60, "line one is here\n" * 50,
]  # fmt: skip


def damaged(text: str, rng: random.Random) -> str:
    """The text with words dropped, repeated and cut into lines."""
    words = [word for word in text.replace("\n", " \n ").split(" ") for _ in range(rng.choice((0, 1, 1, 1, 2)))]
    return "".join(word + rng.choice((" ", " ", " ", "\n")) for word in words)


def pairs() -> tuple[list[str], list[str]]:
    rng = random.Random(0)
    examples = [(damaged(text, rng), text) for text in TEXTS for _ in range(4)] + [(a, b) for a in TEXTS for b in TEXTS]
    return [a for a, _ in examples], [b for _, b in examples]


@pytest.fixture
def original(monkeypatch: pytest.MonkeyPatch) -> Any:
    """py-rouge 1.1's own scorer, with its defaults."""
    resources = types.ModuleType("pkg_resources")
    place = importlib.metadata.distribution("py-rouge")
    resources.resource_filename = lambda _, name: str(place.locate_file(f"rouge/{name}"))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pkg_resources", resources)
    import nltk
    from nltk.tokenize.destructive import NLTKWordTokenizer

    # Its splitter of sentences is a download; it finds none in text without punctuation.
    monkeypatch.setattr(nltk, "word_tokenize", lambda text, language="english": NLTKWordTokenizer().tokenize(text))
    import rouge as package

    return package.Rouge(metrics=["rouge-n", "rouge-l"], max_n=2)


def test_py_rouge_s_numbers_are_those_of_its_own_code(original: Any) -> None:
    outputs, references = pairs()
    rows = rouge.per_summary(outputs, references)
    names = {"rouge1_py_rouge": "rouge-1", "rouge2_py_rouge": "rouge-2", "rougeL_py_rouge": "rouge-l"}
    for output, reference, row in zip(outputs, references, rows, strict=True):
        scores = original.get_scores([output], [reference])
        assert all(row[metric] == pytest.approx(scores[name]["f"]) for metric, name in names.items()), (output, reference)
    means, scores = rouge.mean(rows), original.get_scores(outputs, references)
    assert all(means[metric] == pytest.approx(scores[name]["f"]) for metric, name in names.items())


def test_rouge_score_s_numbers_are_those_of_the_package() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    outputs, references = pairs()
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    for output, reference, row in zip(outputs, references, rouge.per_summary(outputs, references), strict=True):
        scores = scorer.score(reference, output)
        assert [row[f"{name}_rouge_score"] for name in scores] == [score.fmeasure for score in scores.values()]


def test_counted_by_hand() -> None:
    """All 6 words of the output are among the 8 of the reference, no pair is, 3 stand in the same order."""
    output, reference = "the cat on a mat sat", "on the mat there sat a cat quietly"
    row = rouge.per_summary([output], [reference])[0]
    f1 = {"rouge1": 2 * 6 / (6 + 8), "rouge2": 0.0, "rougeL": 2 * 3 / (6 + 8)}
    assert row == {f"{name}_{tool}": pytest.approx(value) for name, value in f1.items() for tool in ("rouge_score", "py_rouge")}


def test_where_the_tools_differ() -> None:
    def both(output: str, reference: str, name: str = "rouge1") -> tuple[object, object]:
        row = rouge.per_summary([output], [reference])[0]
        return row[f"{name}_rouge_score"], row[f"{name}_py_rouge"]

    assert both("walking", "walked") == (1.0, 1.0)
    assert both("plai", "play") == (0.0, 1.0)  # the original Porter stemmer; NLTK's own keeps the y
    assert both("wolves", "wolf") == (0.0, 1.0)  # WordNet knows the plural, Porter's stemmer says "wolv"
    assert both("b\na", "a b", "rougeL") == (0.5, 1.0)  # by lines, each in its own order
    long = "x " * 400 + "end"
    rouge_score, py_rouge = both(long, long.replace("end", "other"))
    assert py_rouge == 1.0 != rouge_score  # the rest is after 665 characters


def test_the_limit_of_665_characters_is_counted_over_lines() -> None:
    assert rouge.shortened("  ab \n\n c ") == ["ab", "", "c"]
    assert rouge.shortened("a" * 700) == ["a" * 665]
    assert rouge.shortened("a" * 660 + "\n" + "b" * 9 + "\nc") == ["a" * 660, "b" * 5]
    assert rouge.shortened("a" * 665 + "\nb") == ["a" * 665]


def test_bad_input() -> None:
    for outputs, references in (([], []), (["a"], [])):
        with pytest.raises(UserError, match="outputs for"):
            rouge.per_summary(outputs, references)


def test_a_bootstrap_recomputes_every_metric() -> None:
    outputs, references = pairs()
    rows, right = rouge.per_summary(outputs, references), rouge.per_summary(references, references)
    for metric, value in rouge.mean(rows).items():
        comparison = paired_bootstrap(rows, right, n=20, metric=metric)
        assert comparison.difference == pytest.approx(value - rouge.mean(right)[metric])
