"""Runs of functions under @njit, recorded as tapes."""
