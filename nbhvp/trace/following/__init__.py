"""Copies of functions, classes and libraries that run on traced arrays."""
