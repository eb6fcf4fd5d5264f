"""The cached function of numba that a first product is measured beyond."""

from numba import njit


@njit(cache=True)
def increment(i):
    """What any package that uses numba pays first: its start, and one function from the disk."""
    return i + 1
