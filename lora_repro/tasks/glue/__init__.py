"""Sentence tasks: GLUE's and those in its form, answered by a class, a number or (`text`) a word."""
