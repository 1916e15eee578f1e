"""`make site`: the site shows every example as code, and a dead link fails the build. Skipped where mkdocs is not installed."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_docs import DOCS, blocks
from test_page_browser import BROWSER, ask, too_wide

pytest.importorskip("mkdocstrings", reason="mkdocs is not installed (make site installs it)")

ROOT = Path(__file__).resolve().parents[1]
PAGES = {page: "index" if page.stem == "results" else page.stem for page in DOCS if page.stem != "claims"}  # the head of a page


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """The site of the project in `folder`, built as the Makefile does it."""
    match = re.search(r"-m (mkdocs .*?) &&", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert match
    command = [sys.executable, "-m", *match[1].split()]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "docs", folder / "docs")
    for name in ("mkdocs.yml", "mkdocs_hook.py", "README.md", "NOTICE.md"):
        shutil.copy(ROOT / name, folder)
    for name in ("results", "conf", "lora_repro"):
        (folder / name).symlink_to(ROOT / name)
    process = build(folder)
    assert process.returncode == 0, process.stderr
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_example_is_a_code_block(page: Path, project: Path) -> None:
    markup = (project / "site" / f"{PAGES[page]}.html").read_text(encoding="utf-8")
    assert "```" not in markup
    examples = [html.unescape(text) for text in re.findall(r"<pre><code[^>]*>(.*?)</code></pre>", markup, re.S)]
    for _, info, text in blocks(page):
        assert text.expandtabs(4) in examples  # as Python-Markdown does
        if info.startswith(("file=", "add=")):
            assert f"<p><code>{info.partition('=')[2]}</code></p>" in markup


def test_results_and_claims_are_on_the_site_and_all_links_lead_somewhere(project: Path) -> None:
    site = project / "site" / "results"
    pages = [site / "index.html", site / "claims.html", *sorted(site.glob("*/report.html"))]
    assert len(pages) > 3
    docs_pages = [site.parent / f"{name}.html" for name in (*PAGES.values(), "quickstart", "reference", "settings")]
    for page in [*pages, *sorted(site.glob("*/report/*.html")), *docs_pages]:
        text = page.read_text(encoding="utf-8")
        links = {html.unescape(link) for link in re.findall(r'(?:href|src)="([^"#:]+)(?:#[^"]*)?"', text)}
        dead_links = sorted(link for link in links if not (page.parent / link).exists())
        assert not dead_links and links, (page, dead_links[:5])
        assert "!<a " not in text, f"{page.name} has a link where a figure should be"
    index = pages[0].read_text(encoding="utf-8")
    assert all(f'href="{page.parent.name}/report.html"' in index for page in pages[2:]) and "_beside_paper.svg" in index


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_its_pages_fit_a_phone_a_tablet_and_a_desk_dark_and_light(project: Path, tmp_path: Path) -> None:
    for name, scheme in (("dark", 0), ("light", 1)):
        shutil.copytree(project / "site", tmp_path / name, ignore=shutil.ignore_patterns("results"))
        option = f"--blink-settings=preferredColorScheme={scheme}"
        colour = ask(tmp_path / name / "protocol.html", "getComputedStyle(document.body).backgroundColor", option)
        assert (sum(map(int, re.findall(r"\d+", colour))) < 200) == (name == "dark")
        assert too_wide(tmp_path / name, option) == []


def test_nothing_of_it_comes_from_elsewhere(project: Path) -> None:
    for page in (project / "site").glob("*.html"):
        assert re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="https?:', page.read_text(encoding="utf-8")) == []


def test_it_begins_with_the_argument_and_every_setting_has_its_type_and_default(project: Path) -> None:
    first = (project / "site" / "index.html").read_text(encoding="utf-8")
    assert "What holds, what does not" in first and first.count("<img ") >= 6
    settings = (project / "site" / "settings.html").read_text(encoding="utf-8")
    rows = re.findall(r"<tr>\s*" + 4 * r"<td>(.*?)</td>\s*" + "</tr>", settings, re.S)
    assert any(key == "<code>batch_size</code>" and "global batch" in meaning for key, _, _, meaning in rows)
    assert ("<code>rank</code>", "a whole number of at least 1", "<code>4</code>") in [row[:3] for row in rows]
    for group in ("data", "backbone", "method", "task", "train", "decode", "tracker"):  # of files, and of blocks of one
        assert f'<h2 id="{group}">' in settings, group
    reference = (project / "site" / "reference.html").read_text(encoding="utf-8")
    for entry in ("lora_repro.api.merge", "lora_repro.methods.lora.Lora", "Raises UserError unless names and shapes"):
        assert entry in reference


def test_a_site_without_results_says_so(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project, tmp_path / "copy", symlinks=True, ignore=shutil.ignore_patterns("results", "site"))
    assert build(tmp_path / "copy").returncode == 0
    assert "Nothing is published yet" in (tmp_path / "copy/site/results/index.html").read_text(encoding="utf-8")


def test_a_dead_link_fails_the_build(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project, tmp_path / "copy", symlinks=True, ignore=shutil.ignore_patterns("results", "site"))
    with (tmp_path / "copy/docs/api.md").open("a", encoding="utf-8") as file:
        file.write("\n[nowhere](nowhere.md)\n")
    process = build(tmp_path / "copy")
    assert process.returncode != 0 and "nowhere.md" in process.stderr
