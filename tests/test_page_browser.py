"""The report page in a real browser, headless: sorting, narrow screens, dark, print. Skipped where no Chromium is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from matplotlib.image import imread
from planted import note

from lora_repro.files import write_text
from lora_repro.report.exhibit import Exhibit
from lora_repro.report.kept import Shown
from lora_repro.report.page.build import pages
from lora_repro.report.table import Number, Reproduce, Table
from lora_repro.results import published

ROOT = Path(__file__).resolve().parents[1]
NAMES = "chromium-headless-shell chromium chromium-browser google-chrome google-chrome-stable".split()
BROWSER = os.environ.get("LORA_REPRO_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine (LORA_REPRO_BROWSER=/path names one)")
PHONE = (390, 844)
INTERVALS = (Number("−14.2 [−21.4, −6.8]†", -14.2, None, 1, -21.4, -6.8, equal=0, badge="one seed"), "—",
             Number("+3.5 [+0.8, +6.3]", 3.5, None, 3, 0.8, 6.3, equal=0, badge="better"), "—", "—")  # fmt: skip
SCORES = (Number("74.7 ± 0.4", 74.7, 0.4, 2, seeds=(74.3, 75.1)), "—", Number("−0.3", -0.3), "collapsed", Number("9.5†", 9.5))
SIZES = (Number("134,515,008", 134515008), Number("0.35M", 350000), Number("1,234", 1234), "—", Number("2", 2))
TABLE = Table(
    ("Sorting, profile mini", Reproduce("nothing")), ("Method", "Score", "Wide", "Wider", "Widest", "Notes"), "lrrrrl",
    tuple(zip(("b", "", "a", "c", "d"), SCORES, SIZES, INTERVALS, INTERVALS, ("initialised with zero", "x", "", "y", ""),
              strict=True)),
)  # fmt: skip


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of one table, one published run and its outputs."""
    folder = tmp_path_factory.mktemp("browser") / "results"
    for name in ("records", "predictions", "tables", "figures"):
        (folder / "mini" / name).mkdir(parents=True)
    shutil.copy(ROOT / "results" / "mini" / "figures" / "e2e.svg", folder / "mini" / "figures")
    records = (json.loads(path.read_text()) for path in sorted((ROOT / "results" / "mini" / "records").glob("*.json")))
    record = next(record for record in records if record["row"]["name"] == "lora" and record["row"]["table"] == "e2e")
    name = record["signature"]
    (folder / "mini" / "records" / f"{name}.json").write_text(json.dumps(record))
    shutil.copy(ROOT / "results" / "mini" / "predictions" / f"{name}.jsonl", folder / "mini" / "predictions")
    note(folder)
    experiments = [Shown("e2e", (Exhibit("e2e", "Sorting", (TABLE,), "", lambda stem: []),), None, {})]
    for name, text in pages(published(folder / "mini"), folder / "mini" / "report.html", experiments).items():
        write_text(folder / "mini" / name, text)
    return folder / "mini" / "report" / "e2e.html"


def browse(path: Path, *options: str, size: tuple[int, int] = (1280, 900)) -> str:
    profile = path.parent / "profile"
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
        f"--window-size={size[0]},{size[1]}", *options, path.as_uri(),
    ]  # fmt: skip
    process = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout


def ask(html: Path, script: str, *options: str, size: tuple[int, int] = (1280, 900)) -> Any:
    """What the JavaScript expression gives in the page, as JSON. The policy goes: it would refuse the question."""
    text = re.sub(r"<meta http-equiv=.*?>\n", "", html.read_text(encoding="utf-8"))
    copy = html.with_name("asked.html")
    question = f"document.body.innerHTML = '<pre>' + encodeURIComponent(JSON.stringify({script})) + '</pre>'"
    copy.write_text(text.replace("</body>", f"<script>{question}</script></body>"), encoding="utf-8")
    match = re.search(r"<pre>(.*?)</pre>", browse(copy, "--dump-dom", *options, size=size))
    assert match, "the page's script failed"
    return json.loads(unquote(match[1]))


def test_its_own_script_runs_under_its_policy_and_no_other(html: Path) -> None:
    plain = browse(html, "--dump-dom")
    assert plain.count('aria-sort="none"') == plain.count("<button") > 5
    copy = html.with_name("foreign.html")
    foreign = "<script>document.title = 'foreign'</script><img src=x onerror=\"document.title='foreign'\">"
    copy.write_text(html.read_text(encoding="utf-8").replace("</main>", f"{foreign}</main>"), encoding="utf-8")
    assert "<title>Sorting – lora_repro, profile mini</title>" in browse(copy, "--dump-dom")


@pytest.mark.parametrize(
    ("column", "orders"),
    [
        (0, ["abbcd", "dcbba", "bbacd"]),
        (1, ["adbcb", "bdacb", "bbacd"]),  # −0.3, 9.5, 74.7, then a word, then nothing, both ways
        (2, ["dabbc", "bbadc", "bbacd"]),  # 2, 1,234, 0.35M, 134,515,008
    ],
)
def test_a_press_sorts_up_then_down_then_back(html: Path, column: int, orders: list[str]) -> None:
    script = f"""(() => {{
      const table = document.querySelector('#e2e table'), head = table.tHead.rows[0].cells[{column}], found = [];
      for (let i = 0; i < 3; i++) {{
        head.querySelector('button').click();
        found.push([head.getAttribute('aria-sort'), [...table.tBodies[0].rows].map(r => r.cells[0].textContent).join('')]);
      }}
      return found;
    }})()"""
    assert ask(html, script) == [list(pair) for pair in zip(("ascending", "descending", "none"), orders, strict=True)]


def test_a_long_table_is_searched_by_all_words_and_from_a_link(html: Path) -> None:
    rows = "".join(f"<tr><th>row {i}</th><td>{'even' if i % 2 == 0 else 'odd'}</td></tr>" for i in range(30))
    table = f"<div class='scroll'><table class='sortable'><thead><tr><th>a<th>b</thead><tbody>{rows}</tbody></table></div>"
    long = html.with_name("long.html")
    long.write_text(html.read_text(encoding="utf-8").replace("<main>", f"<main>{table}"), encoding="utf-8")
    script = """(() => {
      const field = document.querySelector('.find input'), rows = [...document.querySelector('main tbody').rows];
      const shown = () => rows.filter(row => getComputedStyle(row).display !== 'none').map(row => row.cells[0].textContent);
      const before = shown().length;
      field.value = 'Even row 1'; field.dispatchEvent(new Event('input'));
      return [document.querySelectorAll('.find').length, before, shown(), field.parentElement.textContent.trim()];
    })()"""
    for size in ((1280, 900), PHONE):
        answer = ask(long, script, size=size)
        assert answer == [1, 30, ["row 10", "row 12", "row 14", "row 16", "row 18"], "5 of 30"]


def test_the_contents_stay_in_sight_and_a_figure_is_shown_and_darkened(html: Path) -> None:
    script = """(() => {
      scrollTo(0, 1e6);
      const [nav, main] = ['nav', 'main'].map(name => document.querySelector(name).getBoundingClientRect());
      const image = document.querySelector('figure img');
      return [nav.top, nav.right <= main.left, image.naturalWidth > 0, getComputedStyle(image).filter];
    })()"""
    wide, phone = ask(html, script), ask(html, script, "--blink-settings=preferredColorScheme=0", size=PHONE)
    assert abs(wide[0]) < 1 and wide[1:] == [True, True, "none"]  # a screen has no half pixels
    assert abs(phone[0]) < 1 and phone[1:3] == [False, True] and phone[3].startswith("invert")


def test_a_head_is_reached_and_pressed_by_keyboard(html: Path) -> None:
    script = """(() => {
      const button = document.querySelector('#e2e th button');
      button.focus();
      return [document.activeElement === button, button.tabIndex, button.type, button.textContent];
    })()"""
    assert ask(html, script) == [True, 0, "button", "Method"]


def test_a_phone_shows_a_table_row_by_row_with_every_value_in_sight(html: Path) -> None:
    script = """(() => {
      const box = document.querySelector('#e2e .scroll'), cells = [...box.querySelectorAll('td:not(.none)')];
      box.firstElementChild.style.fontSize = '1rem';  // too wide in any font
      dispatchEvent(new Event('resize'));
      return {page: document.scrollingElement.scrollWidth, screen: innerWidth,
              head: getComputedStyle(box.querySelector('thead')).display,
              out: cells.filter(cell => cell.getBoundingClientRect().right > innerWidth).length, cells: cells.length,
              name: getComputedStyle(cells[0], '::before').content};
    })()"""
    layout = ask(html, script, size=PHONE)
    assert layout["page"] <= layout["screen"] <= 500  # the narrowest that Chromium with a window has
    assert layout["head"] == "none" and layout["out"] == 0 and layout["cells"] > 10 and layout["name"].startswith('"Score')
    wide = ask(html, "getComputedStyle(document.querySelector('#e2e thead')).display")
    assert wide == "table-header-group"


def test_a_table_without_room_for_the_papers_columns_has_their_values_below_ours(tmp_path: Path) -> None:
    script = """(() => {
      const box = document.querySelector('.scroll'), ways = [];
      for (let width = 1600; width > 300; width -= 20) {
        box.style.width = `${width}px`;
        dispatchEvent(new Event('resize'));
        const way = box.className, below = getComputedStyle(box.querySelector('td[data-theirs]'), '::after').content;
        const beside = getComputedStyle(box.querySelector('td.theirs')).display !== 'none';
        if (way !== ways.at(-1)?.[0]) ways.push([way, below.slice(0, 6), beside]);
      }
      return ways;
    })()"""
    page = shutil.copy(ROOT / "results" / "laptop" / "report" / "e2e.html", tmp_path)
    ways = ask(Path(page), script, size=(2000, 900))
    beside, below, rows = ways[-3:]
    assert beside == ["scroll tight", "none", True] and rows == ["scroll tight cards", "none", True]
    assert below == ["scroll tight paired", '"paper', False]


def test_a_table_in_a_closed_part_is_fitted_when_the_part_opens(html: Path) -> None:
    script = """(() => {
      const one = document.createElement('details'), box = document.querySelector('.scroll'), found = [];
      box.replaceWith(one);
      one.append(box);
      box.firstElementChild.style.minWidth = '3000px';
      one.open = true;
      found.push(box.classList.contains('cards'));
      one.dispatchEvent(new Event('toggle'));  // as the browser does, later
      found.push(box.classList.contains('cards'));
      return found;
    })()"""
    assert ask(html, script) == [False, True]


WIDTHS = (390, 768, 1280)
MEASURE = """<script>
for (const one of document.querySelectorAll('details')) one.open = true;
dispatchEvent(new Event('resize'));
const boxes = [...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth + 1);
const cut = boxes.map(box => box.textContent.slice(0, 60));
parent.postMessage([window.name, innerWidth, document.scrollingElement.scrollWidth, cut], '*');
</script></body>"""
HOST = """<body><script>
const found = [], frames = PAGES.flatMap(page => WIDTHS.map(width => {
  const frame = document.createElement('iframe');
  Object.assign(frame, {src: page, name: page, width, height: 900});
  return frame;
}));
onmessage = (event) => {
  found.push(event.data);
  if (found.length === frames.length) document.body.innerHTML = '<pre>' + encodeURIComponent(JSON.stringify(found)) + '</pre>';
};
document.body.append(...frames);
</script></body>"""


def too_wide(folder: Path, *options: str) -> list[str]:
    """Pages of `folder`, and tables of theirs, that are wider than their place. One browser, a frame a page and width."""
    pages = sorted(path.name for path in folder.glob("*.html"))
    for name in pages:
        text = re.sub(r"<meta http-equiv=.*?>\n", "", (folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(text.replace("</body>", MEASURE), encoding="utf-8")
    host = folder / "host.html"
    host.write_text(HOST.replace("PAGES", json.dumps(pages)).replace("WIDTHS", str(list(WIDTHS))), encoding="utf-8")
    dump = browse(host, "--dump-dom", "--virtual-time-budget=20000", *options, size=(2600, 950))
    match = re.search(r"<pre>(.*?)</pre>", dump)
    assert match, "a frame did not answer"
    frames = sorted(json.loads(unquote(match[1])))
    assert {(page, width) for page, width, _, _ in frames} == {(page, width) for page in pages for width in WIDTHS}
    return [f"{page} at {width}: {wide} {cut}" for page, width, wide, cut in frames if wide > width or cut]


@pytest.mark.parametrize("path", sorted((ROOT / "results").glob("*/report.html")), ids=lambda path: path.parent.name)
def test_published_pages_fit_a_phone_a_tablet_and_a_desk(path: Path, tmp_path: Path) -> None:
    """Without their figures, whose places are as large: drawing them all takes minutes."""
    shutil.copy(path, tmp_path)
    shutil.copytree(path.parent / "report", tmp_path / "report")
    assert too_wide(tmp_path) == [] and too_wide(tmp_path / "report") == []


def test_a_page_that_is_too_wide_is_found(tmp_path: Path) -> None:
    (tmp_path / "wide.html").write_text("<body><p style='width: 900px'>wide</p></body>", encoding="utf-8")
    assert [line.split(":")[0] for line in too_wide(tmp_path)] == ["wide.html at 390", "wide.html at 768"]


def test_dark_is_dark_and_light_is_light(html: Path) -> None:
    script = "['body', 'tbody th'].map(name => getComputedStyle(document.querySelector(name)).backgroundColor)"
    light = ask(html, script, "--blink-settings=preferredColorScheme=1")
    dark = ask(html, script, "--blink-settings=preferredColorScheme=0")
    assert light == ["rgb(255, 255, 255)"] * 2 and dark == ["rgb(23, 23, 23)"] * 2


def test_seeds_and_intervals_are_drawn_in_the_colours_of_the_scheme(html: Path) -> None:
    script = """(() => {
      const inside = (part, whole) => part.left >= whole.left - 1 && part.right <= whole.right + 1;
      const strips = [...document.querySelectorAll('#e2e .strip')];
      return strips.map(one => [
        one.getAttribute('aria-label').split(',')[0], one.querySelectorAll('circle').length, getComputedStyle(one).color,
        [...one.children].every(part => inside(part.getBoundingClientRect(), one.getBoundingClientRect())),
        one.getBoundingClientRect().width > 20]);
    })()"""
    for colour, scheme in (("rgb(10, 86, 165)", 1), ("rgb(140, 188, 247)", 0)):
        for size in ((1280, 900), PHONE):
            strips = ask(html, script, f"--blink-settings=preferredColorScheme={scheme}", size=size)
            assert [(dots, ink, inside, wide) for _, dots, ink, inside, wide in strips] == [(2, colour, True, True)] + [
                (1, colour, True, True)] * 4  # fmt: skip
            assert [label for label, *_ in strips] == ["2 values: 74.3", *["−14.2"] * 2, *["3.5"] * 2]


def test_it_prints(html: Path) -> None:
    target = html.with_suffix(".pdf")
    browse(html, f"--print-to-pdf={target}", "--no-pdf-header-footer")
    assert target.read_bytes().startswith(b"%PDF") and target.stat().st_size > 10_000


def test_screenshots_show_the_page(html: Path) -> None:
    """A wide and a narrow picture with writing on it; LORA_REPRO_SCREENSHOTS=/folder keeps them to be looked at."""
    destination = os.environ.get("LORA_REPRO_SCREENSHOTS")
    folder = Path(destination) if destination else html.parent
    for name, size in (("desktop", (1280, 900)), ("phone", PHONE)):
        target = folder / f"{name}.png"
        browse(html, f"--screenshot={target}", "--hide-scrollbars", size=size)
        assert ink(target) > 0.01


def ink(picture: Path) -> float:
    """The part of a picture's dots that differs from its first one, the page's background."""
    dots = imread(picture)[..., :3]
    return float((abs(dots - dots[0, 0]).max(axis=-1) > 0.1).mean())


def test_an_empty_page_has_no_ink(html: Path) -> None:
    blank = html.with_name("blank.html")
    blank.write_text("<title>nothing</title>", encoding="utf-8")
    browse(blank, f"--screenshot={html.with_name('blank.png')}", "--hide-scrollbars")
    assert ink(html.with_name("blank.png")) == 0
