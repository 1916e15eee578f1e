"""The kinds of table and figure that an experiment declares beside the pivot."""
