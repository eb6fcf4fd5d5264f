"""Primitives of dense linear algebra: factorisations, and solves by their factors.

A factorisation is computed once per point, and products only solve by it. With z = A^-1 b,

    z_dot = A^-1 (b_dot - A_dot z),        b_bar = A^-H z_bar,    A_bar = -b_bar z^H.

So a solve is linear in b and has a tangent for A. What it takes for A is the factor, which holds the
same information: the factor *stands for its matrix*. By convention the tangent of a factor is that
of the matrix, in the first rows of an array of the factor's shape, and whatever takes a factor
reads it so. The factor of LU is an array of its factors, transposed, with the pivots in one more row.

Factors that functions see as arrays (Cholesky, QR) have tangents of their own,

    A = L L^H:   L_dot = L F(L^-1 A_dot L^-H)         F: the lower triangle, half of the diagonal;
    A = Q R:     C = A_dot R^-1,  S = low(Q^H C) - low(Q^H C)^H,
                 Q_dot = C + Q (S - Q^H C),  R_dot = (Q^H C - S) R.

Matrices are the last two axes, all axes before them are stacks. LAPACK reads an array in C order as
the transpose of its matrix, in place. Nothing here raises: where a factorisation fails, its result
is NaN as a whole, and the tracer makes that a guard.

What LAPACK is free to choose (signs, phases, bases of equal eigenvalues) belongs to the function, so
a factorisation that has such a choice is computed by the very function that was called: a `Routine`.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import scipy.linalg.blas as blas
import scipy.linalg.lapack as lapack

from nbhvp.graph.node import Node
from nbhvp.graph.primitives import (
    Primitive,
    _linear,
    absolute,
    broadcast,
    cast,
    concatenate,
    conjugate,
    constant,
    contract,
    enter,
    imag,
    less_equal,
    real,
    reshape,
    slice_,
    sum_,
    transpose,
    where,
    zeros,
)
from nbhvp.graph.table.matrices import small

__all__ = [
    "Routine",
    "adjoint",
    "by_lower",
    "cholesky",
    "diagonal",
    "hermitian",
    "kept",
    "logdet",
    "lu",
    "product",
    "qr",
    "rows",
    "solve",
    "solve_by_lu",
    "swapped",
    "triangular",
]


# Matrices of nodes.


def swapped(x: Node) -> Node:
    """The transpose of each matrix."""
    return transpose(x, axes=(*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def adjoint(x: Node) -> Node:
    """The conjugate transpose of each matrix."""
    return conjugate(swapped(x))


def product(*factors: Node) -> Node:
    """The product of matrices, stack by stack, from the left."""
    total, *rest = factors
    stack = string.ascii_letters[: total.ndim - 2]
    for factor in rest:
        total = contract(total, factor, subscripts=f"{stack}yz,{stack}zx->{stack}yx")
    return total


def rows(x: Node, start: int, stop: int) -> Node:
    """Some rows of each matrix."""
    corner = (0,) * (x.ndim - 2)
    return slice_(
        x,
        start=(*corner, start, 0),
        step=(1,) * x.ndim,
        size=(*x.shape[:-2], stop - start, x.shape[-1]),
    )


def padded(x: Node, count: int) -> Node:
    """Each matrix above zeros, `count` rows in all."""
    below = (*x.shape[:-2], count - x.shape[-2], x.shape[-1])
    return concatenate(x, zeros(x.pool, below, x.dtype), axis=x.ndim - 2)


def diagonal(x: Node) -> Node:
    """The diagonals of square matrices."""
    return sum_(kept(x, identity(x.shape[-1])), axes=(x.ndim - 1,))


@lru_cache(maxsize=16)
def _triangle(n: int, below: bool, ones: float) -> np.ndarray:
    """1 in a strict triangle, `ones` on the diagonal."""
    weights = np.tri(n, k=-1) if below else np.tri(n, k=-1).T
    return weights + ones * np.eye(n)


@lru_cache(maxsize=16)
def identity(n: int) -> np.ndarray:
    return np.eye(n)


def kept(x: Node, weights: np.ndarray) -> Node:
    """The elements times weights; 0 where these are 0, whatever stands there."""
    mask = constant(x.pool, weights != 0)
    chosen = where(mask, x, 0)
    if ((weights == 0) | (weights == 1)).all():
        return chosen
    return chosen * constant(x.pool, weights, np.empty(0, x.dtype).real.dtype)


def hermitian(x: Node, lower: bool = True) -> Node:
    """The Hermitian matrix of which one triangle is given, the other not looked at."""
    half = kept(x, _triangle(x.shape[-1], lower, 0.5))
    return half + adjoint(half)


@cache
def _routine(name: str, letter: str, library=lapack):
    return getattr(library, {"f": "s", "d": "d", "F": "c", "D": "z"}[letter] + name)


@dataclass(frozen=True)
class Routine:
    """A function of NumPy or SciPy with its options, as it was called."""

    function: Callable
    options: tuple[tuple[str, Any], ...] = ()

    def __call__(self, *arrays):
        """Its result for arrays, stack by stack; None where it fails."""
        options = dict(self.options)
        try:
            if arrays[0].ndim == 2 or self.function.__module__.startswith("numpy"):
                return self.function(*arrays, **options)
            stack = arrays[0].shape[:-2]
            found = [self.function(*(x[k] for x in arrays), **options) for k in np.ndindex(stack)]
        except (np.linalg.LinAlgError, ValueError):
            return None
        if not isinstance(found[0], tuple):
            return np.reshape(found, (*stack, *np.shape(found[0])))
        return tuple(
            np.reshape(parts, (*stack, *np.shape(parts[0]))) for parts in zip(*found, strict=True)
        )


def general(name, evaluate, infer, tangent, **fields) -> Primitive:
    return enter(Primitive(name, "general", evaluate, infer, tangent=tangent, **fields))


# LU, and solves by it.


def _lu(a):
    a = np.asarray(a)
    n = a.shape[-1]
    out = np.empty((*a.shape[:-2], n + 1, n), a.dtype)
    for k in np.ndindex(a.shape[:-2]) if n else ():
        factors, pivots, _ = _routine("getrf", a.dtype.char)(a[k])
        out[k][:n], out[k][n] = factors.T, pivots
    return out


def _by_columns(solve_one, factor, b, axis: int):
    """A stack of solves, each of the columns along an axis of b; stacks are the axes before it."""
    b, stack = np.asarray(b), factor.ndim - 2
    if axis == stack == 0:
        return solve_one(factor, b)
    order = (*range(axis - stack, axis + 1), *range(axis - stack), *range(axis + 1, b.ndim))
    turned = np.transpose(b, order)
    out = np.empty(turned.shape, b.dtype)
    for k in np.ndindex(factor.shape[:-2]):
        out[k] = solve_one(factor[k], turned[k])
    return np.transpose(out, np.argsort(order))


SMALL, MEDIUM = 1 << 10, 1 << 14
"""Elements of right sides that are solved one by one, and in parts of so few: for more elements LAPACK
wakes its threads, which takes up to 3e-2 s where other processes run."""


def _of_vectors(solve_some, b):
    """Solves for the vectors along the first axis of b: one, or a matrix of them."""
    if b.ndim == 1 or b.size == 0:
        return solve_some(b) if b.size else b
    columns = b.reshape(b.shape[0], -1)
    if b.size > MEDIUM:
        return solve_some(columns).reshape(b.shape)
    if b.size > SMALL:
        parts = np.array_split(columns, -(-b.size // SMALL), axis=1)
        return np.concatenate(list(map(solve_some, parts)), axis=1).reshape(b.shape)
    return np.stack([solve_some(column) for column in columns.T], axis=1).reshape(b.shape)


def _solved(factor, b, axis, transposed):
    n = factor.shape[-1]
    getrs = _routine("getrs", factor.dtype.char)

    def solve_one(packed, b):
        pivots = (packed[n].real if packed.dtype.kind == "c" else packed[n]).astype(np.intc)
        return _of_vectors(lambda some: getrs(packed[:n].T, pivots, some, int(transposed))[0], b)

    return _by_columns(solve_one, factor, b, axis)


def _along(matrix: Node, z: Node, axis: int, transposed: bool = False) -> Node:
    """Each matrix times the vectors along an axis of z; stacks are the axes before it."""
    letters = string.ascii_letters[: z.ndim]
    stack = letters[axis - matrix.ndim + 2 : axis]
    inner, new = letters[axis], string.ascii_letters[z.ndim]
    pair = inner + new if transposed else new + inner
    out = letters.replace(inner, new)
    return contract(matrix, z, subscripts=f"{stack}{pair},{letters}->{out}")


def _solve_rule(z_bar, z, factor, b, axis, transposed):
    found = solve(factor, conjugate(z_bar), axis=axis, transposed=not transposed)
    return None, conjugate(found)


def _solve_tangent(z, dots, factor, b, axis, transposed):
    moved = _along(rows(dots[0], 0, factor.shape[-1]), z, axis, transposed)
    return -solve(factor, moved, axis=axis, transposed=transposed)


def solve_by_lu(a: Node, b: Node) -> Node:
    """A^-1 b, for stacks of square matrices."""
    return solve(lu(a), b, axis=b.ndim - 2, transposed=False)


def _logdet(factor, checked=True):
    """log |det A| of real matrices, log det A of complex ones."""
    n = factor.shape[-1]
    diagonals = np.diagonal(factor[..., :n, :], axis1=-2, axis2=-1)
    if factor.dtype.kind != "c":
        return np.sum(np.log(np.abs(diagonals)), -1)
    swaps = np.sum(factor[..., n, :].real != np.arange(n), -1)
    return np.sum(np.log(diagonals), -1) + 1j * np.pi * (swaps % 2)


def _logdet_tangent(z, dots, factor, checked=True):
    """The trace of A^-1 A_dot; NaN, if it is checked, where A is singular to rounding."""
    n = factor.shape[-1]
    eye = broadcast(constant(z.pool, np.eye(n, dtype=z.dtype)), shape=(*factor.shape[:-2], n, n))
    inverse = solve(factor, eye, axis=factor.ndim - 2, transposed=False)
    terms = swapped(inverse) * rows(dots[0], 0, n)
    trace = sum_(terms, axes=(terms.ndim - 2, terms.ndim - 1))
    return trace * _one_or_nan(diagonal(rows(factor, 0, n))) if checked else trace


def _one_or_nan(pivots: Node) -> Node:
    """1 for a matrix that is regular to rounding, by the pivots of each; else NaN."""
    size = (
        absolute(real(pivots)) + absolute(imag(pivots)) if pivots.is_complex else absolute(pivots)
    )
    last = size.ndim - 1
    limit = size.shape[-1] * np.finfo(size.dtype).eps * sum_(size, axes=(last,))
    is_small = less_equal(size, reshape(limit, shape=(*limit.shape, 1)))
    return 1 + sum_(where(is_small, np.asarray(np.nan, size.dtype), 0), axes=(last,))


# Triangles.


def _triangular(a, b, axis, lower, transposed, unit):
    trtrs = _routine("trtrs", a.dtype.char)
    trsm = _routine("trsm", a.dtype.char, blas)

    def solve_one(a, b):
        return _of_vectors(lambda some: solve_some(a, some), b)

    def solve_some(a, b):
        if b.ndim == 2 and b.size <= SMALL and (unit or np.diagonal(a).all()):
            # BLAS gives the same bits on one thread; LAPACK wakes others for two columns.
            return trsm(1, a.T, b, lower=not lower, trans_a=not transposed, diag=unit)
        found, info = trtrs(a.T, b, lower=not lower, trans=0 if transposed else 1, unitdiag=unit)
        return np.full_like(b, np.nan) if info else found

    return _by_columns(solve_one, a, b, axis)


def _triangular_rule(z_bar, z, a, b, **params):
    params["transposed"] = not params["transposed"]
    return None, conjugate(triangular(a, conjugate(z_bar), **params))


def _triangular_tangent(z, dots, a, b, axis, lower, transposed, unit):
    moved = kept(dots[0], _triangle(a.shape[-1], lower, 0.0 if unit else 1.0))
    return -triangular(
        a,
        _along(moved, z, axis, transposed),
        axis=axis,
        lower=lower,
        transposed=transposed,
        unit=unit,
    )


def _cholesky(a, lower, by):
    a = np.asarray(a)
    found = by(a) if a.size else a
    return np.full(a.shape, np.nan, a.dtype) if found is None else found


def by_lower(lower: Node, x: Node) -> Node:
    """L^-1 x, for stacks of square matrices."""
    return triangular(lower, x, axis=x.ndim - 2, lower=True, transposed=False, unit=False)


def _cholesky_tangent(z, dots, a, lower, by):
    factor = z if lower else adjoint(z)
    half = by_lower(factor, hermitian(dots[0], lower))
    inner = by_lower(factor, adjoint(half))
    moved = product(factor, kept(inner, _triangle(z.shape[-1], True, 0.5)))
    return moved if lower else adjoint(moved)


# QR of matrices with at least as many rows as columns: Q above the transpose of R.


def _qr(a):
    a = np.asarray(a)
    n = a.shape[-1]
    q, r = np.linalg.qr(a) if a.size else (a, np.zeros((*a.shape[:-2], n, n), a.dtype))
    return np.concatenate([q, np.swapaxes(r, -1, -2)], axis=-2)


def _qr_tangent(z, dots, a):
    m, n = a.shape[-2:]
    q, r = rows(z, 0, m), swapped(rows(z, m, m + n))
    c = swapped(
        triangular(r, swapped(dots[0]), axis=z.ndim - 2, lower=False, transposed=True, unit=False)
    )
    inner = product(adjoint(q), c)
    low = kept(inner, _triangle(n, True, 0.0))
    turn = low - adjoint(low)
    if z.is_complex:
        turn = turn + 1j * cast(kept(imag(inner), identity(n)), dtype=z.dtype)
    change = inner - turn
    q_dot, r_dot = c - product(q, change), product(change, r)
    packed = concatenate(q_dot, swapped(r_dot), axis=z.ndim - 2)
    regular = _one_or_nan(diagonal(r))
    return packed * reshape(regular, shape=(*regular.shape, 1, 1))


def _square_shape(a, **params):
    return a.shape, a.dtype


# fmt: off
lu         = general("lu", _lu, lambda a: ((*a.shape[:-2], a.shape[-1] + 1, a.shape[-1]), a.dtype),
                      lambda z, dots, a: padded(dots[0], a.shape[-1] + 1), written_out=small.lu)
solve      = _linear("solve", _solved, lambda factor, b, axis, transposed: (b.shape, b.dtype), _solve_rule, tangent=_solve_tangent, linear=((1,),), written_out=small.solve, factor=0)
logdet     = general("logdet", _logdet, lambda factor, checked=True: (factor.shape[:-2], factor.dtype), _logdet_tangent, written_out=small.logdet, factor=0)
triangular = _linear("triangular", _triangular, lambda a, b, **params: (b.shape, b.dtype), _triangular_rule, tangent=_triangular_tangent, linear=((1,),), written_out=small.triangular)
cholesky   = general("cholesky", _cholesky, _square_shape, _cholesky_tangent, written_out=small.cholesky)
qr         = general("qr", _qr, lambda a: ((*a.shape[:-2], sum(a.shape[-2:]), a.shape[-1]), a.dtype), _qr_tangent)
# fmt: on
