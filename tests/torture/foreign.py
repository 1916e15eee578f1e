"""What comes from elsewhere or goes away: checkpoints that mean harm, a hub that does not answer, a Java that is killed."""

from __future__ import annotations

import io
import json
import lzma
import os
import pickle
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import save_file

from lora_repro import cli
from lora_repro.backbone.fetch import write_manifest
from lora_repro.backbone.spec import BackboneSpec
from lora_repro.backbone.wheel import Wheel
from lora_repro.commands.subspace import spectra_table
from lora_repro.errors import UserError
from lora_repro.exchange.lora_files import read
from lora_repro.report.terminal import terminal
from lora_repro.tasks import _files
from lora_repro.tasks.samsum.task import SAMSum
from lora_repro.tasks.wikisql.task import WikiSQL
from tests.faults import interrupted
from tests.torture.runs import SETTINGS, Bench, child, finish, left, wrong

OF_A_RUN = {  # the commands that read a run's folder
    "generate": ["{run}", "A man runs. || A man moves."],
    "score": ["{run}"],
    "export": ["{run}", "--to", "{new}"],
    "subspace": ["{run}", "--to", "{new}"],
    "runs": ["profile=smoke", "paths.runs={runs}"],
}
SECONDS = 20  # for reading a checkpoint of a few kilobytes: anything longer hangs
SECRET = "verysecretkey0123456789"
MODULE = "base_model.model.transformer.h.0.attn.c_attn"
JUNK = [None, "abc", -1, 0, 1.5, float("nan"), True, [1], {"a": 1}, 10**12, "${oc.env:TORTURE_SECRET}", "(a|a)*b", "x" * 9999]
HUGE = [1e308, 10**400, 1e-308]
NAMES = ["h.0", "h." + "9" * 24, "h." + "9" * 5000, "h.0.\x1b[2J", "h.0.a\nerror: none", "h.0.\x9bm"]
TEXTS = ["[" * 10**5, '"a \\ud800"', "9" * 5000, "null", "true", "1.5", "{}", "[null]", '"\0"', "NaN", "-1", '"x"']
SCORED = ["task=e2e", "backbone=random_llama", "method=lora"]  # texts: Java takes part

WHEEL: Any = {"package": "x", "version": "1", "sha256": "0" * 64, "file": "x.gguf", "gguf_sha256": "1" * 64}
RANDOM: Any = {"name": "x", "label": "X", "separator": "\n", "eos": "<|endoftext|>", "pad": "<|endoftext|>"}
QUESTION = '{"table_id": "1-1", "question": "how?", "sql": {"sel": 0, "agg": 3, "conds": [[1, 0, "x"]]}}\n'
VALUES = ['"1-1"', '"how?"', "[[1, 0, ", "0", "3", '"x"', '["a", "b"]', '"b"', '"Ann: Hi"', '"Hi."']
CHATS = {".json": '[{"dialogue": "Ann: Hi", "summary": "Hi."}]'}
QUESTIONS = {".jsonl": QUESTION, ".headers.jsonl": '{"id": "1-1", "header": ["a", "b"]}\n'}
DATA: list[tuple[Any, str, dict[str, str]]] = [
    (SAMSum("folder"), ".json", CHATS), (WikiSQL("folder"), ".jsonl", QUESTIONS), (WikiSQL("folder"), ".headers.jsonl", QUESTIONS)
]  # fmt: skip


class Pwn:
    """A pickle that would write a file where it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


class Foreign(Bench):
    """Trials of what comes from elsewhere."""

    def hostile_checkpoint(self) -> str:
        return self.hostile(self.random.choice([self.model, self.pickled, self.adapter, self.adapter]))

    def hostile_data(self) -> str:
        return self.hostile(self.data_file)

    def hostile(self, kind: Callable[[Path, Path], Callable[[], object]]) -> str:
        """Read or refused in one line, within seconds; nothing of it is run, and no secret is said."""
        folder = self.new()
        os.environ["TORTURE_SECRET"] = SECRET
        call = kind(folder, folder / "PWNED")
        began, old = time.monotonic(), signal.signal(signal.SIGALRM, _late)
        signal.alarm(SECONDS)
        try:
            message = str(call() and "")
        except UserError as error:
            message = str(error)
        except TimeoutError:
            message = "hangs"
        except BaseException as error:
            return f"{kind.__name__}: {type(error).__name__}: {str(error)[:200]}"
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, old)
        faults = {
            "ran its code": (folder / "PWNED").exists(),
            "said a secret": SECRET in message,
            "several lines": "\n" in message,
            "hangs": message == "hangs" or time.monotonic() - began > SECONDS,
        }
        bad = [word for word, is_so in faults.items() if is_so]
        shutil.rmtree(folder)
        return f"{kind.__name__}: {', '.join(bad)}: {message[:200]}" if bad else ""

    def model(self, folder: Path, mark: Path) -> Callable[[], object]:
        """A model's folder with code of its own, or a configuration that no model has."""
        part = self.random.choice(["AutoConfig", "AutoTokenizer", "AutoModelForCausalLM"])
        shape: dict[str, Any] = {"model_type": self.random.choice(["evil", "gpt2"]), "n_layer": 1, "n_embd": 8, "n_head": 1}
        shape[self.random.choice(list(shape))] = self.random.choice([*JUNK, 1])
        (folder / "config.json").write_text(json.dumps({**shape, "auto_map": {part: "evil.Evil"}}))
        (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": {part: ["evil.Evil", None]}}))
        (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Evil: pass\n")
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Pwn(mark)}))
        return BackboneSpec("evil", "evil", "folder", "\n", "<|endoftext|>", "<|endoftext|>", hub_id=str(folder)).load

    def pickled(self, folder: Path, mark: Path) -> Callable[[], object]:
        """A .bin that holds more than tensors."""
        path = folder / "pytorch_lora.bin"
        if self.random.random() < 0.5:
            torch.save({"x.lora_A": torch.ones(2, 2), "x.lora_B": Pwn(mark)}, path)
        else:
            path.write_bytes(pickle.dumps(Pwn(mark), protocol=self.random.randint(0, 5)))
        return lambda: read(path, None)

    def adapter(self, folder: Path, mark: Path) -> Callable[[], object]:
        """peft's folder, one thing in it of another kind or size, or some bytes of it changed."""
        config: dict[str, Any] = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["c_attn"]}
        a, b = torch.ones(2, 32), torch.ones(96, 2)
        for _ in range(self.random.randint(1, 2)):
            key = self.random.choice([*config, "rank_pattern", "alpha_pattern", "auto_mapping", "base_model_name_or_path"])
            config[key] = self.random.choice([*JUNK, *HUGE])
        module = MODULE.replace("h.0", self.random.choice(NAMES)) if self.random.random() < 0.3 else MODULE
        if self.random.random() < 0.2:
            a, b = a * 3e38, b * 3e38
        if self.random.random() < 0.5:
            shapes = [(0, 32), (2, 31), (2, 32, 1), (3, 32), (2,)]
            a = torch.ones(self.random.choice(shapes)).to(self.random.choice([torch.float32, torch.int64, torch.bfloat16]))
        save_file({f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps(config))
        if self.random.random() < 0.3:
            path = folder / self.random.choice(["adapter_model.safetensors", "adapter_config.json"])
            data = bytearray(path.read_bytes())
            for _ in range(self.random.randint(1, 20)):
                data[self.random.randrange(len(data))] = self.random.randrange(256)
            path.write_bytes(data[: self.random.randint(len(data) // 2, len(data))])
        return lambda: print(terminal([spectra_table(read(folder, None), "it")]), file=io.StringIO())

    def data_file(self, folder: Path, mark: Path) -> Callable[[], object]:
        """A data set in which one value, the file's form, or the file itself is of another kind."""
        task, name, text = self.random.choice(DATA)
        place = folder / task.folder
        place.mkdir(exist_ok=True)
        for split in ("train", "val", "dev", "test"):
            for end, good in text.items():
                (place / f"{split}{end}").write_text(good)
        path = place / f"train{name}"
        content = path.read_text()
        bad = self.random.choice(TEXTS)
        value = self.random.choice([word for word in VALUES if word in content])
        match self.random.choice(["value", "value", "value", "cut", "pipe", "packed"]):
            case "value":
                path.write_text(content.replace(value, bad, 1))
            case "cut":
                path.write_text(content[: self.random.randrange(len(content))])
            case "pipe":
                path.unlink()
                os.mkfifo(path)
            case "packed":
                path.unlink()
                archive = lzma.compress(bytes(self.random.choice([1 << 20, _files.LARGEST + 1])), preset=0)
                path.with_name(f"{path.name}.xz").write_bytes(archive[: self.random.choice([len(archive), len(archive) // 2])])
        return lambda: task.load(str(folder))

    def other_backbone(self) -> str:
        """A byte of a fetched backbone's files changed, or a file more: it is not loaded, and the line names the file."""
        folder = self.new() / "x"
        shape = {"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 1}
        backbone = BackboneSpec(**RANDOM, source="random", shape=shape).load()
        backbone.model.save_pretrained(folder)  # type: ignore[operator]
        backbone.tokenizer.save_pretrained(folder)
        write_manifest(folder, "x", "X", Wheel(**WHEEL))
        os.environ["LORA_REPRO_CACHE"] = str(folder.parent)
        spec = BackboneSpec(**RANDOM, source="wheel", wheel=WHEEL)
        spec.load()
        what = self.random.choice(["bit", "cut", "delete", "more"])
        weights = "model.safetensors"  # without it a backbone counts as not fetched
        path = self.random.choice([path for path in sorted(folder.iterdir()) if what != "delete" or path.name != weights])
        data = bytearray(path.read_bytes())
        data[place := self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
        if what == "more":
            path = folder / self.random.choice(["added_tokens.json", "vocab.txt", "chat_template.jinja", "tokenizer.model"])
            path.write_text("{}")
        elif what == "delete":
            path.unlink()
        else:
            path.write_bytes(data if what == "bit" else data[:place])
        try:
            spec.load()
        except UserError as error:
            named = path.name in str(error) or (path.name == "manifest.json" and folder.name in str(error))
            return "" if named and "\n" not in str(error) else f"{what} {path.name}: {error}"
        return f"{what} {path.name}: nothing said"

    def altered_run(self) -> str:
        """A bit of a finished run's record or adapter: no command that reads a run takes it for the run's."""
        original = Path(self.finished())
        folder = self.new() / "smoke" / original.name
        shutil.copytree(original, folder)
        path = folder / self.random.choice(["record.json", "adapter.safetensors"])
        data = bytearray(path.read_bytes())
        data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
        path.write_bytes(data)
        name = self.random.choice(list(OF_A_RUN))
        places = {"run": folder, "runs": folder.parents[1], "new": folder.parent / "new"}
        words = [name, *(word.format(**places) for word in OF_A_RUN[name])]
        code = interrupted(lambda: cli.main(words), folder, 0, log=folder.parent / "log")
        output = (folder.parent / "log").read_text(errors="replace")
        if name == "runs":
            ok = "altered" in output or path.name == "adapter.safetensors"  # which it does not read
            return "" if code == 0 and ok else f"runs, {path.name}: exit code {code}: {output[-300:]}"
        ok = code == 2 and output.count("error:") == 1 and path.name in output and "Traceback" not in output
        return "" if ok else f"{name}, {path.name}: exit code {code}: {output[-300:]}"

    def finished(self) -> str:
        """The folder of a run of LoRA; it is run once."""
        runs = self.folder / "finished"
        if not runs.exists():
            runs.mkdir()
            words = [*SETTINGS, "task=entailment", "backbone=random_bert", "method=lora", f"paths.runs={runs}"]
            code, output = finish(words, runs / "log")
            assert code == 0, output
        return str(next(runs.glob("smoke/*/record.json")).parent)

    def hub_down(self) -> str:
        """Nobody answers where the hub should be: exit status 3, a line, and nothing is left."""
        runs = self.new()
        words = [*SETTINGS, "task=e2e", "backbone=gpt2_small", "method=lora", f"paths.runs={runs / 'runs'}"]
        code, output = finish(words, runs / "log", _no_hub)
        left_behind = [str(path.relative_to(runs)) for path in runs.rglob("*") if path.is_file() and path.name != "log"]
        return wrong(code, output, (3,)) or (f"left {left_behind}" if left_behind else "")

    def java_killed(self) -> str:
        """Java is killed while texts are scored: a line; the same command ends as undisturbed."""
        reference = self.undisturbed(SCORED)
        runs = self.new()
        command = [*SETTINGS, *SCORED, f"paths.runs={runs}"]
        process = child(command, runs / "log")
        deadline = time.monotonic() + 120
        while process.is_alive() and time.monotonic() < deadline:
            below = psutil.Process(process.pid).children(recursive=True) if process.is_alive() else []
            if workers := [one for one in below if _scores(one)]:
                time.sleep(self.random.random() * 3)
                for one in workers:
                    with suppress(psutil.NoSuchProcess):  # it was faster
                        one.kill()
                break
            time.sleep(0.02)
        process.join()
        if bad := wrong(process.exitcode or 0, (runs / "log").read_text(errors="replace"), (0, 2, 3)):
            return bad
        code, output = finish(command, runs / "log")
        return wrong(code, output, (0,)) or ("" if left(runs) == reference else f"other results: {left(runs)}, not {reference}")


def _late(number: int, frame: object) -> None:
    raise TimeoutError


def _scores(process: psutil.Process) -> bool:
    try:
        return any(word.endswith("jvm_worker.py") for word in process.cmdline())
    except psutil.Error:
        return False


def _no_hub() -> None:
    """In a run's process: the hub may be asked, at an address where nobody is."""
    import huggingface_hub.constants as hub

    hub.HF_HUB_OFFLINE, hub.ENDPOINT = False, "http://127.0.0.1:9"
    os.environ["HF_HUB_OFFLINE"] = "0"
