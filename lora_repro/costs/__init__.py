"""What runs cost: estimates before, measurements of time, memory and disk.

Import `plan.plan_runs` for estimates, `measures` for what was measured.
To estimate something new, extend `forecast.workload` (what is computed) or `forecast.forecast` (how long that takes here).
Never change the keys of a measurement: results/*/measures holds files of them.
"""
