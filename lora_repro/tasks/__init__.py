"""Tasks: raw files -> Splits of Example, and which metrics score them; a file or a folder each. No torch, no model names."""
