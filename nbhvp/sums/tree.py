"""Sums in a fixed order: a binary tree over the numbers of the batches.

Terms 0 and 1 are added, 2 and 3, then these two sums, and so on, whatever comes in between and whoever
computes the terms. So a sum has the same bits for any number of workers, and its rounding error grows
with the logarithm of the number of terms. Only one partial sum of each size is kept.

A `Part` is the sum of the 2^level terms from k 2^level on, or of those of them that exist.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = ["Part", "parts", "total"]

Part = tuple[int, int, tuple | None]
"""k, level, and a result: a tuple of numbers and arrays, or None, which is nothing but keeps its place."""


def parts(given: Iterable[Part]) -> list[Part]:
    """The fewest parts that hold the sum of neighbouring ones, in their order.

    Arrays of the given parts may be used for sums.
    """
    found: list[Part] = []
    for k, level, term in given:
        while k % 2 and found and found[-1][0] == k - 1 and found[-1][1] == level:
            term = _added(found.pop()[2], term)
            k, level = k // 2, level + 1
        found.append((k, level, term))
    return found


def total(given: Iterable[Part]) -> tuple | None:
    """The sum of all parts from the first term on."""
    result = None
    for _, _, term in reversed(parts(given)):
        result = _added(term, result)
    return result


def _added(a: tuple | None, b: tuple | None) -> tuple | None:
    """The sum of two results, element by element; a's arrays are used for it."""
    if a is None or b is None:
        return b if a is None else a
    return tuple(_add(x, y) for x, y in zip(a, b, strict=True))


def _add(x: Any, y: Any) -> Any:
    shape = getattr(x, "shape", ())
    if shape != getattr(y, "shape", ()):
        raise ValueError(
            f"needed results of one shape from all batches, got {shape} and {np.shape(y)}: "
            "sum over the rows of a batch in the function"
        )
    if shape and x.flags.writeable and x.dtype == y.dtype:
        x += y
        return x
    return x + y
