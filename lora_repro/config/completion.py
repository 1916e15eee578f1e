"""Tab completion in bash, zsh and fish, by Hydra: verbs, groups, their choices, keys and values.

    eval "$(lora-repro -sc install=bash)"                bash and zsh; again with uninstall=bash to undo it
    lora-repro -sc install=fish | source                 fish

Hydra installs itself for the command that was typed and asks that command at each Tab key; the verb is ours.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from lora_repro.cli import VERBS
from lora_repro.config.compose import hydra_program  # imports Hydra, but not torch: a key press waits for it


def main(arguments: Sequence[str]) -> int:
    """Answer `-sc install=SHELL`, `uninstall=SHELL` and, of a shell, `query=SHELL` (the line is in COMP_LINE). The exit code."""
    asked = list(arguments)
    line = os.environ.get("COMP_LINE", "")
    if asked and asked[0].startswith("query="):
        program, *words = line.split(" ")
        typed = words[0] if words else ""
        if len(words) < 2:
            print(" ".join(verb for verb in VERBS if verb.startswith(typed)))
            return 0
        # What stands between the verb and the settings, such as a table's name, Hydra does not know.
        settings = [word for word in words[1:-1] if "=" in word]
        os.environ["COMP_LINE"] = " ".join([program, *settings, words[-1]])
    sys.argv[1:] = ["-sc", *asked]
    hydra_program(lambda config: None)
    return 0
