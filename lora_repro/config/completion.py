"""Tab completion in bash, zsh and fish, by Hydra: verbs, groups, their choices, keys and values.

    eval "$(lora-repro -sc install=bash)"                bash and zsh; again with uninstall=bash to undo it
    lora-repro -sc install=fish | source                 fish

Hydra installs completion for the command that was typed and queries that command at each Tab; verbs are completed here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from lora_repro.config.compose import hydra_program  # imports Hydra but not torch: must be fast


def main(arguments: Sequence[str], verbs: Sequence[str]) -> int:
    """Answer `-sc install=SHELL`, `uninstall=SHELL` and a shell's `query=SHELL` (line in COMP_LINE); returns the exit code.

    verbs: what may follow the program's name.
    """
    options = list(arguments)
    line = os.environ.get("COMP_LINE", "")
    if options and options[0].startswith("query="):
        program, *words = line.split(" ")
        prefix = words[0] if words else ""
        if len(words) < 2:
            print(" ".join(verb for verb in verbs if verb.startswith(prefix)))
            return 0
        # Hydra does not know words between the verb and the settings, such as a table's name.
        settings = [word for word in words[1:-1] if "=" in word]
        os.environ["COMP_LINE"] = " ".join([program, *settings, words[-1]])
    sys.argv[1:] = ["-sc", *options]
    hydra_program(lambda config: None)
    return 0
