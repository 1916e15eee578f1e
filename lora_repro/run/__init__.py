"""One run, from its configuration to its record: `run.py` is the straight line, `stages.py` its stages.

Import `run.run` for a record, found or measured, and the functions of `stages` for a part of it.
To add a stage, write a function from the values of earlier stages to its own; `run.measure` calls it.
Never let a stage take anything but its arguments: a resumed run must give the same numbers.
"""
