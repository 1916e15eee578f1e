"""Figures: rendering them again gives the same bytes."""
