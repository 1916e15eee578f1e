"""The HTML pages of a profile, built from what is published: what was learnt, a page an experiment, the claims, the records.

Import `build.pages`, which gives their texts; `exhibit.belonging` says which figure belongs to which experiment.
To add a part, write a module that gives HTML and call it from `build`.
Never load anything from the network, nor show a text whose data keep it private: the pages are for everyone.
"""
