"""Colours of the columns of a sparse matrix: columns of one colour share one product.

For a symmetric matrix H and a direction v of ones in the columns of one colour, (H v)_i is the sum of the
entries of row i in these columns. A colouring is right if each entry h_ij is alone in its row i among the
columns of the colour of j, or h_ji = h_ij alone in its row j among those of the colour of i. The greedy
restricted star colouring [1]_ is, and costs time in proportion to the paths of length two. For a matrix
that is not symmetric, columns of one colour have no row in common (Curtis, Powell and Reid 1974).

.. [1] A. H. Gebremedhin, F. Manne and A. Pothen, "What color is your Jacobian?", SIAM Review 47 (2005).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse

from nbhvp.targets.native import entries

__all__ = ["column_colours", "star_colours"]


@functools.cache
def _functions() -> dict[str, Callable]:
    known = {"star": "iaaaaa", "columns": "iaaaaaa"}
    return entries.load("nbhvp.targets.cpu.sparse.colours", known)


def star_colours(pattern: Any) -> np.ndarray:
    """A colour for each row and column of a symmetric pattern, columns with most entries first."""
    pattern = scipy.sparse.csr_array(pattern)
    size = pattern.shape[0]
    starts, neighbours = _words(pattern.indptr), _words(pattern.indices)
    order = np.argsort(-np.diff(starts), kind="stable")
    colours, forbidden = np.full(size, -1), np.full(size + 1, -1)
    _functions()["star"](size, starts, neighbours, order, colours, forbidden)
    return colours


def column_colours(pattern: Any) -> np.ndarray:
    """A colour for each column, such that those of one colour have no row in common."""
    by_rows, by_columns = scipy.sparse.csr_array(pattern), scipy.sparse.csc_array(pattern)
    size = pattern.shape[1]
    arrays = (by_columns.indptr, by_columns.indices, by_rows.indptr, by_rows.indices)
    colours, forbidden = np.full(size, -1), np.full(size + 1, -1)
    _functions()["columns"](size, *map(_words, arrays), colours, forbidden)
    return colours


def _words(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.int64)
