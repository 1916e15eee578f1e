"""The report pages: what they keep of the tables, that they ask nothing of a network, and that foreign text stays text."""

from __future__ import annotations

import base64
import itertools
import json
import os
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
from lora_repro.config.signature import identity, signature
from lora_repro.files import SEAL, write_text
from lora_repro.planning.rerun_command import command
from lora_repro.records import manifest
from lora_repro.report import render
from lora_repro.report.exhibit import Exhibit, belonging
from lora_repro.report.html import FEW, RADIUS, WIDTH, beside, strips, unrun
from lora_repro.report.kept import Shown
from lora_repro.report.page import build
from lora_repro.report.page.build import _with_starts, pages
from lora_repro.report.page.figures import article, embed_figure, inline
from lora_repro.report.page.runs import texts_of
from lora_repro.report.page.summary import by_experiment, claims_of
from lora_repro.report.table import Count, Number, Origin, Remark, Reproduce, Source, Table, markdown
from lora_repro.results import published as stored

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = sorted((ROOT / "results").glob("*/records/*.json"))
EVIL = "<script>alert(1)</script>"
TABLE = Table(
    ("E2E NLG, profile mini", "Backbone: A <b>", Reproduce("lora-repro run experiment=e2e")),
    ("Method", "Source", "BLEU ↑", "n", "BLEU − full FT [95 %]", "Notes"),
    "llrrrl",
    (
        ("LoRA", Source("published"), Number("74.7 ± 0.4", 74.7, 0.4, 3, seeds=(74.3, 74.7, 75.1)), Count.of(3),
         Number("−1.3 [−2.1, −0.5]*", -1.3, None, 3, -2.1, -0.5, equal=0, badge="worse"), Remark("a | b")),
        ("", Source("paper", Origin.PAPER), Number("70.4†", 70.4, None, 1), Count.of(1), "—", Remark("Table 3")),
        ("<img src=x>", Source("published"), "1 collapsed", Count.of(1), "—", Remark("")),
    ),
    ("† n = 1: one seed.",),
)  # fmt: skip
UNRUN = Table(
    ("GLUE, profile mini", Reproduce("make x")), ("Method", "Source", "RTE ↑", "n"), "llrr",
    (("LoRA", Source("published"), "—", "—"), ("", Source("paper", Origin.PAPER), Number("86.6", 86.6), Count.of(3))),
)  # fmt: skip
SHOWN = [Shown(stem, (Exhibit(stem, title, (table,), "", lambda stem: []),), None, {}) for stem, title, table in (
    ("e2e", "E2E NLG", TABLE), ("glue", "GLUE", UNRUN))]  # fmt: skip
READING = {"what": f"LoRA {EVIL}", "unit": "BLEU", "verdict": "inconclusive", "better": "", "n": 1, "generated": True,
           "inside": "4 of 5 seeds inside", "value": 1.5, "low": -3.25, "high": 6.5, "detectable": 7.04,
           "notes": ["`e2e/lora`: 1 run"], "sources": ["mini/tables/e2e.md"]}
CLAIMS = [
    {"id": name, "statement": f"Claim {name} holds.", "after_the_paper": after, "figure": "70.4", "source": "Table 3",
     "test": "`e2e/lora` - `b`",
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
    records = [json.loads(path.read_text(encoding="utf-8")) for path in PUBLISHED if "mini" in path.parts]
    mine = [r for r in records if (r["row"]["table"], r["row"]["name"], r["asked"]["seed"]) == (table, row, 0)]
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
        predictions = ROOT / "results" / "mini" / "predictions" / f"{record['signature']}.jsonl"
        lines = [json.loads(line) | {"output": f"{EVIL} {row}"} for line in predictions.read_text().splitlines()]
        target = folder / "mini" / "predictions" / predictions.name
        target.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "mini" / "tables" / "e2e.md").write_text(markdown([TABLE]))
    for name in ("e2e", "curve"):
        (folder / "mini" / "figures" / f"{name}.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'> <g/> </svg>")
    title = "<title>LoRA &lt;beside&gt; the paper</title>"
    svg = f'<svg width="30pt" height="60pt" xmlns="http://www.w3.org/2000/svg">{title}</svg>'
    (folder / "mini" / "figures" / "e2e_beside_paper.svg").write_text(svg)
    shutil.copytree(ROOT / "results" / "mini" / "measures", folder / "mini" / "measures")
    (folder / "claims.md").write_text("# Claims\n")
    lora_run = record_of("e2e", "lora")["signature"]
    cells = [cell | {"records": [lora_run] if cell["source"] == "published" else []} for cell in CELLS]
    tables = {"mini": {"e2e": {"cells": cells, "sheets": []}}}
    (folder / "report.json").write_text(json.dumps({"tables": tables, "claims": CLAIMS}))
    note(folder)
    return folder


@pytest.fixture(scope="module")
def made(results: Path) -> dict[str, str]:
    return pages(stored(results / "mini"), results / "mini" / "report.html", SHOWN)


@pytest.fixture(scope="module")
def html(made: dict[str, str]) -> str:
    """All pages in one text."""
    return "\n".join(made.values())


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


def test_a_table_keeps_caption_facts_command_labels_and_footnotes(made: dict[str, str]) -> None:
    page = made["report/e2e.html"]
    assert "<p>Backbone: A &lt;b&gt;.</p>" in page
    assert "<p>To reproduce: <code>lora-repro run experiment=e2e</code></p>" in page
    assert ">E2E NLG, profile mini</span></caption>" in page and "<li>† n = 1: one seed.</li>" in page
    assert '<th scope="row">LoRA<small>a | b</small><small>paper, n = 1: Table 3</small></th>' in page
    assert '<th scope="row">&lt;img src=x&gt;</th>' in page


def test_ours_and_the_papers_value_stand_side_by_side_with_seeds_interval_and_badge(made: dict[str, str]) -> None:
    """All that a cell shows is of its value: text, number to sort by, dots, interval, badge."""
    page = made["report/e2e.html"]
    heads = re.findall(r'<th scope="col"([^>]*)>(.*?)</th>', page.partition("<tbody>")[0])
    assert [text.replace("\u00a0", " ") for _, text in heads] == ["Method", "BLEU ↑", "paper", "n", "BLEU − full FT [95 %]"]
    assert heads[2][0] == ' class="n theirs" aria-label="BLEU ↑, paper"'
    mean, paper, n, versus = re.findall(r"<td.*?</td>", page)[:4]
    assert 'data-n="74.7"' in mean and mean.count("<circle") == 3 and 'aria-label="3 values: 74.3, 74.7, 75.1"' in mean
    assert 'data-theirs="70.4†"' in mean and "data-theirs" not in paper + n + versus  # where there is no room beside it
    assert 'class="n theirs"' in paper and 'data-n="70.4"' in paper and ">70.4†</td>" in paper and ">3</td>" in n
    assert '<span class="badge worse">worse</span>' in versus and 'aria-label="−1.3, interval −2.1 to −0.5"' in versus
    assert versus.count("<circle") == 1 and versus.count("<path") == 2


def test_dots_of_a_column_have_one_scale_and_many_or_one_value_have_none() -> None:
    def mean(*seeds: float) -> Number:
        return Number("m", sum(seeds) / len(seeds), 0.1, len(seeds), seeds=seeds)

    low, high, one, many, none = strips([mean(0, 5), mean(5, 10), mean(7), mean(*range(FEW + 1)), "—"])
    (a, b), (c, d) = ([float(x) for x in re.findall(r'cx="([\d.]+)"', text)] for text in (low, high))
    assert a < b == c < d and (a, d) == (RADIUS, round(WIDTH - RADIUS, 1)) and one == many == none == ""
    ratio = strips([Number("0.7", 0.7, low=0.6, high=0.8, equal=1)])[0]
    line, equal = (re.search(rf"d=.M([\d.]+) {part}", ratio) for part in ("4H", "0V"))
    assert line and equal and float(line[1]) < float(equal[1]), "the ratio of equal times is 1, at the right end"


def test_written_markdown_is_safe_html() -> None:
    text = f"{EVIL} ![x](http://a.b/c.png) [y](javascript:alert(1)) `c`"
    markup = inline(text)
    assert "<script" not in markup and "<img" not in markup and 'href="javascript' not in markup and "<code>c</code>" in markup


def test_the_pages_hold_every_part(made: dict[str, str], html: str) -> None:
    assert list(made) == ["report.html", *(f"report/{name}.html" for name in ("e2e", "curve", "claims", "runs"))]
    text = " ".join(Seen(html).texts)
    for part in ("E2E NLG", "Curve", "Claims", "Examples", "Records and commands", "† n = 1"):
        assert part in text
    assert "lora-repro run experiment=e2e profile=mini row/e2e=lora seed=0" in text
    assert '<a href="../../report.json">report.json</a>' in made["report/runs.html"]
    front = made["report.html"]
    assert re.search(r"\b1 run \(1 finished\), .* 2 more, of earlier protocols, appear only in the list of runs\.", front)
    assert '<a href="../../mini/tables/e2e.md">' in html and '<a href="../../claims.md">' in html


def test_every_page_leads_to_every_other_and_says_which_it_is(made: dict[str, str]) -> None:
    order = ["report.html", *(f"report/{name}.html" for name in ("claims", "e2e", "curve", "runs"))]
    for name, text in made.items():
        nav = text[text.index("<nav") : text.index("</nav>")]
        to = re.findall(r'<a href="([^"]+)"( aria-current="page")?>', nav)
        assert [(Path(name).parent / link).as_posix().replace("report/../", "") for link, _ in to] == order
        assert [bool(attribute) for _, attribute in to] == [other == name for other in order]


def test_the_first_page_has_verdicts_and_what_they_are_of(made: dict[str, str]) -> None:
    text = " ".join(" ".join(Seen(made["report.html"]).texts).split())
    assert "The paper's 2 claims: 1 replicated 1 inconclusive" in text  # later work's is not counted
    assert "Replicated Claim one holds. So it went" in text and "generated data" in text


def test_an_experiment_s_page_begins_with_what_its_claims_say(made: dict[str, str]) -> None:
    first = made["report/e2e.html"].partition('<p class="lead">')[2].partition("</p>")[0]
    assert "So it went" in first and 'href="claims.html#one"' in first
    assert made["report/curve.html"].partition('<p class="lead">')[2].startswith("No claim reads this table.")


def test_a_claim_belongs_to_the_tables_that_its_test_names_or_that_show_all_that_it_reads() -> None:
    claims = [CLAIMS[0] | {"id": name, "test": test, "profiles": {"mini": {
                  "verdict": "replicated", "sentence": "", "readings": [READING | {"sources": sources}]}}}
              for name, test, sources in (("named", "`e2e/lora` - `e2e/full`", ["mini/records/r.json"]),
                                          ("read", "norms", ["mini/records/r.json"]),
                                          ("timed", "time", ["mini/measures/latency.json"]))]  # fmt: skip
    records = {"e2e": [], "norms": ["r", "s"], "few": ["s"]}
    tables = {stem: {"cells": [], "sheets": [{"records": names}]} for stem, names in records.items()}
    groups = by_experiment(claims_of(claims, "mini", False), tables, ["e2e", "norms", "few", "latency"])
    ids = {stem: [claim.id for claim in those] for stem, those in groups.items()}
    assert ids == {"e2e": ["named"], "norms": ["read"], "latency": ["timed"]}


def test_the_argument_is_the_page_of_the_docs_with_its_figures_under_their_finding(tmp_path: Path) -> None:
    text = ("# What holds\n\nSee [e2e](../results/laptop/tables/e2e.md), [a claim](../results/claims.md#one), "
            "[how](protocol.md#x).\n\n![a](../results/laptop/figures/a.svg)\n"
            "![b](../results/laptop/figures/b.svg)\n\n*Both\nrise.*\n\nAfter.\n")  # fmt: skip
    figures = tmp_path / "results" / "laptop" / "figures"
    figures.mkdir(parents=True)
    for name in "ab":
        (figures / f"{name}.svg").write_text(f'<svg width="30pt" height="60pt"><title>{name} &lt; c</title></svg>')
    page = tmp_path / "results" / "laptop" / "report.html"
    title, body = article(text, tmp_path / "docs" / "results.md", page, "report")
    assert title == "What holds" and body.count("<figure") == 1 and "<figcaption>Both rise.</figcaption>" in body
    assert re.findall(r'<img src="([^"]+)" alt="([^"]+)" width="(\d+)"', body) == [
        ("figures/a.svg", "a &lt; c", "40"), ("figures/b.svg", "b &lt; c", "40")]  # fmt: skip
    links = re.findall(r'href="([^"]+)"', body)
    assert links == ["report/e2e.html", "report/claims.html#one", "../../docs/protocol.md#x"] and "After." in body


def test_a_claim_is_a_line_with_its_badge_that_opens(html: str) -> None:
    claim = html[html.index('id="two"') : html.index('id="three"')]
    for part in ('<span class="badge inconclusive"', "Claim two holds.", "<code>e2e/lora</code> - <code>b</code>"):
        assert part in claim
    assert "1.5 [−3.25, 6.5] (n = 1), 4 of 5 seeds inside, Δ 7.04<" in claim and "At laptop: tested" in claim
    assert "<p>So it went " in claim and EVIL not in claim
    assert html.index("Of the paper") < html.index('id="two"') < html.index("Of later work") < html.index('id="three"')


def test_a_table_that_nobody_ran_is_a_line_with_its_command(made: dict[str, str]) -> None:
    lone = made["report/runs.html"].partition('<p id="glue">')[2].partition("</p>")[0]
    assert "the paper's values</a>): <code>make x</code>" in lone and "report/glue.html" not in made


def test_a_table_on_the_page_has_ours_without_what_was_not_run() -> None:
    header = ("Method", "Source", "Params", "head", "BLEU ↑", "n", "Notes")
    paper = Source("paper (M)", Origin.PAPER)

    def number(value: float) -> Number:
        return Number(f"{value:g}", value)

    rows = (("LoRA", Source("published"), number(10), "0", number(70), Count.of(1), Remark("a note")),
            ("", paper, "—", "—", number(71), Count.of(3), Remark("Table 3")),
            ("", Source("reruns", Origin.RERUNS), "—", "—", number(69), Count.of(3), Remark("issue")),
            ("Full", Source("published"), "—", "—", "—", "—", Remark("")),
            ("", paper, "—", "—", number(68), "—", Remark("Table 3")))  # fmt: skip
    table = Table(("T",), header, "llrrrrl", rows)
    view, omissions = beside(table)
    assert view.header == ("Method", "Params", "BLEU ↑", "paper", "n") and view.sides == "lrrrr"  # no head has parameters
    assert [tuple(map(str, row)) for row in view.rows] == [
        ("LoRA<small>a note</small><small>paper (M), n = 3: Table 3</small>", "10", "70", "71", "1"),
        ("LoRA<small>reruns, n = 3: issue</small>", "", "", "69", ""),
        ("Full<small>paper (M): Table 3</small>", "", "", "68", ""),
    ]
    assert omissions == ["Full"]
    plain = replace(table, rows=tuple(tuple(map(str, row)) for row in rows))
    assert not unrun(table) and unrun(replace(table, rows=rows[3:])) and not unrun(plain) and beside(plain) == (plain, [])


def test_what_was_measured_without_training_has_machine_commit_date_and_command(html: str) -> None:
    record = json.loads((ROOT / "results" / "mini" / "measures" / "latency.json").read_text(encoding="utf-8"))
    text = html[html.index("Measurements without training") :]
    for fact in (record["signature"], record["where"]["git_sha"][:9], record["where"]["finished_at"][:10]):
        assert fact in text
    assert "<code>lora-repro latency profile=mini</code>" in text
    assert record["where"]["device"] in text[text.index("Machines") : text.index("Models and data")]


def test_generated_data_show_inputs_and_references(html: str) -> None:
    text = " ".join(Seen(html).texts)
    assert "The data are generated by us" in text and " | Type : " in text
    assert text.count("Outputs for input") == 3


def test_the_pages_ask_nothing_of_a_network(made: dict[str, str], results: Path) -> None:
    for name, text in made.items():
        document = Seen(text)
        policy = next(a["content"] for a in document.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
        assert policy.startswith("default-src 'none'; img-src 'self' file:;") and "unsafe" not in policy
        assert not document.of("link", "iframe", "object", "embed", "base", "form", "audio", "video", "source")
        for tag, attributes in document.tags:
            if "src" in attributes:
                assert Path(os.path.normpath((results / "mini" / name).parent / attributes["src"])).is_file(), attributes
            assert "href" not in attributes or tag == "a", tag
            assert not [key for key in attributes if key.startswith("on") or key in ("style", "srcset")], attributes
        style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
        assert style and not re.search(r"@import|url\(", style[1])


def test_foreign_text_stays_text(html: str) -> None:
    assert html.count("<script") == html.count("<!doctype") and EVIL not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; lora" in html
    assert not [a for a in Seen(html).of("img") if a["src"] == "x"]


def test_the_pages_are_accessible(made: dict[str, str]) -> None:
    for text in made.values():
        document = Seen(text)
        ids = Counter(attributes["id"] for _, attributes in document.tags if "id" in attributes)
        assert set(ids.values()) <= {1}
        for _, attributes in document.tags:
            if attributes.get("href", "").startswith("#"):
                assert attributes["href"][1:] in ids
            assert attributes.get("aria-labelledby", next(iter(ids), None)) in ids or not ids
        assert len(document.of("table")) == len(document.of("caption")) == len(document.of("thead"))
        assert all(a["alt"] for a in document.of("img"))
        levels = [int(tag[1]) for tag, _ in document.tags if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
        assert document.of("html")[0]["lang"] == "en" and any(a.get("name") == "viewport" for a in document.of("meta"))
    assert '<img src="../figures/e2e_beside_paper.svg" alt="LoRA &lt;beside&gt; the paper" width="40"' in made["report/e2e.html"]


FRONTS = sorted((ROOT / "results").glob("*/report.html"))


def published(front: Path) -> dict[Path, str]:
    """The pages of a profile."""
    return {path: path.read_text(encoding="utf-8") for path in (front, *sorted((front.parent / "report").glob("*.html")))}


@pytest.mark.parametrize("front", FRONTS, ids=lambda path: path.parent.name)
def test_on_published_pages_every_link_leads_somewhere_and_no_tag_is_text(front: Path) -> None:
    texts = published(front)
    ids = {path: Counter(re.findall(r'\bid="([^"]+)"', text)) for path, text in texts.items()}
    for path, text in texts.items():
        assert set(ids[path].values()) <= {1}
        links = {attributes["href"] for attributes in Seen(text).of("a")} | {a["src"] for a in Seen(text).of("img")}
        for link in sorted(link for link in links if not link.startswith("https:")):
            file, _, anchor = unquote(link).partition("#")
            target = (path.parent / file).resolve() if file else path
            assert target.is_file(), (path, link)
            assert not anchor or target not in ids or anchor in ids[target] or anchor.startswith("find="), (path, link)
        assert not re.findall(r"&lt;/?(?:br|a|p|b|td|small|span|code)\b", text)


@pytest.mark.parametrize("front", FRONTS, ids=lambda path: path.parent.name)
def test_the_published_first_page_is_one_argument_and_each_figure_stands_once_behind_it(front: Path) -> None:
    """At most 1,500 words and six figures; behind it no table is all dashes and no sign is explained twice on a page."""
    texts = published(front)
    main = texts[front].partition("<main>")[2].partition("<script>")[0]
    for text in texts.values():  # as the paper writes it
        assert "W_q" not in re.sub(r"<(code|script|style|title)\b.*?</\1>|<[^>]+>", "", text, flags=re.DOTALL)
    words = re.sub(r"<[^>]+>", " ", re.sub("</?sub>", "", main)).split()
    assert len(words) <= 1500 and main.count("<figure") <= 7 and "The paper's" in main
    assert main.count("<figcaption") in (0, 6)
    behind = "".join(text for path, text in texts.items() if path != front)
    for body in re.findall(r"<table.*?</table>", behind, re.DOTALL):
        cells = re.findall(r"<td[^>]*>(.*?)</td>", body, re.DOTALL)
        assert not cells or any(cell not in ("—", "") for cell in cells)
    for figure in sorted((front.parent / "figures").glob("*.svg")):
        title = re.search(r"<title>(.*?)</title>", figure.read_text(encoding="utf-8"))
        assert title and behind.count(f'src="../figures/{figure.name}"') == 1, figure.name
        assert f'alt="{title[1]}"' in behind.replace("&#39;", "'"), figure.name
    for path, text in texts.items():
        notes = re.findall(r"<li>(.*?)</li>", text.partition("<main>")[2].partition('<section id="examples')[0], re.DOTALL)
        assert path.stem in ("claims", "runs") or len(notes) == len(set(notes)), path.name


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_stands_out_in_every_scheme() -> None:
    """WCAG 2.2: contrast (L1 + 0.05) / (L2 + 0.05) of at least 4.5 for text."""
    style = (ROOT / "lora_repro" / "report" / "page" / "page.css").read_text(encoding="utf-8")
    schemes = [dict(re.findall(r"--(\w+): (#\w+)", block)) for block in re.findall(r":root \{(.*?)\}", style)]
    assert len(schemes) == 3  # light, dark, print
    for scheme in schemes:
        for ground in ("page", "band"):
            for ink in ("text", "quiet", "link", "good", "bad", "open"):
                light = sorted((luminance(scheme[ink]), luminance(scheme[ground])))
                assert (light[1] + 0.05) / (light[0] + 0.05) >= 4.5, (ink, ground, scheme)


def test_the_same_files_give_the_same_bytes(results: Path, html: str) -> None:
    assert "\n".join(pages(stored(results / "mini"), results / "mini" / "report.html", SHOWN).values()) == html


def test_texts_are_shown_only_where_they_are_those_that_were_scored() -> None:
    record = record_of("e2e", "lora")
    texts, note = texts_of(record, None)
    assert len(texts) == 60 and note == "The data are generated by us."
    record["where"]["data"]["hashes"]["rows/test"] = "0" * 64
    texts, note = texts_of(record, None)
    assert not texts and "not those that were scored" in note


def test_real_data_are_quoted_from_a_folder_alone_and_attributed(tmp_path: Path) -> None:
    record = record_of("e2e", "lora")
    record["asked"]["task"]["source"] = "folder"
    texts, note = texts_of(record, None)
    assert not texts and "not part of the repository" in note and "CC BY-SA 4.0" in note
    texts, note = texts_of(record, str(tmp_path))
    assert not texts and "not shown: no train.csv" in note


@pytest.mark.parametrize(("table", "profile"), [("e2e", "laptop"), ("glue", "mini")])
def test_a_printed_command_composes_to_its_record(table: str, profile: str) -> None:
    records = [json.loads(path.read_text(encoding="utf-8")) for path in PUBLISHED if profile in path.parts]
    mine = [record for record in records if record["row"]["table"] == table]
    if not mine:
        pytest.skip("none is published now")
    record = max(mine, key=lambda record: (record["asked"]["train"]["epochs"], record["signature"]))
    rerun = command(record, profile)
    assert not rerun.problem
    program, verb, *overrides = shlex.split(rerun.text)
    assert (program, verb) == ("lora-repro", "run")
    config = compose([item for item in overrides if not item.startswith("paths.")])
    assert signature(resolved(config)) == record["signature"]
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
    rerun = command(record, "mini")
    assert not rerun.problem and rerun.extra == extra and set(rerun.overrides) == set(overrides)


def test_a_run_outside_any_table_and_one_that_no_override_gives() -> None:
    config = resolved(compose(["profile=mini", "method=bitfit", "train.lr=0.0003", "seed=2"]))
    record = {"signature": signature(config), "asked": identity(config), "row": {"table": None, "name": "adhoc", "label": None}}
    rerun = command(record, "mini")
    assert not rerun.problem and {"method=bitfit", "train.lr=0.0003", "seed=2"} <= set(rerun.overrides)
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
    rerun = command(record, "mini")
    assert not rerun.problem and rerun.text.split()[2:6] == ["--config-dir", "/path/to/yours", "--trust", "own_biases"]
    (tmp_path / "own_biases.py").write_text("class BitFit: pass\n")
    config = resolved(compose(["profile=mini", "method=bitfit", "method._target_=own_biases.BitFit", "task=sentiment"]))
    rerun = command({"signature": signature(config), "asked": identity(config), "row": record["row"]}, "mini")
    assert not rerun.problem and "method._target_=own_biases.BitFit" in rerun.extra
    (tmp_path / "method" / "mine.yaml").write_text("_target_: lora_repro.methods.bitfit.BitFit\nname: mine\n")
    config = resolved(compose(["profile=mini", "method=bitfit", "task=sentiment"]))
    assert command(record | {"asked": identity(config)}, "mini").options == ()


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
    results: Path, made: dict[str, str], html: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    root = results.parent
    monkeypatch.setattr(render, "all_published", lambda store: SHOWN)
    with manifest.changing(results) as change:
        write_text(change.staged / "mini" / "report" / "old.html", "of an experiment that is no more")
    assert main(["report", "profile=mini"], root) == 0
    assert not (results / "mini" / "report" / "old.html").exists()
    manifest.check(results)
    assert "\n".join((results / "mini" / name).read_text(encoding="utf-8") for name in made) == html
    assert main(["report", "profile=mini", f"paths.data='{tmp_path}'"], root) == 0  # a reader's texts stay out of results/
    assert (root / "runs" / "mini" / "report.html").is_file()
    assert 'src="../../../results/mini/figures/e2e.svg"' in (root / "runs/mini/report/e2e.html").read_text(encoding="utf-8")
    capsys.readouterr()
    for arguments in (["mini"], ["profile=none"], ["profile=mini", "paths.data=/no/such"], ["profile=mini", "profile=laptop"]):
        assert main(["report", *arguments], root) == 2
        assert re.fullmatch(r"error: .+\n", capsys.readouterr().err)
    assert main(["report"], tmp_path) == 2


@pytest.mark.parametrize("front", FRONTS, ids=lambda path: path.parent.name)
def test_the_published_pages_are_up_to_date(front: Path) -> None:
    """Cheaply: every record is listed, every table has a page or a line, each command was found. `make report` mends it."""
    folder, texts = front.parent, published(front)
    assert sum(len(text) for text in texts.values()) < 3_000_000  # figures are linked, not copied
    runs = texts[folder / "report" / "runs.html"]
    for name in (folder / "records").glob("*.json"):
        assert f'records/{name.name}"' in runs, f"{name.stem} is not on the page: make report"
    for table in (folder / "tables").glob("*.md"):
        present = (folder / "report" / f"{table.stem}.html").is_file() or f'<p id="{table.stem}">' in runs
        assert present, f"{table.stem} has no page: make report"
    assert "none: this checkout" not in runs
    if "runs of earlier protocols" not in texts[front]:
        assert re.search(r"[\d,]+ runs? \([^)]*\), [^<]* hours in all", texts[front]), "more than which?"
    title, argument = build._argument(folder, front)
    current = argument is None or (title in texts[front] and build.subscripts(str(argument).strip()) in texts[front])
    assert current, "docs/results.md changed: make report"


def test_a_run_that_others_start_from_is_none_of_an_earlier_protocol() -> None:
    records: dict[str, Any] = {"c": {"asked": {"starts_from": ["b"]}}, "b": {"asked": {"starts_from": ["a"]}}, "a": {"asked": {}}}
    assert _with_starts({"c"}, records) == {"a", "b", "c"} and _with_starts({"b", "x"}, records) == {"a", "b", "x"}
