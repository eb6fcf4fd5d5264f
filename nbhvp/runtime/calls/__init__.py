"""Calls of a function: their arguments, and the short ways to an answer."""
