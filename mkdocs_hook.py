"""mkdocs: pages from what the project says elsewhere, so that nothing is written twice.

docs/results.md is the first page, README.md the quickstart; the reference is made from docstrings, the settings from conf/ and
the classes that it names; results/ is copied as it is published. Fences of worked examples say what a test does with them
(```yaml file=conf/x.yaml, ```console run), which Python-Markdown takes for prose: they become plain ones.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections import Counter
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import griffe
import yaml
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

from lora_repro.config import validation
from lora_repro.errors import UserError
from lora_repro.records import manifest

FENCE = re.compile(r"^```(\w+) (?:(?:file|add)=(\S+)|run)$", re.M)
FIGURE = re.compile(r"!\[([^\]]*)\]\(\.\./(results/[^)]+)\)")
LINK = re.compile(r"\[([^\]]*)\]\(((?!#|https?:)[^)]+)\)")
TARGET = re.compile(r"_target_: (lora_repro[\w.]+)")
RESULTS = "results"
PAGES = {"README": "index", "claims": "claims"}  # a file of results/ -> its page
FIRST = "results.md"
SETTING = re.compile(r"^((?:`\w+`(?:, )?)+): ?", re.M)  # how a docstring begins what it says of a setting


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """The page with plain fences, and with results/, which is not in docs/, where it is on the site."""
    markdown = FIGURE.sub(r'<img src="\2" alt="\1">', markdown)
    markdown = re.sub(r"\]\(\.\./results/(README|claims)\.md(?=[)#])", lambda found: f"](results/{PAGES[found[1]]}.md", markdown)
    if "/" not in kwargs["page"].file.src_uri:  # a page of docs/, which has the ledger's head alone
        markdown = re.sub(r"\]\(claims\.md(?=[)#])", f"]({RESULTS}/claims.md", markdown)
    markdown = re.sub(r"\[([^\]]*)\]\(\.\./(results/[^)]+)\)", r'<a href="\2">\1</a>', markdown)
    markdown = markdown.replace("](../NOTICE.md)", "](notice.md)")
    return FENCE.sub(lambda found: (f"`{found[2]}`\n\n" if found[2] else "") + f"```{found[1]}", markdown)


def on_files(files: Any, config: Any) -> Any:
    """The list of results, and the ledger of claims, as pages."""
    results = _results(config)
    try:
        manifest.check(results)
    except UserError as error:
        raise PluginError(str(error)) from None
    root = results.parent
    files.get_file_from_path(FIRST).dest_uri = "index.html"
    made = {"quickstart.md": _quickstart(root), "reference.md": _reference(root), "settings.md": _settings(root)}
    made["notice.md"] = _notice(root)
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    ledger = results / "claims.md"
    claims = ledger.read_text(encoding="utf-8") if ledger.is_file() else "# Claims\n\nNothing is published yet.\n"
    for name, text in (("index.md", _index(results)), ("claims.md", _linked(claims))):
        files.append(File.generated(config, f"{RESULTS}/{name}", content=text))
    return files


def _quickstart(root: Path) -> str:
    """README.md from its first command to what can be reproduced, with links as from docs/."""
    text = (root / "README.md").read_text(encoding="utf-8")
    text = text[text.index("## Start") : text.index("## Where it stands")].replace("## Start", "# Quickstart", 1)
    return re.sub(r"\]\(docs/", "](", text).replace("](results/", "](../results/")


def _notice(root: Path) -> str:
    """NOTICE.md, with links as from docs/."""
    text = (root / "NOTICE.md").read_text(encoding="utf-8")
    return text.replace("](docs/", "](").replace("[MIT licence](LICENSE)", "MIT licence")


def _reference(root: Path) -> str:
    """The functions of lora_repro.api and the class of every method, by mkdocstrings."""
    lines = ["# Reference", "", "How to use them: [from Python](api.md).", "", "## Functions", ""]
    lines += [f"::: lora_repro.api.{name}\n" for name in _library(root, "lora_repro")["api"].exports]
    lines += ["## Methods", "", "From `lora_repro.methods`; each setting's meaning: [settings](settings.md#method).", ""]
    texts = [path.read_text(encoding="utf-8") for path in (root / "conf" / "method").glob("*.yaml")]
    targets = sorted({found for text in texts for found in TARGET.findall(text)})
    return "\n".join([*lines, *(f"::: {target}\n    options: {{members: false}}\n" for target in targets)])


def _settings(root: Path) -> str:
    """Every key of conf/: the root's with their comments, then those of each class that conf/ names, with type and meaning."""
    text = (root / "conf" / "config.yaml").read_text(encoding="utf-8")
    head, body = text[: text.index("defaults:")], text[text.index("recipe_name:") : text.index("\nhydra:")]
    said = " ".join(line.lstrip("# ") for line in head.splitlines())
    lines = ["# Settings", "", said, "", "Any key can follow a command: `train.lr=1e-3 data.n_train=500`.", "", "## The root", "",
             "```yaml", body.rstrip(), "```", ""]  # fmt: skip
    classes: dict[str, dict[str, list[str]]] = {"data": {"lora_repro.data.DataConfig": []}}
    for path in sorted((root / "conf").glob("*/*.yaml")):
        for target in TARGET.findall(path.read_text(encoding="utf-8")):
            group = classes.setdefault(path.parent.name, {})
            group.setdefault(target, []).append(path.stem)
    for path in sorted(set((root / "conf").glob("*.yaml")) - {root / "conf" / "config.yaml"}):  # groups of blocks
        for name, block in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            if isinstance(block, dict) and "_target_" in block:
                classes.setdefault(path.stem, {}).setdefault(block["_target_"], []).append(name)
    for group, targets in classes.items():
        if group in ("claim", "source", "experiment", "row", "plan"):  # no settings of a run
            continue
        lines += [f"## {group}", ""]
        for target, names in targets.items():
            where = f"conf/{group}: {', '.join(dict.fromkeys(names))}" if names else "conf/config.yaml"
            lines += [f"### {target.rpartition('.')[2]}", "", f"`{where}`", "", *_keys(root, target), ""]
    return "\n".join(lines)


@lru_cache(maxsize=1)
def _library(root: Path, package: str) -> Any:
    """The library as griffe reads it, without importing it."""
    return griffe.GriffeLoader(search_paths=[root], allow_inspection=False).load(package)


def _keys(root: Path, target: str) -> list[str]:
    """What a class says of itself, and a line for each of its settings: what it may be, default, meaning."""
    package, _, name = target.partition(".")
    found = _library(root, package)[name]
    said = found.docstring.value if found.docstring else ""
    summary, *parts = SETTING.split(said)
    meanings = {key: text for keys, text in zip(parts[::2], parts[1::2], strict=True) for key in re.findall(r"\w+", keys)}
    lines = [" ".join(summary.split()), ""]
    given = [one for one in found.parameters if one.name != "self" and not one.name.startswith("*")]
    if given:
        lines += ["| Key | May be | Default | Meaning |", "|---|---|---|---|"]
    known = validation.kinds(target)
    for one in given:
        kind = escape(known[one.name].words) if one.name in known else _code(one.annotation)
        default = _code(one.default and _as_yaml(str(one.default)))
        meaning = " ".join(meanings.get(one.name, "").split()).replace("|", "\\|")
        lines.append(f"| `{one.name}` | {kind} | {default} | {meaning} |")
    return lines


def _as_yaml(default: str) -> str:
    """A default as conf/ and the command line write it: `null`, `true`, `[a, b]`; an expression stays as it is."""
    try:
        return json.dumps(ast.literal_eval(default), ensure_ascii=False).strip('"')
    except ValueError:
        return default


def _code(text: object) -> str:
    """A cell of a Markdown table that shows code; empty for None."""
    return "" if text is None else f"<code>{escape(str(text)).replace('|', '&#124;')}</code>"


def on_post_build(config: Any) -> None:
    """results/ as it is; a report's links to the docs and the ledger lead to their pages."""
    results, site = _results(config), Path(config["site_dir"]) / RESULTS
    if results.is_dir():
        shutil.copytree(results, site, dirs_exist_ok=True)
    for page in [*site.glob("*/report.html"), *site.glob("*/report/*.html")]:
        text = re.sub(r'href="((?:\.\./)+)(?:docs/([\w-]+)|(claims))\.md', _page, page.read_text(encoding="utf-8"))
        page.write_text(re.sub(r'href="((?:\.\./)+)README\.md', r'href="\1index.html', text), encoding="utf-8")


def _page(found: re.Match[str]) -> str:
    stem = "index" if found[2] == Path(FIRST).stem else found[2]
    return f'href="{found[1]}{stem or found[3]}.html'


def _linked(text: str) -> str:
    """Links as HTML: they lead to files that are copied after the build; mkdocs, which would look for pages, is told of none."""
    text = text.replace(f"../docs/{FIRST}", "../docs/index.md").replace("](claims.md)", "](claims.html)")
    text = re.sub(r"\]\(\.\./docs/([\w-]+)\.md\)", r"](../\1.html)", text)
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
