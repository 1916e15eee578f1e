"""Which runs a command line or an experiment asks for, and the command that makes a recorded one again.

Import `cells.cells` for the list, `cells.Cell` for one run with its coordinates, name and starts; `rerun_command.command`.
To add an axis, sweep it in conf/experiment: nothing here knows axes by name, except rows and seeds.
Never change what a cell's overrides compose to: records and tables are found by its signature.
"""
