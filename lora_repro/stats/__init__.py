"""All statistics of the suite, apart from how they are printed: what an interval, a p and a verdict are.

Import `bootstrap.paired_draws` for a difference with its resamples, `comparable.paired` for the runs that may be compared,
`spread` for what seeds add, `intervals` for levels and corrections, `verdict.judge` for the one rule of verdicts. To add a
method, write a function of numbers here, with its source. Never change a number that a published table or verdict rests on.
"""
