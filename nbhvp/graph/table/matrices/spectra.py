"""Eigenvalues of Hermitian matrices, singular values, and functions of them.

    A = V w V^H,    B = V^H A_dot V:   w_dot = diag B,    V_dot = V (B / (w_j - w_i))  off the diagonal.

A decomposition is computed once per point, by the function that was called; like the factors of
`linalg` it stands for its matrix, and its tangent is that of the matrix. It holds [V; w], or
[U; V; w] of A = U w V^H with at least as many rows as columns. What functions see of it are its parts.

**Repeated eigenvalues.** The gradient of a function phi(w) is `spectral`, V diag(c) V^H with c the
gradient of phi, and the derivative of that needs B_ij (c_i - c_j) / (w_i - w_j). Where w_i = w_j this
is 0/0, and has a limit if phi takes equal eigenvalues alike, as a sum over all of them does. By
l'Hopital's rule along a splitting w + e p, with all p_i different,

    (c_i - c_j) / (w_i - w_j) -> (c_i' - c_j') / (p_i - p_j),        c' the tangent of c along p,

which the graph of c gives. Where c_i and c_j themselves differ, phi is not smooth: the result is
NaN. Eigenvalues are taken as equal if they differ by less than sqrt(eps) of the largest.
"""

from __future__ import annotations

import math

import numpy as np

from nbhvp.graph import derive
from nbhvp.graph.node import Node
from nbhvp.graph.primitives import (
    _linear,
    absolute,
    broadcast,
    concatenate,
    constant,
    equal,
    greater,
    real,
    reshape,
    where,
    zeros,
)
from nbhvp.graph.table.matrices.linalg import (
    Routine,
    adjoint,
    by_lower,
    cholesky,
    diagonal,
    general,
    hermitian,
    padded,
    product,
)
from nbhvp.graph.table.matrices.vectors import (
    both,
    column,
    extents,
    first_columns,
    frame,
    inner,
    is_one_sided,
    is_tiny,
    largest,
    lifted,
    matrix_of,
    parts,
    poisoned,
    row,
    tied,
    turned,
    vectors,
)

__all__ = ["eigh", "rayleigh", "spectral", "svd", "values", "vectors"]


# The decompositions.


def _eigh(a, *b, lower, by, subset=None):
    """[V; w]; beside a matrix B = L L^H the vectors are those of L^-1 A L^-H."""
    a = np.asarray(a)
    out = np.full((*a.shape[:-2], a.shape[-1] + 1, a.shape[-1]), np.nan, a.dtype)
    found = by(a, *b) if a.size else None
    if found is not None and subset is not None:
        found = _as_in_subset(found, by, subset, a, *b)
    if found is not None:
        w, v = found
        if b:
            upper = np.linalg.cholesky(b[0], upper=not lower)
            v = (_adjoint(upper) if lower else upper) @ v
        out[..., :-1, :], out[..., -1, :] = v, w
    return out


def _as_in_subset(found, by, subset, *arrays):
    """All eigenvectors; those of a subset as LAPACK gives them if asked for these alone."""
    w, v = found
    some = Routine(by.function, (*by.options, ("subset_by_index", subset)))(*arrays)
    if some is None:
        return None
    w, v, chosen = w.copy(), v.copy(), slice(subset[0], subset[1] + 1)
    gaps = np.abs(w[..., chosen, None] - w[..., None, :])
    alone = np.sum(gaps <= np.finfo(w.dtype).eps ** 0.5 * np.abs(w).max(initial=0), -1) == 1
    v[..., chosen] = np.where(alone[..., None, :], some[1], v[..., chosen])
    w[..., chosen] = some[0]
    return w, v


def _svd(a, by, is_wide, full=False):
    """[U; V; w] of a, or of a wide matrix whose adjoint it is."""
    a = np.asarray(a)
    m, n = a.shape[-2:]
    out = np.zeros((*a.shape[:-2], m + n + 1, m if full else n), a.dtype)
    found = by(_adjoint(a) if is_wide else a) if a.size else None
    if found is None:
        out[...] = np.nan
        return out
    u, s, vh = found
    u, v = (_adjoint(vh), u) if is_wide else (u, _adjoint(vh))
    out[..., :m, :], out[..., m:-1, :n], out[..., -1, :n] = u, v, s
    return out


def _adjoint(x):
    return np.swapaxes(x.conj(), -1, -2)


# Functions of values.


def _probe(w: Node) -> Node:
    """The splitting p: 1, 2, 3, ..."""
    values = constant(w.pool, np.arange(1.0, w.shape[-1] + 1), w.dtype)
    return broadcast(values, shape=w.shape)


def _quotients(c: Node, w: Node, sign: int) -> Node:
    """(c_i + sign c_j) / (w_i + sign w_j), and limits of what is 0/0: 0 on the diagonal for -1.

    A limit must explain what is left of c_i + sign c_j at a w that is not quite split.
    """
    split = _probe(w)
    slope = derive.jvp([c], [w], [split])[0]
    above, below, slope, split = (column(x) + sign * row(x) for x in (c, w, slope, split))
    limit = slope / where(equal(split, 0), 1, split)
    noise = absolute(column(c)) + absolute(row(c)) + absolute(limit) * column(largest(w))
    unexplained = absolute(above - limit * below)
    is_unlike = greater(unexplained, float(np.finfo(w.dtype).eps) ** 0.7 * noise)
    is_split = is_tiny(below, w)
    limit = where(is_unlike, math.nan, limit)
    return where(is_split, limit, above / where(is_split, 1, below))


# Tangents. `dot` is that of a decomposition.


def _eigh_tangent(z, dots, a, *b, lower, by, subset=None):
    """That of the matrix; beside a matrix B, of L^-1 A L^-H."""
    if not b:
        return padded(hermitian(dots[0], lower), z.shape[-2])
    dot = derive.jvp_of(lambda a, b: _reduced(a, b, lower), [a, *b], dots)
    return padded(0.5 * (dot + adjoint(dot)), z.shape[-2])


def _reduced(a: Node, b: Node, lower: bool) -> Node:
    """L^-1 A L^-H."""
    numpy = Routine(np.linalg.cholesky, (("upper", not lower),))
    factor = cholesky(b, lower=lower, by=numpy)
    factor = factor if lower else adjoint(factor)
    return by_lower(factor, adjoint(by_lower(factor, hermitian(a, lower))))


def _svd_tangent(z, dots, a, by, is_wide, full=False):
    (dot,) = dots
    if z.shape[-1] > a.shape[-1]:
        further = (*a.shape[:-1], z.shape[-1] - a.shape[-1])
        dot = concatenate(dot, zeros(z.pool, further, z.dtype), axis=z.ndim - 1)
    return padded(dot, z.shape[-2])


def _values_tangent(z, dots, packed):
    return rayleigh(packed, matrix_of(packed, dots[0]))


def _rayleigh_tangent(z, dots, packed, x):
    x = x + adjoint(x) if is_one_sided(packed) else x
    moved = lifted(packed, x, frame(packed, upward=False))
    first, *second = inner(packed, turned(packed, matrix_of(packed, dots[0]), False), moved)
    total = first + second[0] if second else first
    total = reshape(real(first_columns(total, z.shape[-1])), shape=z.shape)
    return poisoned(total, tied(packed))


def _spectral_tangent(z, dots, packed, c):
    (u, v), w, x = both(packed), values(packed), matrix_of(packed, dots[0])
    moved = product(x, v)
    across = product(adjoint(u), moved)
    if is_one_sided(packed):
        return product(u, _quotients(c, w, -1) * across, adjoint(v))
    sums = _quotients(c, w, 1)
    even, odd = 0.5 * (across + adjoint(across)), 0.5 * (across - adjoint(across))
    left = product(u, _quotients(c, w, -1) * even + sums * odd)
    if u.shape[-2] > u.shape[-1]:
        left = left + (moved - product(u, across)) * row(diagonal(sums))
    return product(left, adjoint(v))


# Values.


def _vectors(packed):
    left, right = parts(packed)[0], parts(packed)[-1]
    n = extents(packed)[1]
    return packed[..., left, :n], packed[..., right, :n]


def _rayleigh(packed, x):
    u, v = _vectors(packed)
    return np.sum(u.conj() * (x @ v), axis=-2).real


def _spectral(packed, c):
    u, v = _vectors(packed)
    return (u * np.asarray(c)[..., None, :]) @ np.swapaxes(v.conj(), -1, -2)


def _values_shape(packed, *rest):
    return (*packed.shape[:-2], extents(packed)[1]), np.empty(0, packed.dtype).real.dtype


def _matrix_shape(packed, c):
    return (*packed.shape[:-2], *extents(packed)), packed.dtype


# fmt: off
eigh     = general("eigh", _eigh, lambda a, *b, **params: ((*a.shape[:-2], a.shape[-1] + 1, a.shape[-1]), a.dtype), _eigh_tangent)
svd      = general("svd", _svd, lambda a, by, is_wide, full=False: ((*a.shape[:-2], sum(a.shape[-2:]) + 1, a.shape[-2 if full else -1]), a.dtype), _svd_tangent)
values   = general("values", lambda packed: packed[..., -1, : extents(packed)[1]].real, _values_shape, _values_tangent)
rayleigh = _linear("rayleigh", _rayleigh, _values_shape, lambda z_bar, z, packed, x: (None, spectral(packed, z_bar)),
                   tangent=_rayleigh_tangent, linear=((1,),), batches=False)
spectral = _linear("spectral", _spectral, _matrix_shape, lambda z_bar, z, packed, c: (None, rayleigh(packed, z_bar)),
                   tangent=_spectral_tangent, linear=((1,),), batches=False)
# fmt: on
