"""Figures: their bytes are the same at every rendering."""
