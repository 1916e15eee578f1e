"""The training loop (`loop`) and what surrounds it: optimizer, precision, checkpoints, ranks, what an unfinished run keeps.

Import `loop.train` and `loop.TrainConfig`, `ranks.Ranks` for the device, `precision.autocast`.
To add a setting, give `TrainConfig` a field with a default that renames nothing.
Never let a resumed run differ from one that was not stopped: on a CPU they agree bit for bit.
"""
