"""Objectives, one file per kind of task: how an example becomes tokens, its loss, its validation, its answer.

Import `base.Objective`; a task names its objective's class, and nobody else asks of what kind a task is.
To add a kind of task, write a class with the methods of `base.Objective`.
Never change how a published task is encoded: its runs would be others under the same name.
"""
