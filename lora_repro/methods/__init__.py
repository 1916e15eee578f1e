"""Adaptation methods, one final class per file; a new method is a new file here and a yaml in conf/method."""
