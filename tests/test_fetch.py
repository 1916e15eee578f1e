"""Fetching a backbone from a wheel: what is trusted, what is rebuilt, and that nothing half-made stays behind."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import refused
from safetensors import SafetensorError

from lora_repro.backbone.fetch import MANIFEST, backbone_folder, dequantise, fetch, prepare, read_spec
from lora_repro.backbone.wheel import Wheel, find_weights
from lora_repro.errors import NotAvailable, UserError

GGUF = b"not really a GGUF file\n" * 1000
INSIDE = "fake_model/fake.gguf"


class Cache:
    """A cache folder whose wheels/ holds a tiny wheel, and the yaml that describes it."""

    def __init__(self, root: Path) -> None:
        self.root, self.conf, self.converted = root / "cache", root / "conf", 0
        self.wheel = self.root / "wheels" / "fake_model-1.0-py3-none-any.whl"
        self.wheel.parent.mkdir(parents=True)
        (self.conf / "backbone").mkdir(parents=True)
        with zipfile.ZipFile(self.wheel, "w") as archive:
            archive.writestr(INSIDE, GGUF)
        self.describe()
        (self.conf / "backbone" / "other.yaml").write_text("label: Other\nsource: hub\n")

    def describe(self, **changes: str) -> Wheel:
        entry = {"package": "fake-model", "version": "1.0", "file": INSIDE}
        entry |= {"sha256": sha(self.wheel.read_bytes()), "gguf_sha256": sha(GGUF), **changes}
        lines = ["label: Fake", "source: wheel", "wheel:", *(f"  {key}: '{value}'" for key, value in entry.items())]
        (self.conf / "backbone" / "fake.yaml").write_text("\n".join(lines) + "\n")
        return Wheel(**entry)

    def convert(self, gguf: Path, folder: Path, wheel: Wheel) -> None:
        self.converted += 1
        (folder / "model.safetensors").write_bytes(gguf.read_bytes())
        (folder / "config.json").write_text("{}")

    def fetch(self) -> Path:
        return fetch("fake", self.convert, self.conf)

    def names(self) -> set[str]:
        return {path.name for path in self.root.iterdir()} - {".fake.lock"}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setenv("LORA_REPRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: pytest.fail("pip must not be called"))
    return Cache(tmp_path)


def pip(monkeypatch: pytest.MonkeyPatch, deliver: Callable[[Path], None], stderr: str = "", code: int = 0) -> None:
    """Replace pip: `deliver` gets the destination folder."""

    def run(command: list[str], **kwargs: Any) -> subprocess.CompletedProcess[str]:
        assert command[1:4] == ["-m", "pip", "download"] and command[-1] == "fake-model==1.0"
        deliver(Path(command[command.index("--dest") + 1]))
        return subprocess.CompletedProcess(command, code, "", stderr)

    monkeypatch.setattr(subprocess, "run", run)


def test_first_call_builds_second_call_only_checks(cache: Cache) -> None:
    folder = cache.fetch()
    assert folder == backbone_folder("fake") == cache.root / "fake"
    assert (folder / "model.safetensors").read_bytes() == GGUF
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["label"] == "Fake" and manifest["source"]["gguf_sha256"] == sha(GGUF)
    assert manifest["files"] == {
        "config.json": {"bytes": 2, "sha256": sha(b"{}")},
        "model.safetensors": {"bytes": len(GGUF), "sha256": sha(GGUF)},
    }
    cache.fetch()
    assert cache.converted == 1 and cache.names() == {"wheels", "fake"}


def spoil_byte(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"N" + GGUF[1:])


def spoil_size(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(GGUF[:-1])


def spoil_missing(folder: Path) -> None:
    (folder / "config.json").unlink()


def spoil_no_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def spoil_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text("[")


def spoil_empty_manifest(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "files": {}}))


def spoil_entry(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "files": {"model.safetensors": {"bytes": len(GGUF)}}}))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_byte, "model.safetensors has a wrong checksum"),
        (spoil_size, f"has {len(GGUF) - 1} bytes instead of {len(GGUF)}"),
        (spoil_missing, "config.json is missing"),
        (spoil_no_manifest, "no manifest"),
        (spoil_manifest, "manifest cannot be read"),
        (spoil_empty_manifest, "names no weights"),
        (spoil_entry, "manifest cannot be read"),
    ],
)
def test_a_spoilt_copy_is_built_again_with_a_line(
    cache: Cache, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], None], said: str
) -> None:
    spoil(cache.fetch())
    capsys.readouterr()
    folder = cache.fetch()
    assert said in capsys.readouterr().out.splitlines()[0]
    assert cache.converted == 2 and (folder / "model.safetensors").read_bytes() == GGUF
    cache.fetch()
    assert cache.converted == 2 and cache.names() == {"wheels", "fake"}


def test_another_wheel_in_the_yaml_makes_the_copy_stale(cache: Cache) -> None:
    cache.fetch()
    with zipfile.ZipFile(cache.wheel, "a") as archive:
        archive.writestr("fake_model/readme", "a newer build of the same model")
    cache.describe()
    cache.fetch()
    assert cache.converted == 2


def test_a_failing_conversion_leaves_no_new_folder_and_keeps_the_old_one(cache: Cache) -> None:
    def fail(gguf: Path, folder: Path, wheel: Wheel) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("fake", fail, cache.conf)
    assert cache.names() == {"wheels"}
    spoil_missing(cache.fetch())
    with pytest.raises(KeyboardInterrupt):
        fetch("fake", fail, cache.conf)
    assert cache.names() == {"wheels", "fake"} and (cache.root / "fake" / MANIFEST).exists()


def test_weights_that_the_disk_does_not_take_are_one_line(cache: Cache) -> None:
    def full(gguf: Path, folder: Path, wheel: Wheel) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    refused(lambda: fetch("fake", full, cache.conf), "cannot write", "No space left")
    assert cache.names() == {"wheels"}


def test_the_rest_of_a_killed_process_is_cleared(cache: Cache) -> None:
    (cache.root / ".fake.building-dead" / "fake").mkdir(parents=True)
    (cache.root / ".other.building-alive").mkdir()
    cache.fetch()
    assert cache.names() == {"wheels", "fake", ".other.building-alive"}
    (cache.root / ".fake.building-dead" / "old").mkdir(parents=True)  # killed after the new one had taken its place
    cache.fetch()
    assert cache.names() == {"wheels", "fake", ".other.building-alive"} and cache.converted == 1


def test_two_processes_build_once(cache: Cache) -> None:
    def slow(gguf: Path, folder: Path, wheel: Wheel) -> None:
        time.sleep(0.2)
        cache.convert(gguf, folder, wheel)

    threads = [threading.Thread(target=fetch, args=("fake", slow, cache.conf)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.converted == 1 and cache.names() == {"wheels", "fake"}


def test_a_wrong_wheel_is_downloaded_again(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    good = cache.wheel.read_bytes()
    cache.wheel.write_bytes(b"truncated")
    pip(monkeypatch, lambda folder: (folder / cache.wheel.name).write_bytes(good) and None)
    cache.fetch()
    assert cache.converted == 1 and cache.wheel.read_bytes() == good


def test_a_wrong_download_is_refused_and_deleted(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.wheel.unlink()
    pip(monkeypatch, lambda folder: (folder / cache.wheel.name).write_bytes(b"tampered") and None)
    with pytest.raises(UserError, match="not have the checksum in"):
        cache.fetch()
    assert not cache.wheel.exists() and cache.converted == 0 and cache.names() == {"wheels"}


def test_without_a_network_one_line_says_so(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.wheel.unlink()
    pip(monkeypatch, lambda folder: None, "WARNING: retrying\nERROR: No matching distribution found\n", 1)
    with pytest.raises(NotAvailable, match=r"fake-model==1\.0 \(No matching distribution found\)") as error:
        cache.fetch()
    assert "\n" not in str(error.value) and str(cache.root / "wheels") in str(error.value)


def test_a_wrong_gguf_or_a_missing_one_is_refused(cache: Cache) -> None:
    cache.describe(gguf_sha256="0" * 64)
    with pytest.raises(UserError, match="not have the checksum in"):
        cache.fetch()
    cache.describe(file="fake_model/absent.gguf")
    with pytest.raises(UserError, match="holds no fake_model/absent"):
        cache.fetch()
    assert cache.converted == 0 and cache.names() == {"wheels"}


def test_an_installed_package_saves_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fake_model-1.0.dist-info").mkdir()
    (tmp_path / "fake_model-1.0.dist-info" / "METADATA").write_text("Name: fake-model\nVersion: 1.0\n")
    (tmp_path / "fake_model").mkdir()
    (tmp_path / INSIDE).write_bytes(GGUF)
    monkeypatch.syspath_prepend(str(tmp_path))
    wheel = Wheel("fake-model", "1.0", "unused", INSIDE, sha(GGUF))
    assert find_weights(wheel, tmp_path / "wheels", tmp_path) == tmp_path / INSIDE


def test_a_backbone_of_the_user_s_own_folder_is_fetched(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORA_REPRO_CONFIG_DIR", str(cache.conf))
    label, wheel = read_spec("fake")
    assert (label, wheel.package) == ("Fake", "fake-model") and read_spec("smollm2_135m")[1].package != wheel.package


def test_names_and_fields_are_checked(cache: Cache) -> None:
    with pytest.raises(UserError, match=r"no such backbone: fak \(can be fetched: fake\)"):
        read_spec("fak", cache.conf)
    with pytest.raises(UserError, match="does not come in a wheel: other"):
        read_spec("other", cache.conf)
    (cache.conf / "backbone" / "bad.yaml").write_text("source: wheel\nwheel: {package: x}\n")
    with pytest.raises(UserError, match="needs package, version, sha256"):
        read_spec("bad", cache.conf)
    (cache.conf / "backbone" / "worse.yaml").write_text("source: [wheel\n")
    with pytest.raises(UserError, match=r"conf/backbone/worse.yaml is not a valid backbone: while parsing"):
        read_spec("fake", cache.conf)


def test_every_wheel_backbone_of_the_repository_is_described_in_full() -> None:
    label, wheel = read_spec("smollm2_135m")
    assert "dequantised from Q4_1" in label
    assert len(wheel.sha256) == len(wheel.gguf_sha256) == 64 and wheel.file.endswith(".gguf")
    for name in ("minilm_l6", "minilm_l3", "mpnet_base"):
        label, wheel = read_spec(name)
        assert "MultiNLI" in label  # what it has seen must be said wherever its name is
        assert len(wheel.sha256) == len(wheel.file_sha256) == 64
        assert all(len(piece.sha256) == 64 and piece.version == wheel.version for piece in wheel.pieces)


@pytest.mark.parametrize("name", ["qwen_coder_500m", "qwen_coder_1500m"])
def test_weights_that_are_their_own_archive_have_one_hash(name: str) -> None:
    label, wheel = read_spec(name)
    assert "code" in label and wheel.sha256 == wheel.file_sha256 and len({piece.sha256 for piece in wheel.pieces}) in (6, 22)


def cut(folder: Path, data: bytes, at: int) -> list[dict[str, str]]:
    """Two wheels with the halves of `data`, and what a yaml says of them."""
    folder.mkdir(parents=True)
    parts = []
    for number, half in enumerate((data[:at], data[at:]), 1):
        with zipfile.ZipFile(folder / f"cut_{number}-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr("cut/piece.bin", half)
        checksum = sha((folder / f"cut_{number}-1.0-py3-none-any.whl").read_bytes())
        parts.append({"package": f"cut-{number}", "sha256": checksum, "file": "cut/piece.bin"})
    return parts


@pytest.mark.parametrize("archived", [False, True])
def test_weights_cut_over_several_wheels_are_joined(tmp_path: Path, archived: bool) -> None:
    data = GGUF
    if archived:
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
            archive.writestr("m/model.gguf", GGUF)
        data = (tmp_path / "all.zip").read_bytes()
    wheels = tmp_path / "wheels"
    parts = cut(wheels, data, 100)
    wheel = Wheel("cut", "1.0", sha(data), "m/model.gguf", sha(GGUF), parts=parts)
    work = tmp_path / "work"
    work.mkdir()
    path = find_weights(wheel, wheels, work)
    assert path == work / "model.gguf" and path.read_bytes() == GGUF
    with pytest.raises(UserError, match=r"joined parts of .* do not have the checksum"):
        find_weights(dataclasses.replace(wheel, parts=parts[::-1]), wheels, work)
    with pytest.raises(UserError, match="holds no cut/other"):
        find_weights(dataclasses.replace(wheel, parts=[{**parts[0], "file": "cut/other"}]), wheels, work)
    assert [piece.package for piece in wheel.pieces] == ["cut-1", "cut-2"]


def test_a_piece_with_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = tmp_path / "wheels"
    parts = cut(wheels, GGUF, 100)
    spoilt = wheels / "cut_2-1.0-py3-none-any.whl"
    bad = spoilt.read_bytes() + b"more"

    def run(command: list[str], **kwargs: Any) -> subprocess.CompletedProcess[str]:
        assert command[-1] == "cut-2==1.0"  # the good one is taken from the folder
        spoilt.write_bytes(bad)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    spoilt.write_bytes(bad)
    with pytest.raises(UserError, match="did not have the checksum in its yaml and was deleted"):
        find_weights(Wheel("cut", "1.0", sha(GGUF), "model.gguf", sha(GGUF), parts=parts), wheels, tmp_path)
    assert not spoilt.exists()


def field(number: int, value: int | bytes) -> bytes:
    """One protobuf field: a whole number, or bytes with their length."""

    def varint(n: int) -> bytes:
        return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)

    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def write_onnx(path: Path, weights: dict[str, torch.Tensor], kind: int = 1) -> None:
    """What PyTorch's exporter writes of a sentence encoder: named parameters, and linear weights as nameless transposes."""
    graph = b""
    for index, (name, weight) in enumerate(weights.items()):
        if name.endswith(".weight") and "embeddings" not in name and weight.dim() == 2:
            weight, layer, name = weight.T, "/model.0/auto_model/" + name[:-7].replace(".", "/"), f"onnx::MatMul_{index}"
            node = field(1, b"x") + field(1, name.encode()) + field(3, f"{layer}/MatMul".encode()) + field(4, b"MatMul")
            graph += field(1, node)
        else:
            name = f"model.0.auto_model.{name}"
        dims = b"".join(field(1, size) for size in weight.shape)
        raw = weight.contiguous().numpy().tobytes()
        graph += field(5, dims + field(2, kind) + field(8, name.encode()) + field(9, raw))
    graph += field(1, field(1, b"a") + field(1, b"b") + field(3, b"/model.0/auto_model/scores/MatMul") + field(4, b"MatMul"))
    path.write_bytes(field(1, 8) + b"\x2d\x00\x00\x80\x3f" + field(7, graph))  # the five bytes: a float, field 5


BERT = {"model_type": "bert", "num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2,
        "vocab_size": 300, "max_position_embeddings": 16}  # fmt: skip


def test_weights_are_read_out_of_an_onnx_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file
    from transformers import AutoConfig, BertModel

    from lora_repro.backbone import fetch as module

    torch.manual_seed(0)
    state = BertModel(AutoConfig.for_model(**BERT), add_pooling_layer=False).state_dict()
    write_onnx(tmp_path / "m.onnx", state)
    (tmp_path / "other").mkdir()
    for name in ("tokenizer.json", "vocab.txt", "config.json"):
        (tmp_path / "other" / name).write_text(name)
    monkeypatch.setattr(module, "fetch", lambda name: tmp_path / name)
    wheel = Wheel("m", "1", "", "m.onnx", onnx_sha256="x", tokenizer="other", shape=BERT)
    folder = tmp_path / "built"
    folder.mkdir()
    prepare(tmp_path / "m.onnx", folder, wheel)
    weights = load_file(folder / "model.safetensors")
    assert weights.keys() == state.keys() and all(torch.equal(weights[name], state[name]) for name in state)
    assert (folder / "vocab.txt").read_text() == "vocab.txt"
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == 8
    with pytest.raises(UserError, match=r"m\.onnx does not fit the shape"):
        prepare(tmp_path / "m.onnx", folder, dataclasses.replace(wheel, shape={**BERT, "hidden_size": 4}))
    content = (tmp_path / "m.onnx").read_bytes()
    for spoil in (content[:-9], b"", b"\x3b"):
        (tmp_path / "m.onnx").write_bytes(spoil)
        with pytest.raises(UserError, match="cannot be read as an ONNX file"):
            prepare(tmp_path / "m.onnx", folder, wheel)
    write_onnx(tmp_path / "m.onnx", state, kind=10)  # float16
    with pytest.raises(UserError, match="cannot be read as an ONNX file"):
        prepare(tmp_path / "m.onnx", folder, wheel)


def test_safetensors_come_out_of_a_wheel_with_what_stands_beside_them(tmp_path: Path) -> None:
    weights = b"not really weights"
    archive = tmp_path / "wheels" / "fake_model-1.0-py3-none-any.whl"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as writer:
        for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "README.md"):
            writer.writestr(f"fake_model/model/{name}", weights if name == "model.safetensors" else name)
        writer.writestr("fake_model/model/deeper/config.json", "not this one")
        writer.writestr("fake_model/__init__.py", "")
    wheel = Wheel("fake-model", "1.0", sha(archive.read_bytes()), "fake_model/model/model.safetensors", "", sha(weights))
    work, folder = tmp_path / "work", tmp_path / "built"
    work.mkdir()
    folder.mkdir()
    prepare(find_weights(wheel, tmp_path / "wheels", work), folder, wheel)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(files) == {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"}
    assert files["model.safetensors"] == weights and files["config.json"] == b"config.json"
    with pytest.raises(UserError, match="not have the checksum in"):
        find_weights(dataclasses.replace(wheel, weights_sha256="0" * 64), tmp_path / "wheels", work)
    with pytest.raises(UserError, match="holds no"):
        find_weights(dataclasses.replace(wheel, file="fake_model/model/other.safetensors"), tmp_path / "wheels", tmp_path)


def write_tiny_gguf(path: Path, generator: torch.Generator, untied: bool = False) -> dict[str, torch.Tensor]:
    """A one-layer Llama (d = 32, 2 heads, 1 KV head, vocabulary 259) as llama.cpp writes it; norms and embedding
    in float32, matrices quantised to Q8_0. `untied`: with a head of its own. Returns embedding, head and matrices as they
    were."""
    import gguf
    from tokenizers.pre_tokenizers import ByteLevel

    d, inner, kv = 32, 64, 16
    letters = sorted(ByteLevel.alphabet())
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters, "th"]
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in (("vocab_size", len(tokens)), ("context_length", 64), ("embedding_length", d), ("block_count", 1),
                       ("feed_forward_length", inner), ("head_count", 2), ("head_count_kv", 1),
                       ("layer_norm_rms_eps", 1e-5), ("rope_freq_base", 10000.0)):
        getattr(writer, f"add_{key}")(value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["t h"])
    for name, index in (("bos", 1), ("eos", 2), ("unk", 0), ("pad", 2)):
        getattr(writer, f"add_{name}_token_id")(index)
    shapes = {"attn_q": (d, d), "attn_k": (kv, d), "attn_v": (kv, d), "attn_output": (d, d),
              "ffn_gate": (inner, d), "ffn_up": (inner, d), "ffn_down": (d, inner)}
    tensors = {"embedding": torch.randn(len(tokens), d, generator=generator)}
    writer.add_tensor("token_embd.weight", tensors["embedding"].numpy())
    if untied:
        tensors["head"] = torch.randn(len(tokens), d, generator=generator)
        writer.add_tensor("output.weight", tensors["head"].numpy())
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", torch.ones(d).numpy())
    for name, shape in shapes.items():
        tensors[name] = torch.randn(shape, generator=generator)
        blocks = gguf.quants.quantize(tensors[name].numpy(), gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(f"blk.0.{name}.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def test_dequantised_model_loads_as_an_ordinary_one(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tensors = write_tiny_gguf(tmp_path / "tiny.gguf", torch.Generator().manual_seed(0))
    dequantise(tmp_path / "tiny.gguf", tmp_path / "out")
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())
    model, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.dtype == torch.float32 and model.lm_head.weight is model.model.embed_tokens.weight
    torch.testing.assert_close(model.model.embed_tokens.weight.data, tensors["embedding"], rtol=0, atol=0)
    # Q8_0 keeps 8 bits of each block of 32: half a step is max|w| / 254, below 0.02 for these normal weights.
    torch.testing.assert_close(model.model.layers[0].mlp.up_proj.weight.data, tensors["ffn_up"], rtol=0, atol=0.02)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    text = " the café costs £20"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert len(tokenizer("the")["input_ids"]) == 2  # th, e: nothing is added around a text


@pytest.mark.parametrize("tied", [False, True])
def test_a_matrix_kept_twice_is_one_again(tmp_path: Path, tied: bool) -> None:
    from transformers import AutoModelForCausalLM

    tensors = write_tiny_gguf(tmp_path / "tiny.gguf", torch.Generator().manual_seed(0), untied=True)
    dequantise(tmp_path / "tiny.gguf", tmp_path / "out", tied)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(model.lm_head.weight, tensors["head"])
    assert torch.equal(model.model.embed_tokens.weight, tensors["head" if tied else "embedding"])
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is tied
