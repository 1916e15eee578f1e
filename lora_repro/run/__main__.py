"""`python -m lora_repro.run ...` is `lora-repro run ...`: see `lora_repro.commands.run`."""

import sys

from lora_repro.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "run")
    sys.exit(main())
