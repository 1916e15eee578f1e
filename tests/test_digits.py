"""Random directions on small networks: what is trained, and what the table says of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lora_repro.analysis import digits
from lora_repro.report.statistics import summarise


def test_only_the_directions_are_trained_and_they_move_every_tensor() -> None:
    model, (theta,), values = digits.network(16, 30, seed=1)
    assert theta.shape == (30,) and values == 64 * 16 + 16 + 16 * 16 + 16 + 160 + 10
    plain, trained, _ = digits.network(16, None, seed=1)
    assert sum(p.numel() for p in trained) == values
    x = torch.rand(5, 64)
    torch.testing.assert_close(model(x), plain(x))  # the same start
    with torch.no_grad():
        theta += torch.randn(30)
    now, before = model.state_dict(), plain.state_dict()
    for number in (0, 2, 4):
        for name in ("weight", "bias"):
            moved = getattr(model[number], name)  # type: ignore[index]
            assert (moved - before[f"{number}.{name}"]).abs().max() > 1e-3
            assert torch.equal(now[f"{number}.parametrizations.{name}.original"], before[f"{number}.{name}"])


def test_more_directions_learn_more_and_the_split_shares_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    train, held_out, test = digits.images()
    assert [len(part[1]) for part in (train, held_out, test)] == [1000, 297, 500]
    rows = {tuple(row.tolist()) for part in (train, held_out) for row in part[0]}
    assert sum(tuple(row.tolist()) in rows for row in test[0]) < 3  # no two images are equal but by chance
    monkeypatch.setattr(digits, "STEPS", 60)
    few, many = (digits.accuracy(16, d, 0.1, 0, train, held_out) for d in (3, 300))
    assert many > few + 30 and many == digits.accuracy(16, 300, 0.1, 0, train, held_out)  # repeats


def test_d90_lies_between_two_of_the_sizes(tmp_path: Path) -> None:
    def found(*scores: float) -> digits.Found:
        by_size = {size: summarise([score - 1, score + 1]) for size, score in zip((None, 10, 20, 40), scores, strict=True)}
        return digits.Found(16, 1000, by_size)

    every = [found(90, 50, 81, 85), found(90, 50, 60, 70), found(90, 85, 86, 87)]
    assert [one.bracket for one in every] == [(10, 20), (40, None), (None, 10)]
    first, points = digits.tables(every, 2)
    assert [row[4:] for row in first.rows] == [("10", "20", "2.00 %"), ("40", "—", "—"), ("—", "10", "1.00 %")]
    assert first.rows[0][2:4] == ("90.0 ± 1.4", "81.0") and points.rows[0][1:] == ("50.0 ± 1.4", "81.0 ± 1.4", "85.0 ± 1.4")
    assert sorted(path.suffix for path in digits.draw(every, tmp_path / "digits")) == [".png", ".svg"]
