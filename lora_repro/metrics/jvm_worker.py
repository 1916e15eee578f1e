"""The Java side of scoring: a child process that hosts one JVM for METEOR 1.5 and the PTB tokenizer (both jars of pycocoevalcap).

Run by `jvm.py`, never by hand: `python jvm_worker.py LIBJVM [JVM OPTION ...]`. One JSON request a line on
stdin, one JSON reply a line on stdout. A process of its own, because a JVM inside a training process would
share its signal handlers, its memory and its crashes. METEOR's paraphrase table loads (seconds) at the first
METEOR request.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jpype  # type: ignore[import-untyped]

OPTIONS = [
    "-Xrs",
    "-Xmx2G",
    "-XX:+UseSerialGC",
    "-Djava.awt.headless=true",
]  # -Xrs: leave SIGTERM and SIGINT alone
OPTIONS += [
    "-Dfile.encoding=UTF-8",
    "-Duser.language=en",
    "-Duser.country=US",
]  # scores must not depend on the user's locale


def start_jvm(libjvm: str, *options: str) -> None:
    """Start the JVM with both jars. METEOR finds its paraphrase table relative to the working directory."""
    spec = importlib.util.find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("pycocoevalcap is not installed: pip install pycocoevalcap")
    home = Path(spec.submodule_search_locations[0])
    jars = [home / "meteor" / "meteor-1.5.jar", home / "tokenizer" / "stanford-corenlp-3.4.1.jar"]
    os.chdir(home / "meteor")
    jpype.startJVM(libjvm, *OPTIONS, *options, classpath=[str(jar) for jar in jars], convertStrings=True)


def run_with_stdio(text: str, program: Callable[..., Any], *arguments: Any) -> str:
    """What a Java program prints on System.out when it reads `text` on System.in."""
    system, java_io = jpype.JClass("java.lang.System"), jpype.JPackage("java").io
    printed = java_io.ByteArrayOutputStream()
    system.setIn(java_io.ByteArrayInputStream(jpype.JArray(jpype.JByte)(text.encode())))
    system.setOut(java_io.PrintStream(printed, True, "UTF-8"))
    program(*arguments)
    system.out.flush()
    return bytes(printed.toByteArray()).decode()


def tokenize(text: str) -> str:
    """Lower-cased PTB tokens of each line of `text`, space-separated, one line for each."""
    main = jpype.JClass("edu.stanford.nlp.process.PTBTokenizer").main
    return run_with_stdio(text, main, jpype.JArray(jpype.JString)(["-preserveLines", "-lowerCase"]))


class Meteor:
    """METEOR 1.5 with English defaults and text normalisation (`-l en -norm`), driven through its own -stdio loop."""

    def __init__(self) -> None:
        properties = jpype.JClass("java.util.Properties")()
        properties.setProperty("language", "en")
        properties.setProperty("norm", "true")
        configuration = jpype.JClass("edu.cmu.meteor.scorer.MeteorConfiguration")(properties)
        self.scorer = jpype.JClass("edu.cmu.meteor.scorer.MeteorScorer")(configuration)
        loop = jpype.JClass("Meteor").class_.getDeclaredMethod("scoreStdio", self.scorer.getClass())
        loop.setAccessible(True)  # private in the jar, but the very loop that the official scorer talks to
        self.loop = loop

    def __call__(self, lines: str) -> str:
        return run_with_stdio(lines, self.loop.invoke, None, self.scorer)


def serve() -> None:
    """Answer requests until stdin closes: {"tokenize": text} or {"meteor": lines} -> {"text": ...} or {"error": one line}."""
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # whatever Java or a library prints must not mix with the replies
    start_jvm(*sys.argv[1:])
    meteor = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "meteor" in request:
                meteor = meteor or Meteor()
                reply = {"text": meteor(request["meteor"])}
            else:
                reply = {"text": tokenize(request["tokenize"])}
        except jpype.JException as error:
            cause = error.getCause() or error  # reflection wraps what the called method threw
            reply = {"error": str(cause.toString()).splitlines()[0]}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    serve()
