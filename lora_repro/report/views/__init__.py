"""The kinds of table and figure, other than the pivot, that an experiment can declare."""
