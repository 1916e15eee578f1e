"""The worked examples of docs/: their files are written into a copy of the project and their commands run there."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from forked import forked
from planted import note

from lora_repro.commands import render
from lora_repro.files import write_text
from lora_repro.methods import Lora
from lora_repro.report import render as rendering

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
EXAMPLES = [*sorted((ROOT / "docs").glob("adding-*.md")), ROOT / "docs" / "your-data.md"]
BLOCK = re.compile(r"^```(\w+)(?: ([^\n]*))?\n(.*?)^```$", re.M | re.S)


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """(language, what stands behind it, text) of every fenced block."""
    return [(m[1], m[2] or "", m[3]) for m in BLOCK.finditer(page.read_text(encoding="utf-8"))]


def test_there_is_an_example_of_each_kind() -> None:
    assert {page.stem for page in EXAMPLES} == {
        "adding-a-method", "adding-a-task", "adding-a-backbone", "adding-an-experiment", "adding-from-your-own-package",
        "your-data",
    }  # fmt: skip


@pytest.mark.parametrize("page", EXAMPLES, ids=lambda page: page.stem)
def test_the_example_works_as_written(page: Path, tmp_path: Path) -> None:
    for folder in ("lora_repro", "conf", "experiments", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    commands = []
    for language, info, text in blocks(page):
        if info.startswith("file="):
            path = tmp_path / info.removeprefix("file=")
            assert not path.exists(), f"{path.name} is there already: the example adds nothing"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif info.startswith("add="):
            path = tmp_path / info.removeprefix("add=")
            path.write_text(f"{path.read_text(encoding='utf-8')}\n{text}", encoding="utf-8")
        elif info == "run":
            assert language == "console"
            commands += text.splitlines()
    assert commands
    variables = {"PYTHONPATH": str(tmp_path), "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "lora-repro" or [program, arguments.pop(0)] == ["python", "-m"]
        arguments = ["lora_repro", *arguments] if program == "lora-repro" else arguments
        process = forked(arguments, tmp_path, tmp_path, **variables)
        assert process.returncode == 0, f"{command}\n{process.stdout[-2000:]}\n{process.stderr[-2000:]}"
        if command.startswith("lora-repro run"):
            assert re.search(r" (finished|collapsed) ", process.stdout), process.stdout
        if "pytest" in command:
            assert re.search(r"\[100%\]|passed", process.stdout), process.stdout


@pytest.mark.parametrize("page", [*DOCS, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_and_named_paths_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    for path in re.findall(r"`((?:lora_repro|conf|tests|experiments)/[\w./-]+\.(?:py|yaml))`", text):
        example = any(info == f"file={path}" for page in DOCS for _, info, _ in blocks(page))
        placeholder = re.search(r"/x\.|/test_ia3\.", path)  # x: a name of the reader's
        assert example or placeholder or (ROOT / path).is_file(), f"{page.name} names {path}"


def test_the_matrices_that_the_page_on_own_data_names_exist() -> None:
    names = re.findall(r"--targets ([\w,]+)", (ROOT / "docs" / "your-data.md").read_text(encoding="utf-8"))
    assert len(names) > 1 and all(Lora(targets=one.split(",")) for one in names)


def test_what_the_readme_shows_is_what_the_first_command_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeds that are added change a table; the lines copied from it must follow."""
    monkeypatch.setenv("COLUMNS", "80")
    (overrides,) = re.findall(r"^TRY := experiment=(.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert render.main([*overrides.split(), "profile=mini"]) == 0
    output = [line for line in capsys.readouterr().out.splitlines() if "this checkout" not in line]
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    (first,) = [at for at, line in enumerate(lines) if line.startswith("    Method / source ")]
    excerpt = [line[4:] for line in lines[first : lines.index("", first)]]
    assert len(excerpt) == 12 and excerpt == output[output.index(excerpt[0]) :][: len(excerpt)]


def test_a_mean_that_the_docs_tell_stands_in_a_published_table() -> None:
    """docs/results.md is written by hand: what it quotes must follow the tables when runs are added."""
    paths = [*ROOT.glob("results/*/tables/*.md"), *ROOT.glob("results/*.md"), *ROOT.glob("results/authors/*.md")]
    tables = " ".join(path.read_text(encoding="utf-8") for path in paths)
    means = re.findall(r"\d+\.\d+(?: ± \d+\.\d+|†)", (ROOT / "docs/results.md").read_text(encoding="utf-8"))
    assert means and not [mean for mean in means if mean not in tables]


INTERVAL = re.compile(r"\[([+−]?[\d.,]*\d), ?\s*([+−]?[\d.,]*\d)\]")


def intervals(text: str) -> list[tuple[str, ...]]:
    """(low, high) of every interval in a text, as written but for minus signs and commas between thousands."""
    return [tuple(end.replace("−", "-").replace(",", "") for end in ends) for ends in INTERVAL.findall(text)]


def test_an_interval_that_the_docs_tell_was_published() -> None:
    """Possibly with more decimals, or for the difference the other way round."""
    quotes = intervals((ROOT / "docs/results.md").read_text(encoding="utf-8"))
    paths = [*ROOT.glob("results/*/tables/*.md"), *ROOT.glob("results/*.md")]
    texts = [path.read_text(encoding="utf-8") for path in paths]
    bounds = {(float(low), float(high)) for text in texts for low, high in intervals(text)}
    with (ROOT / "results/claims.csv").open(encoding="utf-8", newline="") as lines:  # with more decimals than claims.md
        bounds |= {(float(line["low"]), float(line["high"])) for line in csv.DictReader(lines) if line["low"] and line["high"]}

    def published(*ends: str) -> bool:
        digits = [len(end.partition(".")[2]) for end in ends]
        mine = [float(end) for end in ends]
        pairs = [*bounds, *((-high, -low) for low, high in bounds)]
        return any(all(abs(a - b) <= 0.5001 * 10**-d for a, b, d in zip(mine, pair, digits, strict=True)) for pair in pairs)

    assert len(quotes) > 10 and not [interval for interval in quotes if not published(*interval)]


CLAIMS = json.loads((ROOT / "results" / "report.json").read_text(encoding="utf-8"))["claims"]


def test_the_results_page_names_every_verdict_in_its_section() -> None:
    """docs/results.md is written by hand: a claim whose verdict moves must move to the other section, or out of both."""
    text = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", text, re.M))
    successes = {"replicated", "arithmetic", "tested"}
    failures = {"not replicated", "contradicted by its source"}
    for title, verdicts in (("What holds", successes), ("What does not", failures)):
        own = {claim["id"] for claim in CLAIMS if any(one["verdict"] in verdicts for one in claim["profiles"].values())}
        assert set(re.findall(r"claims\.md#(\w+)\)", sections[title])) == own


def test_the_readme_tells_the_ledger_s_verdicts() -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split(rendering.MARKS[0])[1].split(rendering.MARKS[1])[0]
    ledger = (ROOT / "results/claims.md").read_text(encoding="utf-8")
    parts = dict(re.findall(r"^- `(\w+)`(.*\n(?:    .*\n)*)", section, re.MULTILINE))
    assert list(parts) == ["laptop", "mini"]  # real data first
    for profile, part in parts.items():
        (counts,) = [line for line in ledger.splitlines() if line.startswith(f"- `{profile}`: ")]
        for verdict in ("replicated", "not replicated"):
            own = [claim["statement"] for claim in CLAIMS if claim["profiles"][profile]["verdict"] == verdict]
            assert (f"    - **{len(own)} {verdict}**: {' '.join(own)}\n" in part) == bool(own)
            assert not own or f" {len(own)} {verdict}" in counts


def test_the_changelog_names_what_did_not_replicate() -> None:
    text = " ".join((ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("\n## ")[1].split())
    for profile in ("mini", "laptop"):
        (sentence,) = re.findall(rf"Not replicated at `{profile}`: ([^.]*)\.", text)
        own = {claim["id"] for claim in CLAIMS if claim["profiles"][profile]["verdict"] == "not replicated"}
        assert set(re.findall(r"`(\w+)`", sentence)) == own


def test_lines_between_marks_are_written_again_and_a_readme_without_them_is_left(tmp_path: Path) -> None:
    reading = {"generated": True}
    claims = [{"id": f"c{i}", "statement": f"S{i}.", "after_the_paper": i == 3,
               "profiles": {"mini": {"verdict": verdict, "readings": [reading]}}}
              for i, verdict in enumerate(("replicated", "inconclusive", "not replicated", "replicated"))]  # fmt: skip
    write_text(tmp_path / "results" / "report.json", json.dumps({"tables": {}, "claims": claims}))
    note(tmp_path / "results")
    assert not rendering.write_claim_lines(tmp_path)
    path = tmp_path / "README.md"
    path.write_text("no marks\n")
    assert not rendering.write_claim_lines(tmp_path) and path.read_text() == "no marks\n"
    path.write_text(f"before\n{rendering.MARKS[0]}old\n{rendering.MARKS[1]}after\n")
    for _ in range(2):
        assert rendering.write_claim_lines(tmp_path)
        first, *lines, last = path.read_text().splitlines()
        assert (first, last) == ("before", "after") and lines[1:-1] == [
            "- `mini`, generated data, [4 claims](results/claims.md), 1 from later work:",
            "    - **2 replicated**: S0. S3.",
            "    - **1 not replicated**: S2.",
        ]
