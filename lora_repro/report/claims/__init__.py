"""The claims of the paper, each with a test fixed before its result is read, and what our records say of it.

Import `ledger.load` and `ledger.judge_all`; conf/claim names the classes of tests.
To add a claim, write a block in conf/claim; to add a kind of test, a subclass of `base.ClaimTest`, in subjects/ if it has one.
Never change a test after its result was read, nor what a verdict needs (`stats.verdict`, `stats.multiplicity`).
"""
