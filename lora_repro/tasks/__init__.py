"""Tasks, each a file or a folder: raw files -> Splits of Example, and the metrics that score them. No torch, no model names."""
