"""Sums in a fixed order: a binary tree over the numbers of the batches.

Terms 0 and 1 are added, 2 and 3, then these two sums, and so on, whatever comes in between and whoever
computes the terms. So a sum has the same bits for any number of workers, and its rounding error grows
with the logarithm of the number of terms. Only one partial sum of each size is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["added", "tree_sum"]


def added(a: tuple | None, b: tuple | None) -> tuple | None:
    """The sum of two results, element by element; a's arrays are used for it. None is nothing."""
    if a is None or b is None:
        return b if a is None else a
    return tuple(_add(x, y) for x, y in zip(a, b, strict=True))


def _add(x: Any, y: Any) -> Any:
    if getattr(x, "shape", ()) and x.flags.writeable and x.dtype == y.dtype:
        x += y
        return x
    return x + y


def tree_sum(terms: Iterable[tuple | None]) -> tuple | None:
    """The sum of tuples of numbers and arrays, or None, which is nothing but keeps its place.

    Arrays of the terms may be used for the sum.
    """
    partial: list[tuple[int, tuple | None]] = []  # sums of 2^level terms, the longest first
    for term in terms:
        level = 0
        while partial and partial[-1][0] == level:
            term = added(partial.pop()[1], term)
            level += 1
        partial.append((level, term))
    total = None
    for _, term in reversed(partial):
        total = added(term, total)
    return total
