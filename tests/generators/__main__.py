"""Write the generated data sets: python -m tests.generators."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

from lora_repro import tasks
from tests.generators import FILES

for name, generate in FILES.items():
    lines = [json.dumps([split, *row], ensure_ascii=False) + "\n" for split, rows in generate().items() for row in rows]
    path = Path(tasks.__file__).parent / name
    path.write_bytes(lzma.compress("".join(lines).encode("utf-8"), preset=9 | lzma.PRESET_EXTREME))
    print(f"{path}: {len(lines):,} rows")
