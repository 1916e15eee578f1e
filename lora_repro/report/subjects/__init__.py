"""What belongs to one subject, in one place: what its experiment shows (tables, figures), and the tests of its claims.

An experiment declares what it shows, `TABLE = subjects.fusion.Fusion(...)` in experiments/x.py; conf/claim names its tests.
To add a subject, write one module here: a class with `exhibits(ask, stores)`, as `exhibit.Declaration` has it, and tests, each a
subclass of `claims.base.ClaimTest`. Never train or measure here: a subject shows what records and the files beside them hold.
"""
