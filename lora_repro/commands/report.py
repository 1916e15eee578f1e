"""Build results/<profile>/report.html, what was learnt at a profile, and behind it report/<experiment>.html.

    python -m lora_repro report                                         every profile under results/
    python -m lora_repro report profile=laptop paths.data=/path/to/e2e  with the data's texts, to runs/laptop/report.html

It reads records, predictions, tables, docs/results.md and figures, to which the pages link, and needs no network. The same files
give the same bytes.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from lora_repro import console
from lora_repro.config.paths import ROOT, checkout_root
from lora_repro.errors import UserError
from lora_repro.files import write_text
from lora_repro.records import manifest, rates
from lora_repro.report.page.build import BEHIND, FRONT, pages


def parser() -> argparse.ArgumentParser:
    made = console.parser("report", __doc__)
    made.add_argument("profile", nargs="?", help="profile=mini; default: every published profile")
    made.add_argument("--data", help="or paths.data=DIR: the real data, to show their texts on a page under runs/")
    return made


@console.command
@rates.published_only()
def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """The command line above; returns the exit status."""
    given = parser().parse_args(console.options(arguments, {"paths.data": "--data"}))
    checkout_root("a page of published results")
    for profile in _profiles(given.profile, root):
        # The data's own texts never enter results/.
        target = root / ("runs" if given.data else "results") / profile / FRONT
        found = pages(root / "results", profile, target, given.data)
        old = {path.relative_to(target.parent).as_posix(): path for path in (target.parent / BEHIND).glob("*.html")}
        gone = [path for name, path in old.items() if name not in found]
        with manifest.writing_to(target.parent, gone) as folder:
            for name, text in found.items():
                write_text(folder / name, text)
        print(f"wrote {target.relative_to(root)} and {len(found) - 1} pages behind it "
              f"({sum(len(text.encode()) for text in found.values()) / 1000:,.0f} kB)")  # fmt: skip
    return 0


def _profiles(given: str | None, root: Path) -> list[str]:
    published = sorted(path.parent.name for path in (root / "results").glob("*/records"))
    if given is None:
        if not published:
            raise UserError("nothing is published under results/ yet; see make publish")
        return published
    profile = console.named_profile(given)
    if profile not in published:
        raise UserError(f"no records under results/{profile}; published: {', '.join(published) or 'none'}")
    return [profile]
