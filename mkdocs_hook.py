"""mkdocs: show the worked examples of docs/ as code, each under the name of its file; put results/ beside them.

Their fences say what a test does with them (```yaml file=conf/x.yaml, ```console run), which Python-Markdown takes for prose.
Results are copied as they are published: a report page is complete in itself, and its links lead to the files beside it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

from lora_repro.errors import UserError
from lora_repro.records import manifest

FENCE = re.compile(r"^```(\w+) (?:(?:file|add)=(\S+)|run)$", re.M)
FIGURE = re.compile(r"!\[([^\]]*)\]\(\.\./(results/[^)]+)\)")
LINK = re.compile(r"\[([^\]]*)\]\(((?!#|https?:)[^)]+)\)")
RESULTS = "results"
PAGES = {"README": "index", "claims": "claims"}  # a file of results/ -> its page


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """The page with plain fences, and with results/, which is not in docs/, where it is on the site."""
    markdown = FIGURE.sub(r'<img src="\2" alt="\1">', markdown)
    markdown = re.sub(r"\]\(\.\./results/(README|claims)\.md(?=[)#])", lambda found: f"](results/{PAGES[found[1]]}.md", markdown)
    markdown = re.sub(r"\[([^\]]*)\]\(\.\./(results/[^)]+)\)", r'<a href="\2">\1</a>', markdown)
    return FENCE.sub(lambda found: (f"`{found[2]}`\n\n" if found[2] else "") + f"```{found[1]}", markdown)


def on_files(files: Any, config: Any) -> Any:
    """The list of results, and the ledger of claims, as pages."""
    results = _results(config)
    try:
        manifest.check(results)
    except UserError as error:
        raise PluginError(str(error)) from None
    ledger = results / "claims.md"
    claims = ledger.read_text(encoding="utf-8") if ledger.is_file() else "# Claims\n\nNothing is published yet.\n"
    for name, text in (("index.md", _index(results)), ("claims.md", _linked(claims))):
        files.append(File.generated(config, f"{RESULTS}/{name}", content=text))
    return files


def on_post_build(config: Any) -> None:
    """results/ as it is; a report's link to the ledger leads to its page."""
    results, site = _results(config), Path(config["site_dir"]) / RESULTS
    if results.is_dir():
        shutil.copytree(results, site, dirs_exist_ok=True)
    for page in site.glob("*/report.html"):
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace('href="../claims.md"', 'href="../claims.html"'), encoding="utf-8")


def _linked(text: str) -> str:
    """Links as HTML: they lead to files that are copied after the build; mkdocs, which would look for pages, is told of none."""
    text = re.sub(r"\]\(\.\./docs/([\w-]+)\.md\)", r"](../\1.html)", text).replace("](claims.md)", "](claims.html)")
    return LINK.sub(r'<a href="\2">\1</a>', text)


def _results(config: Any) -> Path:
    return Path(config["config_file_path"]).parent / RESULTS


def _index(results: Path) -> str:
    """A line a profile: its report, its verdicts, its figure of ours beside the paper's."""
    lines = ["# Results", "", "One report a profile: a scale at which everything was run. Profiles never mix.", ""]
    told = results / "report.json"
    claims = json.loads(told.read_text(encoding="utf-8"))["claims"] if told.is_file() else []
    for page in sorted(results.glob("*/report.html")):
        profile = page.parent.name
        counts = Counter(one["profiles"][profile]["verdict"] for one in claims if profile in one["profiles"])
        said = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
        lines += [f"## {profile}", "", f'<a href="{profile}/report.html">The report</a>. Claims: {said or "none judged"}.', ""]
        figure = next(iter(sorted(page.parent.glob("figures/*_beside_paper.svg"))), None)
        if figure:
            lines += [f'<img src="{profile}/figures/{figure.name}" alt="Ours and the paper\'s in one picture" width="500">', ""]
    if len(lines) == 4:
        lines.append("Nothing is published yet.")
    lines += ["", 'Every claim with its test: [claims](claims.md). For programs: <a href="report.json">report.json</a>.', ""]
    ran = results / "README.md"
    return "\n".join(lines) + ("\n" + _linked(ran.read_text(encoding="utf-8")).replace("# ", "## ", 1) if ran.is_file() else "")
