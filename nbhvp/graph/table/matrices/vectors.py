"""Eigenvectors of Hermitian matrices and singular vectors.

A decomposition holds [V; w], or [U; V; w] of A = U w V^H with at least as many rows as columns; U may
be square then, and w has zeros for its further columns. Columns are f_j = v_j, or the pairs (u_j, v_j)
of the Hermitian matrix [0 A; A^H 0]. With S_j the inverse of w_j - A on the complement of f_j, and X
the tangent of A,

    v_j_dot = S_j X v_j,
    S_j_dot = S_j X S_j - w_j_dot S_j^2 - P_j_dot S_j - S_j P_j_dot,      P_j = v_j v_j^H,

where S_j belongs to w_j and v_j alone: whatever other eigenvalues are equal, a simple one has
derivatives of every order. Of equal ones (to sqrt(eps) of the largest) the vectors have none: NaN, in
their own columns. Columns of zeros stay zero, so that vectors which nobody uses do no harm.

LAPACK makes one component of each complex vector real, which stays real: the first one that is, from
above or from below. Where none is, the phase has no derivative.
"""

from __future__ import annotations

import numpy as np

from nbhvp.graph.definitions import BOOL
from nbhvp.graph.node import Node
from nbhvp.graph.primitives import (
    Primitive,
    _discrete,
    _linear,
    absolute,
    complex_,
    concatenate,
    conjugate,
    enter,
    imag,
    less_equal,
    maximum,
    not_equal,
    real,
    reshape,
    slice_,
    sum_,
    where,
    zeros,
)
from nbhvp.graph.table.matrices.linalg import adjoint, general, product, rows

__all__ = [
    "both",
    "column",
    "extents",
    "first_columns",
    "frame",
    "inner",
    "is_close",
    "is_one_sided",
    "is_tiny",
    "largest",
    "lifted",
    "matrix_of",
    "parts",
    "phases",
    "poisoned",
    "row",
    "sum_of_rows",
    "tied",
    "turned",
    "vectors",
]


# What a decomposition holds.


def is_one_sided(packed) -> bool:
    """Whether it is one of eigenvectors, [V; w]."""
    return packed.shape[-2] == packed.shape[-1] + 1


def extents(packed) -> tuple[int, int]:
    """The extents of the left and of the right vectors."""
    count, columns = packed.shape[-2:]
    if is_one_sided(packed):
        return columns, columns
    other = count - 1 - columns
    return max(other, columns), min(other, columns)


def parts(packed) -> tuple[slice, ...]:
    """The rows of the vectors: those of the one side, or of the left and the right one."""
    m, n = extents(packed)
    return (slice(0, m),) if is_one_sided(packed) else (slice(0, m), slice(m, m + n))


def first_columns(x: Node, count: int) -> Node:
    """Some columns of each matrix."""
    if count == x.shape[-1]:
        return x
    size = (*x.shape[:-1], count)
    return slice_(x, start=(0,) * x.ndim, step=(1,) * x.ndim, size=size)


def matrix_of(packed: Node, dot: Node) -> Node:
    """The tangent of the matrix itself, from that of its decomposition."""
    m, n = extents(packed)
    return first_columns(rows(dot, 0, m), n)


def both(packed: Node) -> tuple[Node, Node]:
    """The left and right vectors that have a value."""
    left = vectors(packed, left=True)
    if is_one_sided(packed):
        return left, left
    return first_columns(left, extents(packed)[1]), vectors(packed, left=False)


def row(x: Node) -> Node:
    """Vectors as matrices of one row."""
    return reshape(x, shape=(*x.shape[:-1], 1, x.shape[-1]))


def column(x: Node) -> Node:
    """Vectors as matrices of one column."""
    return reshape(x, shape=(*x.shape, 1))


def largest(w: Node) -> Node:
    """The largest absolute value, with an axis of extent 1: the first or the last, by their order."""
    corner, one = (0,) * (w.ndim - 1), (1,) * w.ndim
    size = (*w.shape[:-1], 1)
    ends = (slice_(w, start=(*corner, k), step=one, size=size) for k in (0, w.shape[-1] - 1))
    return maximum(*map(absolute, ends))


def is_tiny(x: Node, w: Node) -> Node:
    """Whether the numbers of a matrix are as good as zero beside the values w."""
    return less_equal(absolute(x), column(largest(w)) * float(np.finfo(w.dtype).eps) ** 0.5)


# Columns. `x` is the tangent of the matrix, or any matrix of its shape.


def lifted(packed: Node, x: Node, columns: Node) -> Node:
    """x times columns; for pairs of vectors, [0 x; x^H 0] times them."""
    if is_one_sided(packed):
        return product(x, columns)
    left, right = (rows(columns, part.start, part.stop) for part in parts(packed))
    return concatenate(product(x, right), product(adjoint(x), left), axis=columns.ndim - 2)


def sum_of_rows(x: Node) -> Node:
    """The sum of each column, as a row."""
    return row(sum_(x, axes=(x.ndim - 2,)))


def inner(packed: Node, x: Node, y: Node) -> list[Node]:
    """x_j^H y_j of columns, one row for each side."""
    terms = conjugate(x) * y
    return [sum_of_rows(rows(terms, part.start, part.stop)) for part in parts(packed)]


def _scaled(packed: Node, columns: Node, factors: list[Node]) -> Node:
    """Columns times the factors in a row, one row for each side."""
    pieces = [
        rows(columns, part.start, part.stop) * factor
        for part, factor in zip(parts(packed), factors, strict=True)
    ]
    return pieces[0] if len(pieces) == 1 else concatenate(*pieces, axis=columns.ndim - 2)


def turned(packed: Node, x: Node, strict: bool, upward: bool = False) -> Node:
    """The tangents of all columns; `strict` as in `resolvent`."""
    f = frame(packed, upward=upward)
    moved = lifted(packed, x, f)
    dot = resolvent(packed, moved, strict=strict)
    if not packed.is_complex:
        return dot
    loose = resolvent(packed, moved, strict=False)
    if not is_one_sided(packed):
        w = levels(packed)
        is_zero = is_tiny(row(w), w)
        turn = imag(inner(packed, f, moved)[0]) / where(is_zero, 1, row(w))
        turn = _unless(is_zero, turn, strict)
        left, right = (rows(f, part.start, part.stop) for part in parts(packed))
        still = zeros(f.pool, right.shape, f.dtype)
        apart = concatenate(left * complex_(0, turn), still, axis=f.ndim - 2)
        dot, loose = dot + apart, loose + apart
    turn = phases(real_components(packed, upward=upward), f, loose, strict)
    return dot - f * complex_(0, turn)


def phases(mask: Node, f: Node, dot: Node, strict: bool) -> Node:
    """How fast columns turn in the complex plane, but for the components that a mask keeps real."""
    is_free = not_equal(sum_of_rows(where(mask, 1.0, 0.0)), 1)
    size = where(is_free, 1, sum_of_rows(where(mask, real(f), 0)))
    return _unless(is_free, sum_of_rows(where(mask, imag(dot), 0)) / size, strict)


def _unless(places: Node, x: Node, strict: bool) -> Node:
    """x, but where it is not defined NaN, or 0 if that does no harm."""
    return poisoned(x, places) if strict else where(places, 0, x)


# Tangents.


def _vectors_tangent(z, dots, packed, left, upward=False):
    part = parts(packed)[0 if left else -1]
    found = turned(packed, matrix_of(packed, dots[0]), True, upward)
    return first_columns(rows(found, part.start, part.stop), z.shape[-1])


def _levels_tangent(z, dots, packed):
    f = frame(packed, upward=False)
    moved = lifted(packed, matrix_of(packed, dots[0]), f)
    return reshape(real(inner(packed, f, moved)[0]), shape=z.shape)


def _frame_tangent(z, dots, packed, upward):
    return turned(packed, matrix_of(packed, dots[0]), False, upward)


def resolvent(packed: Node, b: Node, strict: bool) -> Node:
    """S_j b_j; among equal values S_j is 1, or NaN if it is strict."""
    return resolved(packed, gaps(packed), b, strict=strict)


def _resolvent_rule(z_bar, z, packed, weights, b, strict):
    return None, None, resolved(packed, weights, z_bar, strict=strict)


def _resolvent_tangent(z, dots, packed, weights, b, strict):
    # Finite numbers in the columns of equal values, which get their NaN at last.
    z = resolvent(packed, b, strict=False) if strict else z
    x, f = matrix_of(packed, dots[0]), frame(packed, upward=False)
    moved = lifted(packed, x, f)
    turn = resolvent(packed, moved, strict=False)
    w_dot = real(inner(packed, f, moved)[0])
    mixed = _scaled(packed, turn, inner(packed, f, b))
    within = resolvent(packed, lifted(packed, x, z) - z * w_dot - mixed, strict=strict)
    return within - _scaled(packed, f, inner(packed, turn, z))


# Values.


def _vectors(packed, left, upward=False):
    if left:
        return packed[..., parts(packed)[0], :]
    return packed[..., parts(packed)[-1], : extents(packed)[1]]


def _limit(w):
    return np.finfo(w.dtype).eps ** 0.5 * np.abs(w).max(-1, keepdims=True, initial=0)


def is_close(w):
    """Which pairs of different columns have equal values."""
    close = np.abs(w[..., None] - w[..., None, :]) <= _limit(w)[..., None]
    return close & ~np.eye(w.shape[-1], dtype=bool)


def _tied(packed):
    """Which values have no second derivative of their own."""
    w, (m, n) = packed[..., -1, :].real, extents(packed)
    is_short = (np.abs(w) <= _limit(w)) & (m > n)
    return (is_close(w).any(-1) | is_short)[..., :n]


def _real_components(packed, upward):
    """The component of each vector (of the right one of two) that LAPACK makes real; all if none is."""
    part = parts(packed)[-1]
    out = np.zeros((*packed.shape[:-2], packed.shape[-2] - 1, packed.shape[-1]), bool)
    f = packed[..., part, :][..., :: -1 if upward else 1, :]
    noise = 1e4 * np.finfo(f.real.dtype).eps
    is_real = (np.abs(f.imag) <= noise) & (np.abs(f.real) > noise)
    first = is_real & (np.cumsum(is_real, -2) == 1)
    out[..., part, :] = first[..., :: -1 if upward else 1, :]
    return out | ~is_real.any(-2, keepdims=True)


def _gaps(packed):
    """The weights in S_j, among equal values NaN.

    Of pairs of vectors five: what left ones get from left and right ones, what right ones get from
    right and left ones, and (in a first row) what left ones get from the complement of all.
    """
    w, (m, n) = packed[..., -1, :].real, extents(packed)
    here, there, close = w[..., None, :], w[..., None], is_close(w)
    on = np.eye(w.shape[-1], dtype=bool)
    if is_one_sided(packed):
        return np.where(on, 0, np.where(close, np.nan, 1 / np.where(close | on, 1, here - there)))
    apart = 1 / np.where(close | on, 1, (here - there) * (here + there))
    further = close & (np.arange(w.shape[-1])[:, None] >= n)  # no right vector is there
    pair = [np.where(on, 0, np.where(close, np.nan, z * apart)) for z in (here, there)]
    is_zero = np.abs(here) <= _limit(w)[..., None]
    rest = (
        np.where(is_zero, np.nan, 1 / np.where(is_zero, 1, here)) if m > w.shape[-1] else 0 * here
    )
    right = [np.where(further, 0, z) for z in pair]
    return np.stack([*pair, *right, np.broadcast_to(rest, close.shape)], -3).astype(w.dtype)


def _of_used(packed, gaps, b):
    """Weights without the NaN of columns that are zero, or of what only their left part needs."""
    used = b.any(-2, keepdims=True)
    if is_one_sided(packed):
        return np.where(used, gaps, np.nan_to_num(gaps))
    m, n = extents(packed)
    of_left = b[..., :m, :].any(-2, keepdims=True)
    beyond = np.arange(gaps.shape[-1])[:, None] >= n
    needed = np.stack(
        [used & (of_left | ~beyond)] * 2 + [used & ~beyond] * 2 + [of_left & (beyond | ~beyond)], -3
    )
    return np.where(needed, gaps, np.nan_to_num(gaps))


def _resolvent(packed, weights, b, strict):
    """S_j b_j."""
    b = np.asarray(b)
    if np.isnan(weights).any():
        weights = _of_used(packed, weights, b) if strict else np.nan_to_num(weights, nan=1.0)
    if is_one_sided(packed):
        f = packed[..., :-1, :]
        return f @ (weights * (np.swapaxes(f.conj(), -1, -2) @ b))
    (u, x), (v, y) = ((packed[..., part, :], b[..., part, :]) for part in parts(packed))
    left, right = (np.swapaxes(f.conj(), -1, -2) @ c for f, c in ((u, x), (v, y)))
    g = np.moveaxis(weights, -3, 0)
    found = u @ (g[0] * left + g[1] * right)
    if u.shape[-2] > u.shape[-1]:
        found = found + (x - u @ left) * g[4][..., :1, :]
    return np.concatenate([found, v @ (g[3] * left + g[2] * right)], -2)


def _gaps_shape(packed):
    n, sides = packed.shape[-1], () if is_one_sided(packed) else (5,)
    return (*packed.shape[:-2], *sides, n, n), np.empty(0, packed.dtype).real.dtype


def _vectors_shape(packed, left, upward=False):
    m, n = extents(packed)
    shape = (m, packed.shape[-1]) if left else (n, n)
    return (*packed.shape[:-2], *shape), packed.dtype


def _levels_shape(packed):
    return (*packed.shape[:-2], packed.shape[-1]), np.empty(0, packed.dtype).real.dtype


def _frame_shape(packed, **params):
    return (*packed.shape[:-2], packed.shape[-2] - 1, packed.shape[-1]), packed.dtype


# fmt: off
vectors   = general("vectors", _vectors, _vectors_shape, _vectors_tangent)
frame     = general("frame", lambda packed, upward: packed[..., :-1, :], _frame_shape, _frame_tangent)
levels    = general("levels", lambda packed: packed[..., -1, :].real, _levels_shape, _levels_tangent)
gaps      = enter(Primitive("gaps", "state", _gaps, _gaps_shape))
resolved  = _linear("resolved", _resolvent, lambda packed, weights, b, strict: (b.shape, b.dtype), _resolvent_rule, tangent=_resolvent_tangent,
                    linear=((2,),), batches=False)
poisoned  = _linear("poisoned", lambda x, places: np.where(places & (x != 0), np.asarray(np.nan, x.dtype), x), lambda x, places: (x.shape, x.dtype),
                    lambda z_bar, z, x, places: (poisoned(z_bar, places), None), batches=False)
tied      = _discrete("tied", _tied, lambda packed: ((*packed.shape[:-2], extents(packed)[1]), BOOL))
real_components = _discrete("real_components", _real_components, lambda packed, upward: (_frame_shape(packed)[0], BOOL))
# fmt: on
