"""Sentence tasks: those of GLUE and others in its form, answered by a class, a number or (`text`) a word."""
