"""The kinds of table and figure, other than the pivot, that an experiment can declare.

Import a kind where an experiment declares it: `TABLE = views.fusion.Fusion(...)` in experiments/x.py.
To add a kind, write a class with `exhibits(ask, stores)`, as `exhibit.Declaration` has it.
Never train or measure here: a view shows what records and the files beside them hold.
"""
