"""Functions under @njit: recorded as tapes, and rolled into graphs."""
