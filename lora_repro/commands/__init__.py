"""The commands, one file a verb: `lora-repro <verb>` calls its `main`. Nothing but `lora_repro.cli` names them.

To add a verb, write a file with a docstring (its help) and `@console.command def main(arguments) -> int`; no list names it.
What more than one command needs belongs to the package of its subject.
Never change what an exit code means (`lora_repro.errors`): scripts and schedulers read it.
"""
