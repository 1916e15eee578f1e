"""Objectives, one file per kind of task: how an example becomes tokens, its loss, its validation, its answer."""
