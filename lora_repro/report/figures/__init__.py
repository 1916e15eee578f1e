"""Figures: rendering them again gives the same bytes.

Import `curves`, `points`, `heatmap` or `brackets` for a kind of figure, `scored` for those of a table of scores.
To add a figure, write a module that makes a matplotlib figure and saves it by `style.write`.
Never let a label or a colour depend on the machine; import matplotlib inside functions, since it is slow to load.
"""
