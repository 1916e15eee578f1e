"""The report page: what it keeps of the tables, that it asks nothing of a network, and that foreign text stays text."""

from __future__ import annotations

import base64
import itertools
import json
import re
import shlex
import shutil
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from conftest import plant_record
from planted import note

from lora_repro.commands.render import main
from lora_repro.config import paths
from lora_repro.config.compose import compose, resolved
from lora_repro.config.override import override_value
from lora_repro.config.signature import identity, signature
from lora_repro.files import SEAL
from lora_repro.planning.rerun_command import command
from lora_repro.report.html import html as html_of
from lora_repro.report.html import number
from lora_repro.report.page.build import _with_starts, page
from lora_repro.report.page.compact_table import folded, unrun
from lora_repro.report.page.examples import texts_of
from lora_repro.report.page.figures import belonging, embed_figure
from lora_repro.report.page.markdown import pieces
from lora_repro.report.page.summary import headline
from lora_repro.report.table import Table

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = sorted((ROOT / "results").glob("*/records/*.json"))
EVIL = "<script>alert(1)</script>"
TABLE = """**E2E NLG, profile mini. Backbone: A <b>. To reproduce: python -m lora_repro.run experiment=e2e**

| Method | Source | BLEU ↑ | Notes |
| --- | --- | ---: | --- |
| LoRA | published | 74.7 ± 0.4 | a \\| b |
|  | paper | 70.4† |  |
| <img src=x> | published | — | 1 collapsed |

- † n = 1: see [the claims](../../claims.md#one).
"""
UNRUN = """**GLUE, profile mini. To reproduce: make x**

| Method | Source | RTE ↑ | n |
| --- | --- | ---: | ---: |
| LoRA | published | — | — |
|  | paper | 86.6 | 3 |
"""
READING = {"what": f"LoRA {EVIL}", "unit": "BLEU", "verdict": "inconclusive", "better": "", "n": 1, "generated": True,
           "inside": "4 of 5 seeds inside", "value": 1.5, "low": -3.25, "high": 6.5, "detectable": 7.04,
           "notes": ["`e2e/lora`: 1 run"], "sources": ["mini/tables/e2e.md"]}
CLAIMS = [
    {"id": name, "statement": f"Claim {name} holds.", "after_the_paper": after, "figure": "70.4", "source": "Table 3",
     "test": "`a` - `b`",
     "profiles": {"mini": {"verdict": verdict, "sentence": f"So it went {EVIL}.", "readings": [READING]},
                  "laptop": {"verdict": "tested", "sentence": "Tested.", "readings": []}}}
    for name, verdict, after in (("one", "replicated", False), ("two", "inconclusive", False), ("three", "inconclusive", True))
]  # fmt: skip
CELLS = [
    {"row": row, "label": row, "source": source, "column": column, "metric": column.upper(), "value": value, "sd": sd, "n": 1}
    for row, source, column, value, sd in (
        ("full", "published", "bleu", 70.65, None), ("full", "published", "nist", 8.1, None),
        ("lora", "published", "bleu", 72.06, None), ("lora", "paper (GPT-2 M)", "bleu", 70.4, 0.1),
        ("lora", "reruns by others", "bleu", 68.8, None),
    )
]  # fmt: skip


def record_of(table: str, row: str) -> dict[str, Any]:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in PUBLISHED if "mini" in path.parts]
    mine = [r for r in found if (r["row"]["table"], r["row"]["name"], r["asked"]["seed"]) == (table, row, 0)]
    latest = max(mine, key=lambda record: str(record["where"]["finished_at"]))
    return {key: value for key, value in latest.items() if key != SEAL}  # a test may change it


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three published runs with a hostile output and label, a table, a figure of it and one of no table, claims."""
    folder = tmp_path_factory.mktemp("page") / "results"
    for name in ("records", "predictions", "tables", "figures"):
        (folder / "mini" / name).mkdir(parents=True)
    for row in ("lora", "human", "bitfit"):
        record = record_of("e2e", row)
        if row == "bitfit":  # as of a sentence task
            record["asked"]["task"] |= {"name": "similarity", "kind": "label"}
        record["row"]["label"] += ' "><img src=x onerror=alert(1)>'
        plant_record(folder / "mini" / "records" / f"{record['signature']}.json", record)
        published = ROOT / "results" / "mini" / "predictions" / f"{record['signature']}.jsonl"
        lines = [json.loads(line) | {"output": f"{EVIL} {row}"} for line in published.read_text().splitlines()]
        target = folder / "mini" / "predictions" / published.name
        target.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "mini" / "tables" / "e2e.md").write_text(TABLE)
    (folder / "mini" / "tables" / "glue.md").write_text(UNRUN)
    for name in ("e2e", "curve"):
        (folder / "mini" / "figures" / f"{name}.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'> <g/> </svg>")
    title = "<title>LoRA &lt;beside&gt; the paper</title>"
    beside = f'<svg width="30pt" height="60pt" xmlns="http://www.w3.org/2000/svg">{title}</svg>'
    (folder / "mini" / "figures" / "e2e_beside_paper.svg").write_text(beside)
    shutil.copytree(ROOT / "results" / "mini" / "measures", folder / "mini" / "measures")
    (folder / "claims.md").write_text("# Claims\n")
    shown = record_of("e2e", "lora")["signature"]
    cells = [cell | {"records": [shown] if cell["source"] == "published" else []} for cell in CELLS]
    tables = {"mini": {"e2e": {"cells": cells, "sheets": []}}}
    (folder / "report.json").write_text(json.dumps({"tables": tables, "claims": CLAIMS}))
    note(folder)
    return folder


@pytest.fixture(scope="module")
def html(results: Path) -> str:
    return page(results, "mini", results / "mini" / "report.html")


class Seen(HTMLParser):
    """Every tag with its attributes, in order, and the text outside script and style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] not in ("script", "style"):
            self.texts.append(data)

    def of(self, *names: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag in names]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("−0.3", -0.3),
        ("74.7 ± 0.4", 74.7),
        ("74.7†", 74.7),
        ("1,234", 1234),
        ("354.92M", 354.92e6),
        ("+3.5 [+0.8, +6.3]†", 3.5),
        ("−1.3 [−2.1, −0.5]*, Δ 1.1", -1.3),
        ("1.2e-3", 0.0012),
        ("95 %", 95),
        ("131.0 ms", 131),
        ("19.8 ± 2.7 ms", 19.8),
        ("−0.9 [−4.3, +0.02] =", -0.9),
        ("(1,076.12)", 1076.12),
        ("83.2 ± 0.8 (5)", 83.2),
        ("1.00 ± 0.02 (0.03)", 1),
        ("—", None),
        ("", None),
        ("collapsed", None),
        ("1 collapsed", None),
        ("2026-11-24", None),
        ("1 of 5", None),
    ],
)
def test_a_printed_cell_is_sorted_by_its_number(text: str, value: float | None) -> None:
    assert number(text) == (None if value is None else pytest.approx(value))


def test_a_table_keeps_caption_facts_command_labels_and_footnotes() -> None:
    said = list(pieces(TABLE, Path("/r/mini/tables/e2e.md"), Path("/r/mini/report.html")))
    facts, run_again, table, notes = said
    assert facts == "<p>Backbone: A &lt;b&gt;.</p>"
    assert run_again == "<p>To reproduce: <code>python -m lora_repro.run experiment=e2e</code></p>"
    assert isinstance(table, Table) and table.caption == "E2E NLG, profile mini"
    assert [row[0] for row in table.rows] == ["LoRA", "", "&lt;img src=x&gt;"] and table.rows[0][3] == "a | b"
    shown = html_of(table)
    assert shown.count('<th scope="row">LoRA</th>') == shown.count('<th scope="row" class="again">LoRA</th>') == 1
    assert shown.count('scope="col" class="n"') == 1 and "<img" not in shown
    assert 'href="../claims.md#one"' in notes and "† n = 1" in notes


def test_markdown_without_a_caption_and_with_html_or_images_is_safe() -> None:
    text = f"# Top\n\n{EVIL}\n\n![x](http://a.b/c.png) [y](javascript:alert(1))\n\n| A |\n|---|\n| 1 |\n"
    prose, table = pieces(text, Path("/r/claims.md"), Path("/r/mini/report.html"))
    assert isinstance(table, Table) and table.caption == ""
    assert "<h3>Top</h3>" in prose and "<script" not in prose and "<img" not in prose
    assert 'href="javascript' not in prose


def test_the_page_holds_every_part(html: str) -> None:
    text = " ".join(Seen(html).texts)
    for part in ("E2E NLG", "Curve", "Claims", "Examples", "Runs and commands", "† n = 1"):
        assert part in text
    assert "python -m lora_repro.run experiment=e2e profile=mini row/e2e=lora seed=0" in text
    seen = Seen(html)
    assert {"e2e", "curve", "claims", "examples", "runs"} <= {a.get("id") for a in seen.of("section")}
    assert '<a href="../report.json">report.json</a>' in html
    assert re.search(r"\b1 run \(1 finished\), .* 2 more, of earlier protocols, appear only in the list of runs\.", html)
    assert '<a href="../mini/tables/e2e.md">' in html and '<a href="../claims.md">' in html


def test_the_page_opens_with_verdicts_the_table_of_lora_and_ours_beside_the_paper_s(html: str) -> None:
    first = html[html.index('<section id="summary">') : html.index("</section>")]
    text = " ".join(" ".join(Seen(first).texts).split())
    assert "the paper's 2 claims: 1 replicated 1 inconclusive" in text  # later work's is not counted
    assert "E2E NLG BLEU 72.1 70.4 ± 0.1 70.7 — 1" in text
    assert first.count("<img") == 1 and 'alt="LoRA &lt;beside&gt; the paper"' in first and 'width="40"' in first
    assert html.index('<section id="summary">') < html.index("<nav") < html.index('<section id="e2e">')


def test_seeds_are_told_from_the_fewest_to_the_most() -> None:
    cells = [cell | {"n": 10 if cell["row"] == "lora" else 3} for cell in CELLS]
    table = headline({"e2e": {"cells": cells}}, {"e2e": "E2E NLG"})
    assert table and table.rows[0][-1] == "3-10"


def test_a_claim_is_a_line_with_its_badge_that_opens(html: str) -> None:
    shown = html[html.index('id="two"') : html.index('id="three"')]
    for part in ('<span class="badge inconclusive"', "Claim two holds.", "<code>a</code> - <code>b</code>"):
        assert part in shown
    assert "1.5 [−3.25, 6.5] (n = 1), 4 of 5 seeds inside, Δ 7.04<" in shown and "At laptop: tested" in shown
    assert "<p>So it went " in shown and EVIL not in shown
    assert html.index("Of the paper") < html.index('id="two"') < html.index("Of later work") < html.index('id="three"')


def test_a_table_that_nobody_ran_is_a_line_with_its_command(html: str) -> None:
    lone = html[html.index('<section id="glue">') :]
    lone = lone[: lone.index("</section>")]
    assert "the paper's values</a>): <code>make x</code>" in lone and "<table" not in lone
    assert html.index('<section id="e2e">') < html.index('<section id="glue">') < html.index('<section id="runs">')


def test_a_table_on_the_page_has_ours_without_what_was_not_run() -> None:
    header = ("Method", "Source", "Params", "head", "BLEU ↑", "n", "Notes")
    rows = (("LoRA", "published", "10", "0", "70†", "1", "a note"), ("", "paper (M)", "—", "—", "71", "3", "Table 3"),
            ("Full", "published", "—", "—", "—", "—", ""), ("", "paper (M)", "—", "—", "68", "—", ""))  # fmt: skip
    table = Table(("T",), header, "llrrrrl", rows)
    found = folded(table)
    assert found.header == ("Method", "Source", "Params", "BLEU ↑", "n")  # notes are in the source's cell, no head has parameters
    assert [tuple(map(str, row)) for row in found.rows] == [
        ("LoRA", "ours<small>a note</small>", "10", "70†", "1"),
        ("", "paper (M)<small>Table 3</small>", "—", "71", "3"),
        ("Full", "paper (M)", "—", "68", "—"),
    ]
    assert found.footnotes[-1] == "Not run here: Full."
    assert not unrun(table) and unrun(replace(table, rows=rows[2:])) and not unrun(replace(table, header=("A", *header[2:], "B")))


def test_what_was_measured_without_training_has_machine_commit_date_and_command(html: str) -> None:
    found = json.loads((ROOT / "results" / "mini" / "measures" / "latency.json").read_text(encoding="utf-8"))
    text = html[html.index("Measurements without training") :]
    for said in (found["signature"], found["where"]["git_sha"][:9], found["where"]["finished_at"][:10]):
        assert said in text
    assert "<code>python -m lora_repro latency profile=mini</code>" in text
    assert found["where"]["device"] in html[: html.index("Models and data")]


def test_generated_data_show_inputs_and_references(html: str) -> None:
    text = " ".join(Seen(html).texts)
    assert "The data are generated by us" in text and " | Type : " in text
    assert text.count("Outputs for input") == 3


def test_the_page_asks_nothing_of_a_network(html: str) -> None:
    seen = Seen(html)
    policy = next(a["content"] for a in seen.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy
    assert not seen.of("link", "iframe", "object", "embed", "base", "form", "audio", "video", "source")
    for tag, attributes in seen.tags:
        assert "src" not in attributes or attributes["src"].startswith("data:"), attributes
        assert "href" not in attributes or tag == "a", tag
        assert not [key for key in attributes if key.startswith("on") or key in ("style", "srcset")], attributes
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style and not re.search(r"@import|url\(", style[1])


def test_foreign_text_stays_text(html: str) -> None:
    assert html.count("<script") == 1 and EVIL not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; lora" in html
    assert not [a for a in Seen(html).of("img") if a["src"] == "x"]


def test_the_page_is_accessible(html: str) -> None:
    seen = Seen(html)
    ids = Counter(attributes["id"] for _, attributes in seen.tags if "id" in attributes)
    assert set(ids.values()) == {1}
    for _, attributes in seen.tags:
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids
        assert attributes.get("aria-labelledby", next(iter(ids))) in ids
    assert len(seen.of("table")) == len(seen.of("caption")) == len(seen.of("thead")) > 3
    assert all(a["alt"] for a in seen.of("img")) and len(seen.of("img")) == 3
    levels = [int(tag[1]) for tag, _ in seen.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert seen.of("html")[0]["lang"] == "en" and any(a.get("name") == "viewport" for a in seen.of("meta"))


@pytest.mark.parametrize("path", sorted((ROOT / "results").glob("*/report.html")), ids=lambda path: path.parent.name)
def test_on_a_published_page_every_link_leads_somewhere_and_no_tag_is_text(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    seen = Seen(text)
    ids = Counter(attributes["id"] for _, attributes in seen.tags if "id" in attributes)
    links = {attributes["href"] for attributes in seen.of("a")}
    assert not {link[1:] for link in links if link.startswith("#")} - set(ids) and set(ids.values()) == {1}
    files = {unquote(link) for link in links if not link.startswith(("#", "https:"))}
    gone = {file for file in files if not (path.parent / file.partition("#")[0]).is_file()}
    assert not gone and len(links) > 8
    assert not re.findall(r"&lt;/?(?:br|a|p|b|td|small|span|code)\b", text)


@pytest.mark.parametrize("path", sorted((ROOT / "results").glob("*/report.html")), ids=lambda path: path.parent.name)
def test_a_published_page_opens_with_the_summary_and_no_table_is_all_dashes(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    main = text[text.index("<main>") :]
    assert main.index('id="summary"') < main.index("<table") and "the paper's" in main[: main.index("<nav")]
    for body in re.findall(r"<table.*?</table>", main, re.DOTALL):
        cells = re.findall(r"<td[^>]*>(.*?)</td>", body, re.DOTALL)
        assert not cells or any(cell not in ("—", "") for cell in cells)
    figures = sorted((path.parent / "figures").glob("*.svg"))
    assert text.count("<figure") == len(figures)
    for figure in figures:
        title = re.search(r"<title>(.*?)</title>", figure.read_text(encoding="utf-8"))
        assert title and f'alt="{title[1]}"' in text.replace("&#39;", "'"), figure.name


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_stands_out_in_every_scheme() -> None:
    """WCAG 2.2: contrast (L1 + 0.05) / (L2 + 0.05) of at least 4.5 for text."""
    style = (ROOT / "lora_repro" / "report" / "page" / "page.css").read_text(encoding="utf-8")
    schemes = [dict(re.findall(r"--(\w+): (#\w+)", found)) for found in re.findall(r":root \{(.*?)\}", style)]
    assert len(schemes) == 3  # light, dark, print
    for scheme in schemes:
        for ground in ("page", "band"):
            for ink in ("text", "quiet", "link", "good", "bad", "open"):
                light = sorted((luminance(scheme[ink]), luminance(scheme[ground])))
                assert (light[1] + 0.05) / (light[0] + 0.05) >= 4.5, (ink, ground, scheme)


def test_the_same_files_give_the_same_bytes(results: Path, html: str) -> None:
    assert page(results, "mini", results / "mini" / "report.html") == html


def test_texts_are_shown_only_where_they_are_those_that_were_scored() -> None:
    record = record_of("e2e", "lora")
    known, note = texts_of(record, None)
    assert len(known) == 60 and note == "The data are generated by us."
    record["where"]["data"]["hashes"]["rows/test"] = "0" * 64
    known, note = texts_of(record, None)
    assert not known and "not those that were scored" in note


def test_real_data_are_quoted_from_a_folder_alone_and_attributed(tmp_path: Path) -> None:
    record = record_of("e2e", "lora")
    record["asked"]["task"]["source"] = "folder"
    known, note = texts_of(record, None)
    assert not known and "not part of the repository" in note and "CC BY-SA 4.0" in note
    known, note = texts_of(record, str(tmp_path))
    assert not known and "not shown: no train.csv" in note


@pytest.mark.parametrize("profile", ["laptop", "mini"])
@pytest.mark.parametrize("table", ["e2e", "glue"])
def test_a_printed_command_composes_to_its_record(profile: str, table: str) -> None:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in PUBLISHED if profile in path.parts]
    mine = [record for record in found if record["row"]["table"] == table]
    if not mine:
        pytest.skip("none is published now")
    record = max(mine, key=lambda record: (record["asked"]["train"]["epochs"], record["signature"]))
    made = command(record, profile)
    assert not made.problem
    program, *overrides = shlex.split(made.text.removeprefix("python -m "))
    assert program == "lora_repro.run"
    composed = compose([item for item in overrides if not item.startswith("paths.")])
    assert signature(resolved(composed)) == record["signature"]
    assert ("paths.data=/path/to/" + table in overrides) == (profile == "laptop")


@pytest.mark.parametrize(
    ("overrides", "extra"),
    [  # a swept size that no record names, and what sets a run apart from its row
        (["experiment=rank", "profile=mini", "row/rank=lora_q", "task=similarity", "row.rank=16", "seed=1"], ()),
        (["experiment=e2e", "profile=mini", "row/e2e=lora", "train.epochs=7", "train.precision=bf16", "seed=0"],
         ("train.epochs=7", "train.precision=bf16")),
    ],
)  # fmt: skip
def test_a_size_is_found_and_what_a_row_does_not_ask_is_told(overrides: list[str], extra: tuple[str, ...]) -> None:
    config = resolved(compose(overrides))
    row = {key: config["row"][key] for key in ("table", "name", "label")}
    record = {"signature": signature(config), "asked": identity(config), "row": row}
    made = command(record, "mini")
    assert not made.problem and made.extra == extra and set(made.overrides) == set(overrides)


def test_a_run_outside_any_table_and_one_that_no_override_gives() -> None:
    config = resolved(compose(["profile=mini", "method=bitfit", "train.lr=0.0003", "seed=2"]))
    record = {"signature": signature(config), "asked": identity(config), "row": {"table": None, "name": "adhoc", "label": None}}
    made = command(record, "mini")
    assert not made.problem and {"method=bitfit", "train.lr=0.0003", "seed=2"} <= set(made.overrides)
    record["asked"]["train"]["gone"] = 1
    record["signature"] = "0" * 16
    assert "another signature" in command(record, "mini").problem
    record["row"] = {"table": "e2e", "name": "no_such_row", "label": "x"}
    assert "refuses" in command(record, "mini").problem


def test_the_command_of_ones_own_method_names_the_package_and_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_biases.py").write_text("from lora_repro.methods.bitfit import BitFit\nclass Mine(BitFit): pass\n")
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("_target_: own_biases.Mine\nname: mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(paths.OWN, str(tmp_path))
    monkeypatch.setenv(paths.TRUSTED, "own_biases")
    config = resolved(compose(["profile=mini", "method=mine", "task=sentiment"]))
    record = {"signature": signature(config), "asked": identity(config), "row": {"table": None, "name": "mine", "label": None}}
    made = command(record, "mini")
    assert not made.problem and made.text.split()[3:7] == ["--config-dir", "/path/to/yours", "--trust", "own_biases"]
    (tmp_path / "method" / "mine.yaml").write_text("_target_: lora_repro.methods.bitfit.BitFit\nname: mine\n")
    config = resolved(compose(["profile=mini", "method=bitfit", "task=sentiment"]))
    assert command(record | {"asked": identity(config)}, "mini").options == ()


@pytest.mark.parametrize(
    "value", [None, True, 3, 1e-08, 0.002, "plain", "0", "null", "a b's \"c\"", "é,{x: 1}", ["query", "0"], {"a": [1, None]}]
)
def test_a_value_survives_the_override_grammar(value: object) -> None:
    assert resolved(compose([f"row.label={override_value(value)}"]))["row"]["label"] == value


def test_an_embedded_figure_is_smaller_and_every_glyph_is_still_found() -> None:
    path = next(path for path in sorted((ROOT / "results").glob("*/figures/*.svg")) if "DejaVuSans-" in path.read_text("utf-8"))
    glyphs = path.read_text("utf-8").count("DejaVuSans-")
    text = base64.b64decode(embed_figure(path.with_suffix("")).source.partition(",")[2]).decode()
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(text) < path.stat().st_size - 10 * glyphs and len(ids) == len(set(ids))
    assert set(re.findall(r'xlink:href="#([^"]+)"', text)) <= set(ids) and "DejaVuSans-" not in text


def test_figures_belong_to_the_longest_stem_and_the_smaller_file_is_taken(tmp_path: Path) -> None:
    assert belonging(["e2e", "rank", "rank_two"], ["e2e", "rank_cost", "rank_two_a", "lone", "ranks"]) == {
        "e2e": ["e2e"], "rank": ["rank_cost"], "rank_two": ["rank_two_a"], "lone": ["lone"], "ranks": ["ranks"],
    }
    (tmp_path / "a.svg").write_text("<svg>" + 40 * "<g/>" + "</svg>")
    assert embed_figure(tmp_path / "a").source.startswith("data:image/svg+xml;base64,")
    (tmp_path / "a.png").write_bytes(b"small")
    assert embed_figure(tmp_path / "a").source.startswith("data:image/png;base64,")


def test_the_command_line_writes_the_page_and_names_mistakes(
    results: Path, html: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = results.parent
    assert main(["report", "profile=mini"], root) == 0
    assert (results / "mini" / "report.html").read_text(encoding="utf-8") == html
    assert main(["report", "profile=mini", f"paths.data='{tmp_path}'"], root) == 0  # a reader's texts stay out of results/
    assert (root / "runs" / "mini" / "report.html").is_file()
    capsys.readouterr()
    for arguments in (["mini"], ["profile=none"], ["profile=mini", "paths.data=/no/such"], ["profile=mini", "profile=laptop"]):
        assert main(["report", *arguments], root) == 2
        assert re.fullmatch(r"error: .+\n", capsys.readouterr().err)
    assert main(["report"], tmp_path) == 2


@pytest.mark.parametrize("profile", sorted({path.parts[-3] for path in PUBLISHED}))
def test_the_published_page_is_up_to_date(profile: str) -> None:
    """Cheaply: it names every record and table, and each record's command was found. `make report` mends it."""
    folder = ROOT / "results" / profile
    path = folder / "report.html"
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 260_000 * text.count("<section id=")  # its figures are nine tenths: none may bloat
    for name in (folder / "records").glob("*.json"):
        assert name.stem in text, f"{name.stem} is not on the page: make report"
    for table in (folder / "tables").glob("*.md"):
        assert f'<section id="{table.stem}">' in text, f"{table.stem} is not on the page: make report"
    assert "none: this checkout" not in text
    if "runs of earlier protocols" not in text:
        assert re.search(r"[\d,]+ runs? \([^)]*\), [^<]* hours in all", text), "more than which?"


def test_a_run_that_others_start_from_is_none_of_an_earlier_protocol() -> None:
    records: dict[str, Any] = {"c": {"asked": {"starts_from": ["b"]}}, "b": {"asked": {"starts_from": ["a"]}}, "a": {"asked": {}}}
    assert _with_starts({"c"}, records) == {"a", "b", "c"} and _with_starts({"b", "x"}, records) == {"a", "b", "x"}
