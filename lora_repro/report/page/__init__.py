"""One self-contained HTML page per profile, built from what is published: tables, figures, runs, commands, examples.

Import `build.page`, which gives the text; `figures.belonging` says which figure belongs to which experiment.
To add a part, write a module that gives HTML and call it from `build`.
Never load anything from elsewhere, nor show a text whose data keep it private: the page is one file for everyone.
"""
