"""What methods change at step 0: an exact identity is 0, prefixes cost positions, and a start off the identity shows."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from lora_repro.analysis import step_zero
from lora_repro.analysis.step_zero import Start, line
from lora_repro.config.paths import CONF
from lora_repro.methods.base import Trainable
from lora_repro.methods.combined import Combined
from lora_repro.methods.lora import Lora
from lora_repro.methods.prelayer import PreLayer
from lora_repro.methods.prompt_tuning import PromptTuning

SMOKE = ["experiment=e2e", "profile=smoke"]


def shown(folder: Path) -> dict[str, list[str]]:
    lines = [text.strip("| ").split(" | ") for text in (folder / "step_zero.md").read_text(encoding="utf-8").splitlines()]
    return {cells[0]: cells[1:] for cells in lines if len(cells) == len(step_zero.HEADER)}


def test_lora_starts_at_the_backbone_exactly_and_both_kinds_of_prefix_take_positions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [*SMOKE, "row/e2e=lora,prelayer_key_value,prompt_tuning,human", "--to", str(tmp_path)]
    assert step_zero.main(asked) == 0
    found = shown(tmp_path)
    assert found["LoRA"][1:] == ["0", "0", "0.0000", "0.0000", "2,048"]
    prompt, keys = found["Prompt tuning"], found["PreLayer (key/value)"]
    assert 0 < float(prompt[1]) <= float(prompt[2]) and float(prompt[4]) > 0
    assert (prompt[5], keys[5]) == ("2,045", "2,046")
    said = capsys.readouterr().out
    assert "Without a step 0 of their own: Human." in said and (tmp_path / "step_zero.csv").exists()


def test_positions_are_virtual_tokens_and_what_goes_in_front_as_keys_and_values() -> None:
    keys, prompt = PreLayer(form="key_value", prefix=8, infix=0), PromptTuning(prefix=3, infix=2)
    assert keys.virtual_tokens == (0, 0)
    assert [method.positions for method in (Lora(), keys, prompt, Combined(methods=(Lora(), keys, prompt)))] == [0, 8, 5, 13]


def test_every_method_is_asked_for_where_nothing_is() -> None:
    chosen, words = step_zero.asked_for(["profile=smoke", "task=sentiment"])
    assert {cell.asked["method"]["name"] for cell in chosen} == {path.stem for path in (CONF / "method").glob("*.yaml")}
    assert len({cell.row.label for cell in chosen}) == len(chosen) and words == ["profile=smoke", "task=sentiment"]


def test_a_fusion_stands_over_untrained_adapters_and_nf4_beside_floats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(step_zero, "METHODS", [words for words in reversed(step_zero.METHODS) if "glob" not in words[0]])
    assert step_zero.main(["profile=smoke", "task=sentiment", "--to", str(tmp_path)]) == 0
    found = shown(tmp_path)
    assert float(found["adapter_fusion method.sources=[one,two,three]"][1]) > 0.001
    assert "trained ones: adapter_fusion" in " ".join(capsys.readouterr().out.split())
    assert "key_value needs a decoder backbone" in (tmp_path / "step_zero.md").read_text(encoding="utf-8")
    if importlib.util.find_spec("bitsandbytes"):
        assert float(found["lora backbone.quantise=nf4"][1]) > 0.001


def test_a_start_off_the_identity_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Lora.insert

    def drawn(method: Lora, backbone: object) -> object:
        made = usual(method, backbone)  # type: ignore[arg-type]
        for parameter in made.method.values():
            parameter.data.fill_(0.3)
        return made

    monkeypatch.setattr(Lora, "insert", drawn)
    assert step_zero.main([*SMOKE, "row/e2e=lora", "--to", str(tmp_path)]) == 0
    assert float(shown(tmp_path)["LoRA"][1]) > 0.001


def test_what_a_method_freezes_of_its_own_stays_as_it_drew_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """LoRA with A frozen (LoRA-FA) keeps A and borrows nothing: at A = 0 it is the backbone, whatever B is."""
    usual = Lora.insert

    def frozen(method: Lora, backbone: object) -> Trainable:
        made = usual(method, backbone)  # type: ignore[arg-type]
        for name, parameter in made.method.items():
            parameter.data.fill_(0.0 if name.endswith(".A") else 0.3)
        of = {part: {n: p for n, p in made.method.items() if n.endswith(part)} for part in (".A", ".B")}
        return Trainable(method=of[".B"], kept=of[".A"])

    monkeypatch.setattr(Lora, "insert", frozen)
    assert step_zero.main([*SMOKE, "row/e2e=lora", "--to", str(tmp_path)]) == 0
    assert shown(tmp_path)["LoRA"][1] == "0"
    assert "untrained as" not in capsys.readouterr().out


def test_means_are_over_rows_a_loss_keeps_its_sign_and_the_largest_is_either_way() -> None:
    plain = Start(0, (1.5, 2.25), (torch.tensor([[3.0, 4.0]]), torch.ones(2, 2)), 9)
    moved = Start(1000, (1.0, 2.0), (torch.tensor([[3.0, 5.0]]), torch.ones(2, 2)), 7)
    assert line("M", moved, plain) == ("M", "1,000", "0.1000", "0.2000", "−0.3750", "0.5000", "7")
    assert [step_zero.shown(change) for change in (0.0, 3e-7, 0.00012)] == ["0", "3e-07", "0.0001"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*SMOKE, "experiment=glue"], "name one experiment, not 2"),
        ([*SMOKE, "row/e2e=human"], "none of these rows has a step 0"),
        (["profile=smoke", "task=e2e", "method=adapter_fusion"], "adapter_fusion is refused: adapter_fusion needs method."),
    ],
)
def test_what_has_no_step_zero_is_refused_in_a_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert step_zero.main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
