"""The Java side of scoring: a child process that hosts one JVM for METEOR 1.5 and the PTB tokenizer (both jars of pycocoevalcap).

`jvm.py` runs it: `python jvm_worker.py LIBJVM METEOR.jar PTB.jar [JVM OPTION ...]`. It reads one JSON request per line on stdin
and writes one JSON reply per line on stdout. It is a process of its own, because a JVM inside a training process would share
its signal handlers, its memory and its crashes.

METEOR starts without paraphrases. To a request with new words it replies {"lacking": all words so far}, and it scores when it
then gets {"paraphrases": path of their table}.
"""

import gzip
import itertools
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jpype  # type: ignore[import-untyped]

BLANKS = "".join(map(chr, range(33)))  # what Java's trim removes
OPTIONS = [
    "-Xrs",
    "-Xmx2G",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # scoring is too short for further compilation to pay off
    "-Djava.awt.headless=true",
]  # -Xrs: do not handle SIGTERM and SIGINT
OPTIONS += [
    "-Dfile.encoding=UTF-8",
    "-Duser.language=en",
    "-Duser.country=US",
]  # scores must not depend on the user's locale


def start_jvm(libjvm: str, meteor: str, ptb: str, *options: str) -> None:
    """Start the JVM with both jars, in METEOR's folder, from which it reads its function words."""
    os.chdir(Path(meteor).parent)
    jpype.startJVM(libjvm, *OPTIONS, *options, classpath=[meteor, ptb], convertStrings=True)


def run_with_stdio(text: str, program: Callable[..., Any], *arguments: Any) -> str:
    """What a Java program prints on System.out when it reads `text` on System.in."""
    system, java_io = jpype.JClass("java.lang.System"), jpype.JPackage("java").io
    output = java_io.ByteArrayOutputStream()
    system.setIn(java_io.ByteArrayInputStream(jpype.JArray(jpype.JByte)(text.encode())))
    system.setOut(java_io.PrintStream(output, True, "UTF-8"))
    program(*arguments)
    system.out.flush()
    return bytes(output.toByteArray()).decode()


def tokenize(text: str) -> str:
    """Lower-cased PTB tokens of each line of `text`, space-separated, one output line per line."""
    main = jpype.JClass("edu.stanford.nlp.process.PTBTokenizer").main
    return run_with_stdio(text, main, jpype.JArray(jpype.JString)(["-preserveLines", "-lowerCase"]))


def _private(owner: Any, name: str) -> Any:
    """A private field of a Java object, made accessible."""
    field = owner.getClass().getDeclaredField(name)
    field.setAccessible(True)
    return field


def _url(path: Path) -> Any:
    return jpype.JClass("java.io.File")(str(path)).toURI().toURL()


class Meteor:
    """METEOR 1.5 with English defaults and text normalisation (`-l en -norm`), driven through its own -stdio loop."""

    def __init__(self) -> None:
        properties = jpype.JClass("java.util.Properties")()
        properties.setProperty("language", "en")
        properties.setProperty("norm", "true")
        configuration = jpype.JClass("edu.cmu.meteor.scorer.MeteorConfiguration")(properties)
        with tempfile.NamedTemporaryFile(suffix=".gz") as none:
            none.write(gzip.compress(b""))
            none.flush()
            configuration.setParaFileURL(_url(Path(none.name)))
            self.scorer = jpype.JClass("edu.cmu.meteor.scorer.MeteorScorer")(configuration)
        self.aligner = _private(self.scorer, "aligner").get(self.scorer)
        self.table = jpype.JClass("edu.cmu.meteor.aligner.ParaphraseTransducer")
        # How the scorer normalises a text before it aligns it.
        self.form = [_private(self.scorer, name).get(self.scorer) for name in ("langID", "keepPunctuation")]
        self.normalize = jpype.JClass("edu.cmu.meteor.util.Normalizer").normalizeLine
        loop = jpype.JClass("Meteor").class_.getDeclaredMethod("scoreStdio", self.scorer.getClass())
        loop.setAccessible(True)  # private in the jar, but it is the loop that the official scorer uses
        self.loop = loop
        self.known: set[str] = set()  # the words and pairs of words that the loaded paraphrases cover
        self.waiting = ""

    def __call__(self, lines: str) -> dict[str, Any]:
        """The reply to these lines: what the loop prints, or the words and pairs of words whose paraphrases it needs first."""
        self.waiting = lines
        words = self.known | self.seen(lines)
        if len(words) == len(self.known):
            return {"text": run_with_stdio(lines, self.loop.invoke, None, self.scorer)}
        self.known = words
        return {"lacking": sorted(words)}

    def load(self, path: str) -> dict[str, Any]:
        """Load these paraphrases in place of the current ones; returns the reply to the lines that waited for them."""
        _private(self.aligner, "paraphrase").set(self.aligner, self.table(_url(Path(path))))
        return self(self.waiting)

    def seen(self, lines: str) -> set[str]:
        """The words between which the scorer would look for paraphrases, and all pairs in a row, split as in its loop."""
        score_lines = [line for line in re.split(r"\r\n?|\n", lines) if line[:5].lower() == "score"]
        texts = {text.strip(BLANKS) for line in score_lines for text in line.split("|||")[1:]}
        normal = [str(jpype.JString(self.normalize(text, *self.form)).toLowerCase()) for text in texts]
        rows = [[word for word in re.split(r"[ \t\n\r\f]+", text) if word] for text in normal]
        return {word for row in rows for word in row} | {" ".join(two) for row in rows for two in itertools.pairwise(row)}


def serve() -> None:
    """Answer requests until stdin closes: {"tokenize": text} or {"meteor": lines} -> {"text": ...} or {"error": one line}.

    METEOR may reply {"lacking": words} instead, as the module's docstring says.
    """
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # output of Java or a library must not mix with the replies
    start_jvm(*sys.argv[1:])
    meteor = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "meteor" in request:
                meteor = meteor or Meteor()
                reply = meteor(request["meteor"])
            elif "paraphrases" in request and meteor:
                reply = meteor.load(request["paraphrases"])
            else:
                reply = {"text": tokenize(request["tokenize"])}
        except jpype.JException as error:
            cause = error.getCause() or error  # reflection wraps the exception of the called method
            reply = {"error": str(cause.toString()).splitlines()[0]}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    serve()
