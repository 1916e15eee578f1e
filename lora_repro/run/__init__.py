"""One run, from its configuration to its record: `run.py` is the straight line, `stages.py` its stages."""
