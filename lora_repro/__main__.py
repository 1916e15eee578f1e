"""`lora-repro VERB ...`: see `lora_repro.cli`."""

import sys

from lora_repro.cli import main

if __name__ == "__main__":
    sys.exit(main())
