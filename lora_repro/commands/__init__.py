"""The commands, one file a verb: `python -m lora_repro <verb>` calls its `main`. Nothing but `lora_repro.cli` imports them."""
