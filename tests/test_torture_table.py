"""The table of `make torture`: a kind that is tried again replaces its own line alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.torture import table


def tried(survived: int, sha: str, **more: Any) -> dict[str, Any]:
    where = {"git_sha": sha, "dirty": False, "finished_at": "2026-01-02T00:00:00Z", "device": "A CPU"}
    return {"survived": survived, "tried": 9, "stops": {}, "failures": [], "seed": 0, "seconds": 1, "where": where, **more}


def test_a_kind_tried_again_leaves_the_others_with_their_code(tmp_path: Path) -> None:
    kinds = ["bad setting", "kill", "publish"]
    table.keep(tmp_path, "kill", tried(9, "a" * 40, stops={"SIGKILL": 7}), kinds)
    table.keep(tmp_path, "gone", tried(9, "c" * 40), ["gone", *kinds])
    table.keep(tmp_path, "elsewhere", tried(3, "d" * 40, note="by two"), ["elsewhere", *kinds])
    unable = {"elsewhere": " (no Ray)", "here": " (no Java)"}
    table.keep(tmp_path, "bad setting", tried(8, "b" * 40, of=30, failures=["trial 3: silence"]), kinds, unable)
    text = (tmp_path / "torture" / "README.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith(("| bad", "| kill", "| gone", "| else", "| all"))]
    assert lines == [
        "| bad setting | 8 | 9 of 30 | 0 | bbbbbbb | 2026-01-02 | A CPU |",
        "| kill | 9 | 9 | 0 | aaaaaaa | 2026-01-02 | A CPU |",
        "| elsewhere | 3 | 9 | 0 | ddddddd | 2026-01-02 | A CPU |",
        "| all | 20 | 27 | | | | |",
    ]
    assert "kill: 7 by SIGKILL." in text and "Not tried yet: publish; here (no Java)." in text
    assert "- elsewhere: by two" in text and "- bad setting, trial 3: silence" in text
    assert text == table.page(tmp_path / "torture" / "last.json")
