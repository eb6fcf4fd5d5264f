"""Solves with sparse matrices of constant sparsity, by SuperLU.

With entries a_k at (i_k, j_k), z = A^-1 b is linear in b, and its tangent for the entries is

    z_dot = -A^-1 A_dot z,        (A_dot z)_i = sum over k with i_k = i of a_dot_k z_(j_k).

The factors are an object of SciPy's and no array, so they are no node: a `Pattern` keeps those of
the latest entries that it was given. That is a memory and no state: a solve depends on its
arguments alone, and products at one point share one factorisation.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

from nbhvp.graph.definitions import BOOL
from nbhvp.graph.primitives import (
    Primitive,
    _linear,
    conjugate,
    constant,
    enter,
    gather,
    reshape,
    scatter_add,
)

__all__ = ["Factored", "Pattern", "band_is_positive", "sparse_regular", "sparse_solve"]

REMEMBERED = 2
"""Factorisations that a pattern keeps: of two points, which threads may need in turns."""


@dataclass(frozen=True, eq=False)
class Pattern:
    """Where the entries of a square sparse matrix are, column by column."""

    indices: np.ndarray
    indptr: np.ndarray
    _kept: list = field(default_factory=list, repr=False)
    """Entries and their factors, latest first; a list that is replaced as a whole."""

    @property
    def size(self) -> int:
        return self.indptr.size - 1

    @property
    def rows(self) -> np.ndarray:
        return self.indices.astype(np.int64)

    @property
    def columns(self) -> np.ndarray:
        return np.repeat(np.arange(self.size), np.diff(self.indptr))

    def factors(self, data: np.ndarray):
        """The factors of SuperLU; None where the matrix is singular."""
        for known, factors in tuple(self._kept):
            if known.dtype == data.dtype and np.array_equal(known, data):
                return factors
        shape = (self.size, self.size)
        data = np.ascontiguousarray(data)  # SuperLU takes no others, and the interpreter broadcasts
        matrix = scipy.sparse.csc_array((data, self.indices, self.indptr), shape=shape)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                factors = scipy.sparse.linalg.splu(matrix)
        except RuntimeError:
            factors = None
        self._kept[:] = [(data.copy(), factors), *self._kept[: REMEMBERED - 1]]
        return factors


@dataclass(frozen=True, eq=False)
class Factored:
    """The factors of a constant matrix, made outside; there are no entries."""

    lu: scipy.sparse.linalg.SuperLU

    @property
    def size(self) -> int:
        return self.lu.shape[0]

    def factors(self, data: np.ndarray):
        return self.lu


def _solved(data, b, pattern, axis, transposed):
    data, b = np.asarray(data), np.asarray(b)
    factors = pattern.factors(data)
    if factors is None:
        return np.full_like(b, np.nan)
    turned = np.moveaxis(b, axis, 0)
    columns = np.asfortranarray(turned.reshape(turned.shape[0], -1))
    found = factors.solve(columns, "T" if transposed else "N") if columns.size else columns
    return np.moveaxis(found.reshape(turned.shape), 0, axis)


def _solve_rule(z_bar, z, data, b, pattern, axis, transposed):
    found = sparse_solve(
        data, conjugate(z_bar), pattern=pattern, axis=axis, transposed=not transposed
    )
    return None, conjugate(found)


def _solve_tangent(z, dots, data, b, pattern, axis, transposed):
    out, into = pattern.rows, pattern.columns
    if transposed:
        out, into = into, out
    read = gather(z, constant(z.pool, into), axis=axis)
    along = (*(1,) * axis, dots[0].size, *(1,) * (z.ndim - 1 - axis))
    terms = reshape(dots[0], shape=along) * read
    moved = scatter_add(terms, constant(z.pool, out), axis=axis, size=pattern.size)
    return -sparse_solve(data, moved, pattern=pattern, axis=axis, transposed=transposed)


def _band_is_positive(band, lower):
    try:
        scipy.linalg.cholesky_banded(band, lower=lower, check_finite=False)
    except np.linalg.LinAlgError:
        return False
    return True


def _discrete(name, evaluate) -> Primitive:
    return enter(
        Primitive(name, "discrete", evaluate, lambda *args, **params: ((), BOOL), linear=())
    )


# fmt: off
sparse_solve     = _linear("sparse_solve", _solved, lambda data, b, **params: (b.shape, b.dtype), _solve_rule, tangent=_solve_tangent, linear=((1,),))
sparse_regular   = _discrete("sparse_regular", lambda data, pattern: pattern.factors(np.asarray(data)) is not None)
band_is_positive = _discrete("band_is_positive", _band_is_positive)
# fmt: on
