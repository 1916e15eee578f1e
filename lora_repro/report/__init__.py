"""From records to tables and figures: columns, captions, writers and one presenter. No torch.

Import `show` for tables, `render` for claims and pages; experiments/ imports what it declares, such as `pivot` and `subjects`.
To add a table, write experiments/x.py; a claim is a yaml in conf/claim, a new kind of claim a class in subjects/ or claims/.
Never let a render depend on the machine or the time: published tables and figures come out byte for byte.
"""
