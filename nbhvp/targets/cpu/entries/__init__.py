"""Compiled entries: arguments are tested, and a program is run, in one call."""
