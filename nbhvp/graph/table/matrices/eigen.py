"""Eigenvalues and eigenvectors of matrices that are not Hermitian, where they are simple.

A decomposition holds [V; W; w], complex, with A V = V w and W^H V = 1; it stands for its matrix. With
S_j the inverse of w_j - A on the complement of v_j, and X the tangent of A,

    w_j_dot = w_j^H X v_j,        v_j_dot = S_j X v_j + c_j v_j,
    S_j_dot = S_j X S_j - w_j_dot S_j^2 - P_j X S_j^2 - S_j^2 X P_j,      P_j = v_j w_j^H,

as in `vectors`, where P_j is oblique here. LAPACK's vectors have norm 1, and their largest component is
real: that makes c_j. Eigenvalues that are equal (to sqrt(eps) of the largest) have NaN.
"""

from __future__ import annotations

import numpy as np

from nbhvp.graph.definitions import BOOL
from nbhvp.graph.node import Node
from nbhvp.graph.primitives import (
    Primitive,
    _discrete,
    _linear,
    cast,
    complex_,
    conjugate,
    enter,
    real,
    reshape,
)
from nbhvp.graph.table.matrices.linalg import adjoint, general, padded, product, rows
from nbhvp.graph.table.matrices.vectors import is_close, phases, poisoned, sum_of_rows

__all__ = ["eig", "eigenvalues", "eigenvectors"]


# The decomposition.


def _eig(a, by, is_left=False, values_by=None):
    """Of a; if left vectors were asked for, those of the adjoint that they belong to.

    LAPACK may find eigenvalues alone in another order: theirs, if `values_by` gives them.
    """
    a = np.asarray(a)
    n, dtype = a.shape[-1], np.result_type(a.dtype, np.complex64)
    out = np.full((*a.shape[:-2], 2 * n + 1, n), np.nan, dtype)
    found = by(np.swapaxes(a.conj(), -1, -2) if is_left else a) if n else None
    if found is not None:
        w, v = found
        if values_by is not None:
            w, v = _in_order(values_by(a), w, v)
        out[..., :n, :], out[..., -1, :] = v, np.conj(w) if is_left else w
        try:
            out[..., n:-1, :] = np.swapaxes(np.linalg.inv(v).conj(), -1, -2)
        except np.linalg.LinAlgError:
            out[..., n:-1, :] = np.nan
    return out


def _in_order(wanted, w, v):
    """Vectors in the order of other values of the same eigenvalues, as near as they come."""
    gaps = np.abs(wanted[..., :, None] - w[..., None, :])
    order = np.argmin(gaps, -1)
    if (np.sort(order, -1) != np.arange(w.shape[-1])).any():  # equal ones, in any order
        return w, v
    return wanted, np.take_along_axis(v, order[..., None, :], -1)


def _sides(packed) -> tuple[slice, slice]:
    """The rows of the right and of the left vectors."""
    n = packed.shape[-1]
    return slice(0, n), slice(n, 2 * n)


# Their tangents, as nodes. `x` is the tangent of the matrix.


def _matrix(packed: Node, dot: Node) -> Node:
    return rows(dot, 0, packed.shape[-1])


def _inner(x: Node, y: Node) -> Node:
    """x_j^H y_j of columns, as a row."""
    return sum_of_rows(conjugate(x) * y)


def _scale(packed: Node, dot: Node, strict: bool) -> Node:
    """c_j as a row, from what is left of the tangents of right vectors."""
    v = sides(packed, left=False)
    turn = phases(largest_components(packed), v, dot, strict)
    return -complex_(real(_inner(v, dot)), turn)


def _eigenvalues_tangent(z, dots, packed):
    x = _matrix(packed, dots[0])
    found = _inner(sides(packed, left=True), product(x, sides(packed, left=False)))
    return poisoned(reshape(found, shape=z.shape), repeated(packed))


def _eigenvectors_tangent(z, dots, packed):
    v = sides(packed, left=False)
    moved = product(_matrix(packed, dots[0]), v)
    loose = oblique(packed, moved, strict=False, left=False)
    dot = oblique(packed, moved, strict=True, left=False)
    return dot + v * _scale(packed, loose, True)


def _sides_tangent(z, dots, packed, left):
    x, v = _matrix(packed, dots[0]), sides(packed, left=False)
    dot = oblique(packed, product(x, v), strict=False, left=False)
    scale = _scale(packed, dot, False)
    if not left:
        return dot + z * scale
    return oblique(packed, product(adjoint(x), z), strict=False, left=True) - z * conjugate(scale)


def oblique(packed: Node, b: Node, strict: bool, left: bool) -> Node:
    """S_j b_j, or S_j^H b_j; among equal values S_j is 1, or NaN if it is strict."""
    return spread(packed, spreads(packed), b, strict=strict, left=left)


def _oblique_rule(z_bar, z, packed, weights, b, strict, left):
    return None, None, spread(packed, weights, z_bar, strict=strict, left=not left)


def _oblique_tangent(z, dots, packed, weights, b, strict, left):
    # Finite numbers in the columns of equal values, which get their NaN at last.
    z = oblique(packed, b, strict=False, left=left) if strict else z
    x = _matrix(packed, dots[0])
    x = adjoint(x) if left else x
    v, w = sides(packed, left=left), sides(packed, left=not left)
    turn = oblique(packed, product(x, v), strict=False, left=left)
    other = oblique(packed, product(adjoint(x), w), strict=False, left=not left)
    inside = product(x, z) - z * _inner(w, product(x, v)) - turn * _inner(w, b)
    return oblique(packed, inside, strict=strict, left=left) - v * _inner(other, z)


# Values.


def _spreads(packed):
    """The weights in S_j, among equal values NaN."""
    w = packed[..., -1, :]
    close, on = is_close(w), np.eye(w.shape[-1], dtype=bool)
    apart = 1 / np.where(close | on, 1, w[..., None, :] - w[..., None])
    return np.where(on, 0, np.where(close, np.nan, apart))


def _oblique(packed, weights, b, strict, left):
    b = np.asarray(b)
    if np.isnan(weights).any():
        is_nan = b.any(-2, keepdims=True) if strict else False
        weights = np.where(is_nan, weights, np.nan_to_num(weights, nan=1.0))
    weights = weights.conj() if left else weights
    v, u = (packed[..., side, :] for side in _sides(packed)[:: -1 if left else 1])
    return v @ (weights * (np.swapaxes(u.conj(), -1, -2) @ b))


def _largest_components(packed):
    """The largest component of each right vector, if it is real; else all."""
    v = packed[..., _sides(packed)[0], :]
    size = np.abs(v)
    is_large = size >= (1 - 1e-6) * size.max(-2, keepdims=True, initial=0)
    is_real = is_large & (np.abs(v.imag) <= 1e4 * np.finfo(v.real.dtype).eps)
    first = is_real & (np.cumsum(is_real, -2) == 1)
    return first | ~is_real.any(-2, keepdims=True)


def _square(packed, **params):
    n = packed.shape[-1]
    return (*packed.shape[:-2], n, n), packed.dtype


def _packed_shape(a, **params):
    n = a.shape[-1]
    return (*a.shape[:-2], 2 * n + 1, n), np.result_type(a.dtype, np.complex64)


# fmt: off
eig          = general("eig", _eig, _packed_shape, lambda z, dots, a, **params: padded(cast(dots[0], dtype=z.dtype), z.shape[-2]))
eigenvalues  = general("eigenvalues", lambda packed: packed[..., -1, :], lambda packed: (_square(packed)[0][:-1], packed.dtype), _eigenvalues_tangent)
eigenvectors = general("eigenvectors", lambda packed: packed[..., _sides(packed)[0], :], _square, _eigenvectors_tangent)
sides        = general("sides", lambda packed, left: packed[..., _sides(packed)[int(left)], :], _square, _sides_tangent)
spreads      = enter(Primitive("spreads", "state", _spreads, _square))
spread       = _linear("spread", _oblique, lambda packed, weights, b, **params: (b.shape, b.dtype), _oblique_rule, tangent=_oblique_tangent, linear=((2,),), batches=False)
largest_components = _discrete("largest_components", _largest_components, lambda packed: (_square(packed)[0], BOOL))
repeated     = _discrete("repeated", lambda packed: is_close(packed[..., -1, :]).any(-1), lambda packed: (_square(packed)[0][:-1], BOOL))
# fmt: on
