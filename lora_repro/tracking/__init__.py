"""What a run tells while it trains: `metrics.jsonl`, and its mirrors in W&B and Trackio.

Import `metrics.Metrics`; a configuration names a tracker.
To add a tracker, write a class whose `start` gives a `metrics.Mirror`, and a block in conf/tracker.yaml.
Never let a mirror end or slow a run (`background`), nor show it more than `redaction` lets through.
"""
