"""Tasks: raw files -> Splits of Example, and which metrics score them. No torch, no model names."""
