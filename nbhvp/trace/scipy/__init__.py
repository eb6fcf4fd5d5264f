"""Answers to SciPy's functions, by SciPy's own packages."""
