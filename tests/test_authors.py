"""The authors' adapter: a random file of its keys always, its real tensors where LORA_REPRO_AUTHORS_ADAPTER names them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import loralib
import pytest
import torch
from conftest import SHAPES
from safetensors.torch import load_file, save_file

from lora_repro.backbone.model import Backbone
from lora_repro.backbone.spec import BackboneSpec
from lora_repro.commands import export as export_command
from lora_repro.commands import score as score_command
from lora_repro.errors import UserError
from lora_repro.exchange import authors
from lora_repro.methods.base import Trainable
from lora_repro.methods.lora import Lora, LoraLinear

ROOT = Path(__file__).resolve().parents[1]
REAL = os.environ.get("LORA_REPRO_AUTHORS_ADAPTER", "")
LAYERS, D, R = 2, 32, 4
QUERY = "roberta.encoder.layer.1.attention.self.query"
HEAD = [f"classifier.{name}" for name in ("dense.weight", "dense.bias", "out_proj.weight", "out_proj.bias")]
Tensors = dict[str, torch.Tensor]


def adapter(layers: int = LAYERS, seed: int = 3) -> Tensors:
    """Random values under the authors' keys, written out here a second time."""
    draw = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(layers):
        for kind in ("query", "value"):
            name = f"roberta.encoder.layer.{layer}.attention.self.{kind}"
            tensors[f"{name}.lora_A"] = torch.randn(R, D, generator=draw)
            tensors[f"{name}.lora_B"] = torch.randn(D, R, generator=draw)
    shapes = [(D, D), (D,), (3, D), (3,)]
    return tensors | {k: torch.randn(shape, generator=draw) for k, shape in zip(HEAD, shapes, strict=True)}


def saved(folder: Path, content: object) -> Path:
    path = folder / "authors.bin"
    torch.save(content, path)
    return path


def model(n_labels: int = 3, **shape: Any) -> Backbone:
    spec = BackboneSpec(
        name="tiny_roberta", label="tiny", source="random", separator="\n", eos="<|endoftext|>", pad="<|endoftext|>",
        shape={**SHAPES["roberta"], **shape}, head="classification", n_labels=n_labels,
    )  # fmt: skip
    return spec.load()


def with_lora(backbone: Backbone, **settings: Any) -> Trainable:
    return Lora(**{"rank": R, "alpha": 16, "dropout": 0.0, "targets": ["query", "value"], **settings}).apply(
        backbone
    )


def logits(backbone: Backbone) -> torch.Tensor:
    ids = torch.randint(2, 256, (3, 11), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return backbone.model(input_ids=ids).logits  # type: ignore[no-any-return]


def same(one: Tensors, other: Tensors) -> bool:
    """Equal names, and equal values bit for bit."""
    bits = [(one[name].view(torch.int32), other[name].view(torch.int32)) for name in one if name in other]
    return set(one) == set(other) and all(torch.equal(a, b) for a, b in bits)


def loaded(tensors: Tensors) -> Backbone:
    backbone = model()
    authors.load_into(backbone, with_lora(backbone), authors.to_ours(tensors))
    return backbone


def test_the_names_are_those_of_our_adapter_file() -> None:
    tensors = authors.to_ours(adapter())
    assert f"{QUERY}.parts.query.A" in tensors and "classifier.out_proj.weight" in tensors
    trainable = with_lora(model())
    assert set(tensors) == {*trainable.method, *trainable.head}
    assert torch.equal(tensors[f"{QUERY}.parts.query.B"], adapter()[f"{QUERY}.lora_B"])


@pytest.mark.parametrize("layers", [1, 2, 12])
def test_there_and_back_is_the_same_to_the_bit(tmp_path: Path, layers: int) -> None:
    before = adapter(layers)
    before[HEAD[1]][0] = -0.0
    tensors = authors.read(saved(tmp_path, before))
    assert list(tensors) == list(before) and same(tensors, before)
    again = authors.from_ours(authors.to_ours(tensors))
    assert list(again) == list(before) and same(again, before)


def test_the_update_is_scaling_times_b_a() -> None:
    tensors = adapter()
    backbone = loaded(tensors)
    for layer in range(LAYERS):
        for kind in ("query", "value"):
            name = f"roberta.encoder.layer.{layer}.attention.self.{kind}"
            ours = backbone.model.get_submodule(name)
            assert isinstance(ours, LoraLinear) and ours.scaling == 16 / R
            a, b = tensors[f"{name}.lora_A"].tolist(), tensors[f"{name}.lora_B"].tolist()
            literal = [
                [16 / R * sum(b[i][k] * a[k][j] for k in range(R)) for j in range(D)] for i in range(D)
            ]
            torch.testing.assert_close(ours.delta(), torch.tensor(literal), atol=1e-4, rtol=1e-5)


def test_logits_are_those_of_a_plain_model_changed_by_hand() -> None:
    tensors, plain = adapter(), model()
    baseline = logits(plain)
    with torch.no_grad():
        for name, parameter in plain.model.named_parameters():
            place = name.removesuffix(".weight")
            if f"{place}.lora_A" in tensors:
                parameter += 16 / R * tensors[f"{place}.lora_B"] @ tensors[f"{place}.lora_A"]
            elif name in HEAD:
                parameter.copy_(tensors[name])
    actual = logits(loaded(tensors))
    torch.testing.assert_close(actual, logits(plain), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(actual, baseline, atol=0.1)


def test_logits_are_those_of_the_authors_own_layers() -> None:
    tensors, theirs = adapter(), model()
    for layer in theirs.layers:
        for kind in ("query", "value"):
            attention = layer.get_submodule("attention.self")
            old = getattr(attention, kind)
            new = loralib.Linear(D, D, r=R, lora_alpha=16)
            new.load_state_dict(old.state_dict(), strict=False)
            setattr(attention, kind, new)
    unknown = theirs.model.load_state_dict(tensors, strict=False).unexpected_keys
    assert unknown == []
    torch.testing.assert_close(logits(loaded(tensors)), logits(theirs), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", HEAD)
def test_every_tensor_of_the_head_counts(name: str) -> None:
    other = adapter()
    other[name] = other[name] + torch.randn(other[name].shape, generator=torch.Generator().manual_seed(9))
    assert not torch.allclose(logits(loaded(other)), logits(loaded(adapter())), atol=1e-3)


def damaged(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(change(path.read_bytes())) and None


def flipped(content: bytes) -> bytes:
    """One bit of a tensor changed: torch.load would not notice."""
    place = content.index(adapter()[f"{QUERY}.lora_A"].numpy().tobytes()) + 40
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Path.unlink, "cannot read"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot read"),
        (damaged(lambda content: b""), "damaged or not the authors' adapter"),
        (damaged(lambda content: content[:-300]), "damaged or not"),
        (damaged(lambda content: content[:1000]), "damaged or not"),
        (damaged(lambda content: b"index\tsentence1\n"), "damaged or not"),
        (damaged(flipped), "damaged or not"),
        (lambda path: torch.save([1, 2], path), "damaged or not"),
        (lambda path: torch.save({}, path), "damaged or not"),
        (lambda path: torch.save({1: torch.ones(1)}, path), "damaged or not"),
        (lambda path: torch.save({"a": "text"}, path), "damaged or not"),
        (lambda path: torch.save({"a": Lora()}, path), "damaged or not"),
        (lambda path: torch.save({"bert.pooler": torch.ones(2)}, path), "has an unknown bert.pooler"),
    ],
)  # fmt: skip
def test_another_or_damaged_file_is_refused_in_one_line(
    tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    path = saved(tmp_path, adapter())
    change(path)
    with pytest.raises(UserError, match=message) as error:
        authors.read(path)
    assert "\n" not in str(error.value) and "; take roberta_base_lora_mnli.bin" in str(error.value)


NAN = torch.full((D,), float("nan"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({f"{QUERY}.lora_A": None}, f"lacks {QUERY}.lora_A"),
        ({"classifier.out_proj.bias": None}, "lacks classifier.out_proj.bias"),
        ({"classifier.norm.bias": torch.ones(D)}, "has an unknown classifier.norm.bias"),
        ({QUERY.replace(".1.", ".7.") + ".lora_A": torch.ones(R, D)}, "lacks roberta.encoder.layer.2"),
        ({f"{QUERY}.lora_A": torch.ones(R, D + 1)}, rf"{QUERY}.lora_A must have shape \(4, 32\) and finite"),
        ({f"{QUERY}.lora_A": torch.ones(R * D)}, rf"{QUERY}.lora_A must have shape \(4, 32\)"),
        ({f"{QUERY}.lora_B": torch.ones(R, D)}, rf"{QUERY}.lora_B must have shape \(32, 4\)"),
        ({f"{QUERY}.lora_B": torch.ones(D, R + 1)}, rf"{QUERY}.lora_B must have shape \(32, 4\)"),
        ({"classifier.dense.bias": torch.ones(D - 1)}, "must have shape"),
        ({"classifier.out_proj.weight": torch.ones(3, D - 1)}, r"out_proj.weight must have shape \(3, 32\)"),
        ({"classifier.dense.bias": NAN}, r"classifier.dense.bias must have shape \(32,\) and finite"),
        ({f"{QUERY}.lora_A": torch.ones(R, D).half()}, "lora_A must have .* float32"),
    ],
)
def test_wrong_keys_shapes_and_values_are_refused_in_one_line(
    tmp_path: Path, changes: dict[str, torch.Tensor | None], message: str
) -> None:
    tensors = {name: value for name, value in (adapter() | changes).items() if value is not None}
    with pytest.raises(UserError, match=message) as error:
        authors.read(saved(tmp_path, tensors))
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=message):
        authors.to_ours(tensors)
    with pytest.raises(UserError, match="give the adapter of a RoBERTa with LoRA on query and value"):
        authors.from_ours(tensors)


@pytest.mark.parametrize(
    ("settings", "n_labels", "message"),
    [
        ({"rank": 2}, 3, r"does not have the model's shape \(2, 32\)"),
        ({"targets": ["query"]}, 3, "has an unknown .*value"),
        ({"targets": ["query", "key", "value"]}, 3, "lacks .*key.parts.key.A"),
        ({}, 2, r"classifier.out_proj.* does not have the model's shape \(2"),
        ({"alpha": 8}, 3, "scales by 2, the adapter by 4; set method.alpha=16"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_and_left_alone(
    settings: dict[str, Any], n_labels: int, message: str
) -> None:
    backbone = model(n_labels)
    trainable = with_lora(backbone, **settings)
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    with pytest.raises(UserError, match=message):
        authors.load_into(backbone, trainable, authors.to_ours(adapter()))
    assert all(torch.equal(value, before[name]) for name, value in backbone.model.state_dict().items())


def test_an_adapter_that_was_never_trained_is_refused() -> None:
    tensors = authors.to_ours(adapter() | {f"{QUERY}.lora_B": torch.zeros(D, R)})
    backbone = model()
    with pytest.raises(UserError, match=rf"{QUERY}.parts.query.B is zero"):
        authors.load_into(backbone, with_lora(backbone), tensors)


# A 2-layer RoBERTa over bytes where the command would load RoBERTa base.
TINY = [
    "backbone.source=random", "backbone.cls='<|endoftext|>'", "backbone.eos='<|endoftext|>'", "backbone.pad='<|endoftext|>'",
    "backbone.shape={num_hidden_layers: 2, hidden_size: 32, intermediate_size: 64, num_attention_heads: 4, vocab_size: 300}",
    "method.rank=4", "data.max_length=128", "task.rows={train: 2, matched: 5, mismatched: 4}", "device=cpu",
]  # fmt: skip


def mnli(folder: Path) -> str:
    """A few rows in the layout of GLUE's MNLI files; three of five and one of four are neutral."""
    parses = [f"sentence{i}_{kind}" for kind in ("binary_parse", "parse") for i in (1, 2)]
    head = ["index", "promptID", "pairID", "genre", *parses, "sentence1", "sentence2"]
    labels = {
        "train": ["neutral", "entailment"],
        "dev_matched": ["neutral", "entailment", "neutral", "contradiction", "neutral"],
        "dev_mismatched": ["entailment", "contradiction", "neutral", "entailment"],
    }
    (folder / "MNLI").mkdir()
    for name, gold in labels.items():
        votes = ["label1"] if name == "train" else [f"label{i}" for i in range(1, 6)]
        lines = ["\t".join([*head, *votes, "gold_label"])]
        for i, label in enumerate(gold):
            pair = [f'He said "{i} .', f"{i} was said ."]
            lines.append(
                "\t".join([str(i), "7n", "7n", "fiction", *["( x )"] * 4, *pair, *["-"] * len(votes), label])
            )
        (folder / "MNLI" / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"paths.data={folder}"


def run(
    capsys: pytest.CaptureFixture[str], *arguments: object, command: ModuleType = score_command
) -> tuple[int, str, str]:
    code = command.main([str(argument) for argument in arguments])
    streams = capsys.readouterr()
    return code, streams.out, streams.err


@pytest.mark.parametrize(
    ("answer", "matched", "mismatched"), [(0, "20.0", "50.0"), (1, "60.0", "25.0"), (2, "20.0", "25.0")]
)
def test_the_command_prints_both_accuracies_beside_the_authors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: int, matched: str, mismatched: str
) -> None:
    tensors = adapter()
    tensors["classifier.out_proj.bias"][answer] = 1e4  # entailment, neutral or contradiction to everything
    code, out, _ = run(capsys, saved(tmp_path, tensors), mnli(tmp_path), *TINY)
    lines = [line.split() for line in out.splitlines()]
    assert code == 0 and "MNLI (GLUE, local files); RoBERTa base (random weights" in out
    assert lines[2:] == [
        ["matched", matched, "5", "87.5", "±", "0.3"],
        ["mismatched", mismatched, "4", "86.9", "±", "0.3"],
    ]


@pytest.mark.parametrize("n", [1, 4])
def test_a_few_rows_are_counted_under_their_own_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], n: int
) -> None:
    code, out, _ = run(capsys, saved(tmp_path, adapter()), mnli(tmp_path), *TINY, f"data.n_test={n}")
    matched, mismatched = (line.split() for line in out.splitlines()[2:])
    assert code == 0 and int(matched[2]) + int(mismatched[2]) == n
    assert (matched[1] == "—") == (matched[2] == "0") and (mismatched[1] == "—") == (mismatched[2] == "0")


@pytest.mark.parametrize(
    ("more", "status", "message"),
    [
        (["backbone.source=hub"], 3, "cannot get FacebookAI/roberta-base at e2da8e2f"),
        (["paths.data=null"], 2, "MNLI of GLUE is not here: run lora-repro fetch glue"),
        (["method.alpha=8"], 2, "set method.alpha=16"),
        (["task=rte"], 2, "the adapter answers MNLI"),
        (["task.labels=[neutral,entailment,contradiction]"], 2, "the adapter answers MNLI"),
        (["no.such=1"], 2, "no"),
    ],
)
def test_a_mistake_of_the_command_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    status: int,
    message: str,
) -> None:
    def unreachable(*arguments: object, **settings: object) -> None:
        raise OSError("no hub")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", unreachable)  # as without a network, but at once
    overrides = [item for item in TINY if more != ["task=rte"] or "task.rows" not in item]
    code, out, err = run(capsys, saved(tmp_path, adapter()), mnli(tmp_path), *overrides, *more)
    mistake = err.strip().splitlines()[-1]
    assert (code, out) == (status, "") and mistake.startswith("error: ") and message in mistake


def test_a_missing_file_or_an_option_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = "--json: the authors' adapter takes settings of a run, KEY=VALUE, such as paths.data=DIR"
    assert run(capsys, tmp_path / "no.bin", "--json") == (2, "", f"error: {message}\n")
    code, out, err = run(capsys, tmp_path / "no.bin", *TINY)
    assert (code, out) == (2, "") and err.startswith("error: cannot read") and err.count("\n") == 1


def test_the_command_converts_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, ours, again = saved(tmp_path, adapter()), tmp_path / "adapter.safetensors", tmp_path / "again.bin"
    code, out, _ = run(capsys, source, "--to", ours, command=export_command)
    values = 2 * LAYERS * 2 * R * D + D * D + D + 3 * D + 3
    assert code == 0 and out == f"12 tensors, {values:,} values written to {ours}\n"
    assert same(load_file(ours), authors.to_ours(adapter()))
    assert run(capsys, ours, "--to", again, "--format", "authors", command=export_command)[0] == 0
    assert same(authors.read(again), adapter())


def test_a_mistake_of_a_conversion_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, other, out = saved(tmp_path, adapter()), tmp_path / "other.safetensors", tmp_path / "out"
    save_file({"wte.weight": torch.ones(2)}, other)
    for arguments, message in (
        ([source, "--to", out, "--format", "merged"], "leave out --format merged"),
        ([source, "--to", out, "--dequantise"], "leave out --dequantise"),
        ([source, "--to", out, "--format", "authors"], "cannot read"),
        ([tmp_path, "--to", out, "--format", "authors"], "cannot read"),
        ([tmp_path / "no.safetensors", "--to", out, "--format", "authors"], "cannot read"),
        ([other, "--to", out, "--format", "authors"], "give the adapter of a RoBERTa"),
        ([source, "--to", source / "out"], "cannot write"),
    ):
        code, stdout, err = run(capsys, *arguments, command=export_command)
        assert (code, stdout, err.count("\n")) == (2, "", 1) and message in err and not out.exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
def test_make_asks_the_command() -> None:
    def asked(*variables: str) -> str:
        command = [
            "make",
            "-n",
            "--no-print-directory",
            "check-authors-adapter",
            "ADAPTER=/some where/x.bin",
            *variables,
        ]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert '-m lora_repro score "/some where/x.bin" task.source=hub' in asked("DATA=")
    assert """-m lora_repro score "/some where/x.bin" "paths.data='/my glue'" """ in asked("DATA=/my glue")


@pytest.fixture(scope="module")
def real() -> Tensors:
    if not REAL:
        pytest.skip("set LORA_REPRO_AUTHORS_ADAPTER to microsoft/LoRA's roberta_base_lora_mnli.bin")
    assert hashlib.sha256(Path(REAL).read_bytes()).hexdigest().startswith("343c48c7"), (
        f"{REAL} is another file"
    )
    return authors.read(REAL)


def test_the_real_file_has_the_counts_of_the_paper(real: Tensors) -> None:
    own = [value for name, value in real.items() if ".lora_" in name]
    assert len(own) == 48 and sum(value.numel() for value in own) == 294_912
    assert sum(value.numel() for value in real.values()) == 887_811
    assert {tuple(value.shape) for value in own} == {(8, 768), (768, 8)}
    assert tuple(real["classifier.out_proj.weight"].shape) == (3, 768)


def test_the_real_file_goes_there_and_back(real: Tensors) -> None:
    again = authors.from_ours(authors.to_ours(real))
    assert list(again) == list(real) and same(again, real)


def test_the_real_tensors_load_into_twelve_layers_of_768(real: Tensors) -> None:
    # RoBERTa base but for what the adapter does not meet: a narrow MLP and 257 tokens, so that it is drawn in a second.
    backbone = model(num_hidden_layers=12, hidden_size=768, num_attention_heads=12)
    trainable = with_lora(backbone, rank=8)
    authors.load_into(backbone, trainable, authors.to_ours(real))
    assert trainable.counts(backbone.model)["method"] == 294_912
    layers = {
        name: module for name, module in backbone.model.named_modules() if isinstance(module, LoraLinear)
    }
    assert len(layers) == 24
    for name, layer in layers.items():
        delta = layer.delta()
        assert layer.scaling == 2 and bool(torch.isfinite(delta).all()) and bool(delta.any())
        torch.testing.assert_close(delta, 2 * real[f"{name}.lora_B"] @ real[f"{name}.lora_A"])
        # The part outside the 8 directions that A's rows span: nothing but rounding.
        basis = torch.linalg.qr(real[f"{name}.lora_A"].T)[0]
        assert (delta - delta @ basis @ basis.T).norm() < 1e-5 * delta.norm()
        if ".11." in name:
            assert int(torch.linalg.matrix_rank(delta, rtol=1e-5)) <= 8
    assert bool(torch.isfinite(logits(backbone)).all())
