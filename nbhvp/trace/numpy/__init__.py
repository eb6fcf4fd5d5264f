"""Answers to NumPy's functions, by NumPy's own chapters."""
