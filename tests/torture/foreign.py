"""What comes from elsewhere or goes away: checkpoints that mean harm, a hub that does not answer, a Java that is killed."""

from __future__ import annotations

import json
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

from lora_repro.analysis.lora_files import read
from lora_repro.backbone.spec import BackboneSpec
from lora_repro.errors import UserError
from tests.torture.runs import SETTINGS, Bench, child, finish, left, wrong

SECONDS = 20  # for reading a checkpoint of a few kilobytes: anything longer hangs
SECRET = "verysecretkey0123456789"
MODULE = "base_model.model.transformer.h.0.attn.c_attn"
JUNK = [None, "abc", -1, 0, 1.5, float("nan"), True, [1], {"a": 1}, 10**12, "${oc.env:TORTURE_SECRET}", "(a|a)*b", "x" * 9999]
SCORED = ["task=e2e", "backbone=random_llama", "method=lora"]  # texts: Java takes part


class Pwn:
    """A pickle that would write a file where it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


class Foreign(Bench):
    """Trials of what comes from elsewhere."""

    def hostile_checkpoint(self) -> str:
        """Read or refused in one line, within seconds; nothing of it is run, and no secret is said."""
        folder = self.new()
        kind = self.random.choice([self.model, self.pickled, self.adapter, self.adapter])
        os.environ["TORTURE_SECRET"] = SECRET
        call = kind(folder, folder / "PWNED")
        began, old = time.monotonic(), signal.signal(signal.SIGALRM, _late)
        signal.alarm(SECONDS)
        try:
            said = str(call() and "")
        except UserError as error:
            said = str(error)
        except TimeoutError:
            said = "hangs"
        except BaseException as error:
            return f"{kind.__name__}: {type(error).__name__}: {str(error)[:200]}"
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, old)
        met = {
            "ran its code": (folder / "PWNED").exists(),
            "said a secret": SECRET in said,
            "several lines": "\n" in said,
            "hangs": said == "hangs" or time.monotonic() - began > SECONDS,
        }
        bad = [word for word, is_so in met.items() if is_so]
        shutil.rmtree(folder)
        return f"{kind.__name__}: {', '.join(bad)}: {said[:200]}" if bad else ""

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
            config[key] = self.random.choice(JUNK)
        if self.random.random() < 0.5:
            shapes = [(0, 32), (2, 31), (2, 32, 1), (3, 32), (2,)]
            a = torch.ones(self.random.choice(shapes)).to(self.random.choice([torch.float32, torch.int64, torch.bfloat16]))
        save_file({f"{MODULE}.lora_A.weight": a, f"{MODULE}.lora_B.weight": b}, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps(config))
        if self.random.random() < 0.3:
            path = folder / self.random.choice(["adapter_model.safetensors", "adapter_config.json"])
            data = bytearray(path.read_bytes())
            for _ in range(self.random.randint(1, 20)):
                data[self.random.randrange(len(data))] = self.random.randrange(256)
            path.write_bytes(data[: self.random.randint(len(data) // 2, len(data))])
        return lambda: read(folder, None)

    def hub_down(self) -> str:
        """Nobody answers where the hub should be: exit status 3, a line, and nothing is left."""
        runs = self.new()
        words = [*SETTINGS, "task=e2e", "backbone=gpt2_small", "method=lora", f"paths.runs={runs / 'runs'}"]
        code, said = finish(words, runs / "log", _no_hub)
        left_behind = [str(path.relative_to(runs)) for path in runs.rglob("*") if path.is_file() and path.name != "log"]
        return wrong(code, said, (3,)) or (f"left {left_behind}" if left_behind else "")

    def java_killed(self) -> str:
        """Java is killed while texts are scored: a line; the same command ends as undisturbed."""
        whole = self.undisturbed(SCORED)
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
        code, said = finish(command, runs / "log")
        return wrong(code, said, (0,)) or ("" if left(runs) == whole else f"other results: {left(runs)}, not {whole}")


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
