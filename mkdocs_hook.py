"""mkdocs: show the worked examples of docs/ as code, each under the name of its file.

Their fences say what a test does with them (```yaml file=conf/x.yaml, ```console run), which Python-Markdown takes for prose.
"""

import re
from typing import Any

FENCE = re.compile(r"^```(\w+) (?:file=(\S+)|run)$", re.M)


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """The page with plain fences."""
    return FENCE.sub(lambda found: (f"`{found[2]}`\n\n" if found[2] else "") + f"```{found[1]}", markdown)
