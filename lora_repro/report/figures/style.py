"""The style of every figure and its layout: a statement above, the panels, and below them whose numbers these are.

One colour and marker per method in every figure: LoRA is blue, full fine-tuning black, related methods share a colour.
Nothing that changes with the day or the machine is written: the ids of an SVG are salted, dates and software names are left
out, and text is drawn as outlines of matplotlib's own DejaVu Sans.
"""

from __future__ import annotations

import dataclasses
import json
import re
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from lora_repro.stats.kept import Arrays, Kind, kept

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.text import Text

REPORT = Path(__file__).parents[1]  # all of it words or shapes what is drawn
DRAWN = Kind("figures", (REPORT, REPORT.parent / "stats"), ("matplotlib", "numpy", "pillow"))
STYLE: Any = {  # Any: matplotlib types the keys as one long Literal
    "svg.hashsalt": "lora_repro",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "path.simplify": False,
}
GREY = "#595959"
SINGLE = "one seed, no spread: supports no verdict"
EDGE = 0.08  # inches between text and the edges
SYMBOL = re.compile(r"(?<![A-Za-z0-9])([AW])_(\w+)")


def blank(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, with a canvas that can measure text."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # becomes figure.canvas
    return figure


def add_title_caption(figure: Figure, title: str, caption: str) -> None:
    """Write `title`, one statement, above and `caption`, whose numbers these are and how to read them, below the panels.

    Both are as wide as the figure, which grows in height to make room for them.
    """
    figure.set_label(title)
    width, height = map(float, figure.get_size_inches())
    over = _block(figure, title, width, size=11, weight="bold")
    under = _block(figure, caption, width, size=8, color=GREY)
    above, below = (_height(figure, block) + 2 * EDGE for block in (over, under))
    legends = sum(_height(figure, legend) for legend in figure.legends)
    total = height + above + below + legends
    figure.set_size_inches(width, total)
    over.set_position((EDGE / width, 1 - EDGE / total))
    over.set_verticalalignment("top")
    under.set_position((EDGE / width, EDGE / total))
    under.set_verticalalignment("bottom")
    cast(Any, figure.get_layout_engine()).set(rect=(0, (below + legends) / total, 1, height / total))
    for legend in figure.legends:
        legend.set_in_layout(False)
        legend.borderaxespad = 0.0
        legend.set_bbox_to_anchor((0, below / total, 1, height / total), figure.transFigure)


def add_note(axis: Axes, words: str) -> None:
    """Write how to read a panel below the label of its x axis."""
    below: Any = {"xycoords": axis.xaxis.label, "textcoords": "offset points", "ha": "center", "va": "top", "color": GREY}
    axis.annotate(words, (0.5, 0), (0, -3), fontsize=7, **below)


def _block(figure: Figure, words: str, width: float, **look: Any) -> Text:
    text = figure.text(0, 0, to_mathtext(wrapped(words, width - 2 * EDGE, **look)), linespacing=1.35, **look)
    text.set_in_layout(False)
    return text


def _height(figure: Figure, artist: Text | Legend) -> float:
    """The height in inches; 0 without text."""
    from matplotlib.legend import Legend

    shown = bool(artist.get_texts()) if isinstance(artist, Legend) else bool(artist.get_text())
    return float(artist.get_window_extent().height) / figure.dpi if shown else 0.0


def wrapped(words: str, inches: float, size: float = 9, weight: str = "normal", **_: Any) -> str:
    """`words` wrapped to `inches`, without a break before a unit; existing line breaks stay."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

    canvas: Any = FigureCanvasAgg(Figure(dpi=100))
    renderer = canvas.get_renderer()
    font = FontProperties(family="DejaVu Sans", size=size, weight=weight)

    def wide(text: str) -> bool:
        letters = renderer.get_text_width_height_descent(text, font, False)[0]
        return bool(letters > 97 * inches)  # 97 and not 100 dpi: other resolutions round widths up

    lines: list[str] = []
    for line in re.sub(r" (?=%)|(?<=\d) (?=[kMB]\b)", "\u00a0", words).splitlines():
        lines.append("")
        for word in line.split(" "):
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and wide(longer):
                lines.append(word)
            else:
                lines[-1] = longer
    return "\n".join(lines)


def in_sentence(label: str) -> str:
    """A row's label as it is written inside a sentence: full fine-tuning, but LoRA and FT-Top2."""
    first, rest = label.partition(" (")[0], label[1:]
    return label[0].lower() + rest if first[1:].islower() else label


def to_mathtext(text: str) -> str:
    """`text` with W_q and A_v in mathematical notation, as in the paper."""
    return SYMBOL.sub(r"$\1_{\2}$", text)


def freeze_layout(figure: Figure) -> None:
    """Fix the layout, rounded to a millionth of the figure: the last digits of its solver vary, and would change an SVG's ids."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axis in figure.axes:
        axis.set_position([round(float(part), 6) for part in axis.get_position(original=True).bounds])  # type: ignore[arg-type]


def write(draw: Callable[..., Figure], stem: Path, *values: object) -> list[Path]:
    """Draw `draw(*values)` in STYLE, whatever the user's matplotlibrc says, into `stem`.svg and `stem`.png; returns the paths.

    values: all that is drawn: numbers, text, arrays, and lists, mappings and dataclasses of these. The same figure is drawn once
    and kept on disk (`stats.kept`), by these values and by the code of this package; one without any is always drawn. Numbers are
    rounded to nine digits first: their last ones may depend on the CPU, and a picture's bytes must not.
    """
    files = {suffix: stem.with_suffix(f".{suffix}") for suffix in ("svg", "png")}
    if not values:
        _draw(draw, files)
        return [*files.values()]
    values = tuple(map(rounded, values))

    def drawn() -> Arrays:
        with TemporaryDirectory() as folder:
            paths = {suffix: Path(folder, path.name) for suffix, path in files.items()}
            _draw(partial(draw, *values), paths)
            return {suffix: np.frombuffer(path.read_bytes(), np.uint8) for suffix, path in paths.items()}

    name = f"{draw.__module__}.{draw.__qualname__}"
    images = kept([json.dumps([name, values], default=_spelt)], [], drawn, DRAWN)
    stem.parent.mkdir(parents=True, exist_ok=True)
    for suffix, path in files.items():
        path.write_bytes(images[suffix].tobytes())
    return [*files.values()]


def rounded(value: Any) -> Any:
    """`value` with every number in it rounded to nine significant digits."""
    if isinstance(value, float | np.floating):
        return float(f"{value:.9g}")
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return np.array([rounded(number) for number in value.ravel()]).reshape(value.shape)
    if isinstance(value, Mapping):
        return {rounded(key): rounded(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(rounded, value))
    if isinstance(value, list | tuple):
        return type(value)(map(rounded, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return dataclasses.replace(value, **{name: rounded(getattr(value, name)) for name in names})
    return value


def _spelt(value: object) -> object:
    """A value that JSON lacks, by all that tells it from others: unlike its repr, an array has every number."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"": type(value).__name__, **{field.name: getattr(value, field.name) for field in dataclasses.fields(value)}}
    return repr(value)


def _draw(draw: Callable[[], Figure], files: Mapping[str, Path]) -> None:
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = draw()
        freeze_layout(figure)
        for path in files.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        # The statement is in the metadata, too: an SVG has its text as outlines only.
        title = {"Title": str(figure.get_label())} if figure.get_label() else {}
        figure.savefig(files["svg"], metadata={"Date": None, "Creator": None, **title})
        figure.savefig(files["png"], metadata={"Software": None, **title})


# The colours are Okabe and Ito's, which are safe for colour-blind readers, with Tol's wine instead of their yellow, which is too
# pale on white. No two methods that a table shows together share both colour and marker.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#882255")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
BLUE, RED, GREEN, PINK, SKY, ORANGE, BLACK, WINE = COLOURS


class MethodStyle(NamedTuple):
    colour: str
    marker: str


LORA = "lora"
# Keyed by the name in conf/method. A method that is not listed gets a look that follows from its name alone.
LOOKS = {
    LORA: MethodStyle(BLUE, "o"),
    "lora_r64": MethodStyle(BLUE, "D"),
    "full": MethodStyle(BLACK, "s"),
    "top_layers": MethodStyle(BLACK, "v"),
    "linear_probe": MethodStyle(WINE, "X"),
    "bitfit": MethodStyle(ORANGE, "P"),
    "adapter_h": MethodStyle(GREEN, "^"),
    "adapter_l": MethodStyle(GREEN, "v"),
    "adapter_p": MethodStyle(GREEN, "<"),
    "adapter_drop": MethodStyle(GREEN, ">"),
    "adapter_fusion": MethodStyle(GREEN, "P"),
    "prelayer": MethodStyle(RED, "D"),
    "prompt_tuning": MethodStyle(PINK, "s"),
    "combined": MethodStyle(SKY, "^"),
    "lora_prelayer": MethodStyle(RED, "o"),
    "lora_prompt_tuning": MethodStyle(PINK, "o"),
    "dora": MethodStyle(RED, "^"),
    "rslora": MethodStyle(SKY, "D"),
    "lora_plus": MethodStyle(SKY, "P"),
    "pissa": MethodStyle(WINE, "<"),
    "vera": MethodStyle(ORANGE, "v"),
}


def style_of(method: str) -> MethodStyle:
    """A method's colour and marker in every figure."""
    digest = zlib.crc32(method.encode())
    return LOOKS.get(method) or MethodStyle(COLOURS[1 + digest % 7], MARKERS[1 + digest // 7 % 8])


def assign_styles(curves: dict[str, str]) -> dict[str, MethodStyle]:
    """key -> look, given key -> method: the method's own, or one in turn if several keys have the same method or none."""
    methods = list(curves.values())
    fixed = {key: style_of(method) for key, method in curves.items() if method and methods.count(method) == 1}
    free = [colour for colour in COLOURS if colour not in {look.colour for look in fixed.values()}] or COLOURS
    others = [key for key in curves if key not in fixed]
    return fixed | {key: MethodStyle(free[i % len(free)], MARKERS[i % len(MARKERS)]) for i, key in enumerate(others)}
