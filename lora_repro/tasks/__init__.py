"""Tasks, each a file or a folder: raw files -> Splits of Example, and the metrics that score them. No torch, no model names.

Import `base.AbstractTask`, `base.Example` and `base.Splits`; a configuration names a task's class.
To add a task, write a file or a folder here and conf/task/x.yaml; a sentence task is a yaml alone.
Never change the rows that a published task gives: records hold their hashes.
"""
