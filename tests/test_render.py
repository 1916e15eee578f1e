"""`lora-repro render`: everything published in its order, or the part that is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_repro.commands import render as command
from lora_repro.errors import UserError
from lora_repro.report import render, show


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was rendered: the name of the function and its arguments."""
    calls: list[tuple[Any, ...]] = []
    for module, name in ((show, "render_published"), (render, "render_claims"), (render, "render_pages")):
        monkeypatch.setattr(module, name, lambda *given, name=name: calls.append((name, *given)))
    return calls


def test_all_three_in_their_order(done: list[tuple[Any, ...]], tmp_path: Path) -> None:
    """The pages show the tables, and the verdicts read them."""
    assert command.main([], tmp_path) == 0
    assert done == [
        ("render_published", show.names(), tmp_path), ("render_claims", tmp_path), ("render_pages", tmp_path, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["tables", "e2e", "experiment=glue"], ("render_published", ["e2e", "glue"])),
        (["claims"], ("render_claims",)),
        (["report", "profile=laptop"], ("render_pages", "profile=laptop")),
        (["report", "paths.data='/some where'"], ("render_pages", None, "/some where")),
    ],
)
def test_one_part(arguments: list[str], expected: tuple[Any, ...], done: list[tuple[Any, ...]], tmp_path: Path) -> None:
    assert command.main(arguments, tmp_path) == 0
    assert [tuple(item for item in call if item != tmp_path) for call in done] == [expected]


def test_a_failure_ends_it_in_one_line(
    done: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(root: Path) -> None:
        raise UserError("no ledger")

    monkeypatch.setattr(render, "render_claims", fails)
    assert command.main([], tmp_path) == 2 and capsys.readouterr().err == "error: no ledger\n"
    assert [name for name, *_ in done] == ["render_published"]


def test_nothing_is_rendered_again_until_something_that_is_read_or_written_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, calls = tmp_path / "root", []
    names = ("README.md", "lora_repro/x.py", "conf/claim/x.yaml", "docs/claims.md", "tests/test_x.py")
    names = (*names, "results/mini/records/x.json")
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("1")
    claims = root / "results" / "claims.md"

    def part(settings: object, where: Path) -> None:
        calls.append(where)
        claims.write_text("as rendered")

    def times(what: str | None = None) -> int:
        before = len(calls)
        assert command.unless_done(root, what) == 0
        return len(calls) - before

    monkeypatch.setattr(command, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(command, "PARTS", {"all": part})
    assert [times("all"), times("all"), times(), times(), times("all")] == [1, 1, 1, 0, 0]  # a part is not all
    for name in (*names, "results/claims.md", "results/laptop/records/new.json"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("2")
        assert [times(), times()] == [1, 0], name
    claims.unlink()
    assert [times(), times()] == [1, 0]
    (tmp_path / "cache" / "rendered").write_bytes(b"\xff")
    assert [times(), times()] == [1, 0]
    monkeypatch.setenv("LORA_REPRO_TRUST", "mine")
    assert [times(), times()] == [1, 0]


def test_what_was_edited_while_it_was_rendered_is_rendered_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, texts = tmp_path / "lora_repro" / "x.py", []
    source.parent.mkdir()
    for path in (source, tmp_path / "README.md"):
        path.write_text("1")

    def part(settings: object, where: Path) -> None:
        texts.append(source.read_text())
        source.write_text("2")  # by an editor

    monkeypatch.setattr(command, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(command, "PARTS", {"all": part})
    for _ in range(3):
        command.unless_done(tmp_path)
    assert texts == ["1", "2"]
