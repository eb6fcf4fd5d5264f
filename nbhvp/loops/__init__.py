"""Functions under @njit with loops: runs are recorded as tapes, and tapes rolled into graphs."""
