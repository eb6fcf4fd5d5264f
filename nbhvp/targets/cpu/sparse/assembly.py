"""The assembly of a sparse matrix C_out D C_in with constant C_out and C_in: which entries of D go where."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable

import numpy as np
import scipy.sparse

from nbhvp.targets.cpu import run
from nbhvp.targets.cpu.sparse.terms import HALF
from nbhvp.targets.native import entries

__all__ = ["sorted_terms"]


@functools.cache
def _functions() -> dict[str, Callable]:
    known = {"by_columns": "aai", "by_rows": "iaaai"}
    return entries.load("nbhvp.targets.cpu.sparse.terms", known)


def sorted_terms(
    pattern: scipy.sparse.csr_array,
    colours: np.ndarray,
    before: scipy.sparse.csr_array,
    after: scipy.sparse.csc_array,
) -> tuple[np.ndarray, ...]:
    """The terms of the entries of `after` D `before`, where D has a pattern and colours of its columns.

    Gives where rows of terms start, the columns of these, their places and the factors of classes. Values
    are a row of each colour for each row of D, and all of them once more for each further class.
    """
    count = int(colours.max(initial=-1)) + 1
    (out_factors, out_kinds), (in_factors, in_kinds) = map(_kinds, (after, before))
    products = np.multiply.outer(out_factors, in_factors)
    factors, classes = np.unique(products, return_inverse=True)
    values = pattern.shape[0] * count
    assert values * factors.size < 2 ** (HALF - 1), "places have half a word"
    arrays = [pattern.indptr, pattern.indices, colours, after.indptr, after.indices, out_kinds]
    arrays += [before.indptr, before.indices, in_kinds, classes.ravel()]
    words = [np.ascontiguousarray(array, np.int64) for array in arrays]
    numbers = [pattern.shape[0], count, values, in_factors.size]
    table = np.array([*numbers, *map(run.address, words)], np.int64)
    by_columns, by_rows = (_functions()[name] for name in ("by_columns", "by_rows"))
    starts, terms = _sorted(before.shape[1], lambda ends, found: by_columns(table, ends, found))
    size = before.shape[1]
    starts, terms = _sorted(
        after.shape[0], lambda ends, found: by_rows(size, starts, terms, ends, found)
    )
    halves = terms.view(np.int32).reshape(-1, 2)[:, :: 1 if sys.byteorder == "little" else -1]
    places, columns = map(np.ascontiguousarray, halves.T)
    return starts, columns, places, factors


def _kinds(matrix) -> tuple[np.ndarray, np.ndarray]:
    """The different entries of a matrix, and which of them each is."""
    factors, kinds = np.unique(matrix.data, return_inverse=True)
    return factors, kinds.ravel()


def _sorted(groups: int, sort: Callable) -> tuple[np.ndarray, np.ndarray]:
    """Where groups start, and terms in their order: counted, and sorted then."""
    starts = np.zeros(groups + 1, np.int64)
    sort(starts[1:], 0)
    np.cumsum(starts, out=starts)
    found = np.empty(starts[-1], np.int64)
    sort(starts[:-1].copy(), run.address(found))
    return starts, found
