"""What methods change at step 0: an exact identity is 0, prefixes cost tokens, and a start off the identity shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_repro.analysis import step_zero
from lora_repro.analysis.step_zero import Start, line
from lora_repro.methods.lora import Lora

SMOKE = ["experiment=e2e", "profile=smoke"]


def shown(folder: Path) -> dict[str, list[str]]:
    lines = [text.strip("| ").split(" | ") for text in (folder / "step_zero.md").read_text(encoding="utf-8").splitlines()]
    return {cells[0]: cells[1:] for cells in lines if len(cells) == len(step_zero.HEADER)}


def test_lora_starts_at_the_backbone_exactly_and_virtual_tokens_take_room(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert step_zero.main([*SMOKE, "row/e2e=lora,prompt_tuning,human", "--to", str(tmp_path)]) == 0
    found = shown(tmp_path)
    assert found["LoRA"][1:] == ["+0.0000", "0.0000", "512"]
    prompt = found["Prompt tuning"]
    assert float(prompt[2]) > 0 and prompt[3] == "509"  # three virtual tokens at this scale
    said = capsys.readouterr().out
    assert "Without a step 0 of their own: Human." in said and (tmp_path / "step_zero.csv").exists()


def test_a_start_off_the_identity_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Lora.insert

    def drawn(method: Lora, backbone: object) -> object:
        made = usual(method, backbone)  # type: ignore[arg-type]
        for parameter in made.method.values():
            parameter.data.fill_(0.3)
        return made

    monkeypatch.setattr(Lora, "insert", drawn)
    assert step_zero.main([*SMOKE, "row/e2e=lora", "--to", str(tmp_path)]) == 0
    assert float(shown(tmp_path)["LoRA"][2]) > 0.001


def test_the_mean_keeps_its_sign_and_the_largest_is_either_way() -> None:
    assert line("M", Start(1000, (1.0, 2.0), 9), (1.5, 2.25)) == ("M", "1,000", "−0.3750", "0.5000", "9")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["profile=smoke"], "name one experiment"), ([*SMOKE, "row/e2e=human"], "none of these rows is a method")],
)
def test_what_has_no_step_zero_is_refused_in_a_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert step_zero.main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
