"""A fair comparison of methods on the user's own data and model: declared as an experiment, searched, run, and answered.

Import `compare.compare`, or `lora_repro.api.compare` in a notebook. A method needs nothing here: it is a row of the tables in
`request.TABLES`, or a yaml of conf/method. Nothing may be chosen by the test rows, and no winner named that the intervals do
not show.
"""
