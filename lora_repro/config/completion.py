"""Tab completion in bash for the verbs run, plan and tune, by Hydra: groups, their choices, keys and values.

    eval "$(python -m lora_repro.run -sc install=bash)"      again with uninstall=bash to undo it

Hydra completes `python script.py` and installed programs but not `python -m`, so the lines for the shell are ours; what to
offer is its answer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lora_repro.config.compose import hydra_program  # imports Hydra, but not torch: a key press waits for it

FLAGS = ("-sc", "--shell-completion")
INSTALL = """\
_lora_repro() {
    [[ "${COMP_LINE:0:COMP_POINT}" =~ -m[[:space:]]+lora_repro[.\\ ](run|plan|tune)[[:space:]](.*)$ ]] || return
    local offered
    offered=$(COMP_LINE="lora_repro ${BASH_REMATCH[2]}" "${COMP_WORDS[0]}" -m lora_repro.run -sc query=bash 2>/dev/null)
    COMPREPLY=($(compgen -W "$offered" -- "${COMP_WORDS[COMP_CWORD]}"))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -o bashdefault -F _lora_repro python python3
"""
UNINSTALL = "complete -r python python3; unset -f _lora_repro\n"


def main(arguments: Sequence[str]) -> int:
    """Answer a shell that asks (`-sc ...`); returns the exit code."""
    return answer([item for item in arguments if item not in FLAGS])


def answer(wanted: list[str]) -> int:
    """Print the lines for `install=bash` or `uninstall=bash`, or Hydra's offers for `query=bash`; returns the exit code."""
    if wanted == ["query=bash"]:
        hydra_program(lambda config: None)
        return 0
    texts = {"install=bash": INSTALL, "uninstall=bash": UNINSTALL}
    if len(wanted) != 1 or wanted[0] not in texts:
        print("error: complete in bash: -sc install=bash, or -sc uninstall=bash", file=sys.stderr)
        return 2
    print(texts[wanted[0]], end="")
    return 0
