"""What experiments/latency.py shows and writes: tables and a figure from measurements alone, one set a kind of device."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lora_repro.bench import latency_figure, limit, measures
from lora_repro.bench.footprint_table import memory_sheets
from lora_repro.bench.latency_table import latency_sheets
from lora_repro.compose import profile_of
from lora_repro.errors import UserError
from lora_repro.record import read
from lora_repro.tables import sheet
from lora_repro.tables.rows import declared
from lora_repro.tables.sheet import Sheet

NAME = "latency"
Found = dict[str, Any]


def sheets(measured: Mapping[str, Found]) -> list[Sheet]:
    """All tables of one kind of device. `measured`: source -> measurement."""
    return [*latency_sheets(measured), *memory_sheets(measured)]


def render_published(root: Path) -> None:
    """Render every results/*/measures/latency*.json into its profile's tables/ and figures/."""
    for folder in sorted(path.parent for path in (root / "results").glob("*/measures")):
        for stem, found in measures.load(folder, NAME).items():
            paths = write({"published": found}, folder, stem)
            print(f"results/{folder.name}: wrote {', '.join(str(path.relative_to(root)) for path in paths)}")


def show(root: Path, overrides: Sequence[str]) -> None:
    """Print this checkout's measurements beside the published ones and the paper's; keep its own tables under runs/."""
    profile, rest = profile_of(overrides)
    blocks = declared(NAME, profile, rest)
    folder = root / str(blocks[0].config["paths"]["runs"]) / profile  # an absolute paths.runs replaces root
    published = measures.load(root / "results" / profile, NAME)
    paths = [measures.path_of(folder, NAME, blocks, rest, kind) for kind in ("cpu", "cuda")]
    own = {path.stem: read(path) for path in paths if path.is_file()}
    if not own and not published:
        raise UserError(f"nothing is measured at profile {profile} yet; run: python -m lora_repro.latency profile={profile}")
    for stem in sorted({*own, *published}):
        sources = {"this checkout": own.get(stem), "published": published.get(stem)}
        print(sheet.terminal(sheets({source: found for source, found in sources.items() if found})))
        if stem not in own:
            print("nothing of this checkout's own yet")
            continue
        if own[stem]["signature"] != measures.signature_of(blocks):
            print(f"the settings in conf/ have changed since {stem} was measured; measure again")
        wrote = write({"this checkout": own[stem]}, folder, stem)
        print(f"wrote {', '.join(map(str, wrote))}")


def write(measured: Mapping[str, Found], folder: Path, stem: str) -> list[Path]:
    """tables/<stem>.{md,csv,tex} and figures/<stem>.{svg,png} of one measurement."""
    (found,) = measured.values()
    made = sheets(measured)
    texts = {".md": sheet.markdown(made), ".csv": comma_separated(found), ".tex": sheet.latex(made)}
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    paths = []
    for suffix, text in texts.items():
        paths.append(folder / "tables" / f"{stem}{suffix}")
        paths[-1].write_text(text, encoding="utf-8", newline="\n")
    return [*paths, *latency_figure.save(found, folder / "figures" / stem)]


def comma_separated(found: Found) -> str:
    """One line a number: quantity, its value, the interval or the arithmetic's limit, n; six digits, missing values empty."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n")
    write.writerow(["profile", "device", "backbone", "row", "label", "parameters", "batch", "length", "quantity", "value", "low",
                    "high", "arithmetic", "n"])  # fmt: skip
    start = [found["profile"], found["where"]["device"]]
    for entry in found["latency"]:
        where = [*start, *(entry[key] for key in ("backbone", "row", "label", "parameters", "batch", "length"))]
        n, slow = len(entry["ms"]), entry["slowdown"]
        write.writerow([*where, "median_ms", f"{entry['median_ms']:.6g}", "", "", "", n])
        if slow:
            write.writerow([*where, "slowdown_percent", *(f"{slow[key]:.6g}" for key in ("median", "low", "high")), "", n])
    for entry in found["memory"]:
        where = [*start, *(entry[key] for key in ("backbone", "row", "label", "parameters")), "", ""]
        floor = limit(entry["total"], entry["parameters"])
        above = (entry["peak_mib"] - entry["loaded_mib"]) * 2**20
        for quantity, value, least in (
            ("optimizer_state_bytes", entry["state_bytes"], floor.state),
            ("file_bytes", entry["file_bytes"], floor.checkpoint),
            ("above_model_bytes", above, floor.above_model),
            ("peak_bytes", entry["peak_mib"] * 2**20, floor.training),
        ):
            write.writerow([*where, quantity, value, "", "", least, 1])
    return out.getvalue()
