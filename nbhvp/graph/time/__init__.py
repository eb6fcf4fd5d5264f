"""Loops over time, found in the operations of a trace and made nodes."""
