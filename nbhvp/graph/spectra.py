"""Eigenvalues of Hermitian matrices, singular values, and functions of them.

    A = V w V^H,    B = V^H A_dot V:   w_dot = diag B,    V_dot = V (B / (w_j - w_i))  off the diagonal.

A decomposition is computed once per point; like the factors of `linalg` it stands for its matrix,
and its tangent is that of the matrix. It holds [V; w], or [U; V; w] of A = U w V^H with at least as
many rows as columns. What functions see of it are its parts.

**Repeated eigenvalues.** The gradient of a function phi(w) is `spectral`, V diag(c) V^H with c the
gradient of phi, and the derivative of that needs B_ij (c_i - c_j) / (w_i - w_j). Where w_i = w_j this
is 0/0, and has a limit if phi takes equal eigenvalues alike, as a sum over all of them does. By
l'Hopital's rule along a splitting w + e p, with all p_i different,

    (c_i - c_j) / (w_i - w_j) -> (c_i' - c_j') / (p_i - p_j),        c' the tangent of c along p,

which the graph of c gives. Where c_i and c_j themselves differ, phi is not smooth: the result is
NaN. So are derivatives of eigenvectors that belong to equal eigenvalues. Eigenvalues are taken as
equal if they differ by less than sqrt(eps) of the largest.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from nbhvp.graph import derive
from nbhvp.graph.linalg import (
    adjoint,
    diagonal,
    general,
    hermitian,
    identity,
    kept,
    padded,
    product,
    rows,
)
from nbhvp.graph.node import Node
from nbhvp.graph.primitives import (
    _linear,
    absolute,
    broadcast,
    complex_,
    conjugate,
    constant,
    equal,
    greater,
    imag,
    less_equal,
    maximum,
    real,
    reshape,
    slice_,
    sum_,
    where,
)

__all__ = ["eigh", "rayleigh", "spectral", "svd", "values", "vectors"]


# The decompositions.


def _eigh(a, lower):
    a = np.asarray(a)
    out = np.empty((*a.shape[:-2], a.shape[-1] + 1, a.shape[-1]), a.dtype)
    try:
        w, v = np.linalg.eigh(a, "L" if lower else "U")
    except np.linalg.LinAlgError:
        out[...] = np.nan
    else:
        out[..., :-1, :], out[..., -1, :] = v, w
    return out


def _svd(a):
    a = np.asarray(a)
    m, n = a.shape[-2:]
    out = np.empty((*a.shape[:-2], m + n + 1, n), a.dtype)
    try:
        u, s, vh = np.linalg.svd(a, full_matrices=False)
    except np.linalg.LinAlgError:
        out[...] = np.nan
    else:
        out[..., :m, :], out[..., m:-1, :] = u, np.swapaxes(vh.conj(), -1, -2)
        out[..., -1, :] = s
    return out


def _is_one_sided(packed) -> bool:
    return packed.shape[-2] == packed.shape[-1] + 1


def _parts(packed) -> tuple[slice, slice]:
    """The rows of the left and of the right vectors."""
    count, n = packed.shape[-2:]
    if _is_one_sided(packed):
        return slice(0, n), slice(0, n)
    return slice(0, count - 1 - n), slice(count - 1 - n, count - 1)


# Their parts, as nodes.


def _both(packed: Node) -> tuple[Node, Node]:
    """Left and right vectors."""
    if _is_one_sided(packed):
        one = vectors(packed, left=True)
        return one, one
    return vectors(packed, left=True), vectors(packed, left=False)


def _matrix(packed: Node, dot: Node) -> Node:
    """The tangent of the matrix itself, from that of its decomposition."""
    left, _ = _parts(packed)
    return rows(dot, left.start, left.stop)


def _row(x: Node) -> Node:
    return reshape(x, shape=(*x.shape[:-1], 1, x.shape[-1]))


def _column(x: Node) -> Node:
    return reshape(x, shape=(*x.shape, 1))


def _largest(w: Node) -> Node:
    """The largest absolute value, with an axis of extent 1: the first or the last, by their order."""
    corner, one = (0,) * (w.ndim - 1), (1,) * w.ndim
    size = (*w.shape[:-1], 1)
    ends = (slice_(w, start=(*corner, k), step=one, size=size) for k in (0, w.shape[-1] - 1))
    return maximum(*map(absolute, ends))


def _probe(w: Node) -> Node:
    """The splitting p: 1, 2, 3, ..."""
    values = constant(w.pool, np.arange(1.0, w.shape[-1] + 1), w.dtype)
    return broadcast(values, shape=w.shape)


def _is_tiny(x: Node, w: Node) -> Node:
    """Whether the numbers of a matrix are as good as zero beside the values w."""
    return less_equal(absolute(x), _column(_largest(w)) * float(np.finfo(w.dtype).eps) ** 0.5)


def _quotients(c: Node, w: Node, sign: int) -> Node:
    """(c_i + sign c_j) / (w_i + sign w_j), and limits of what is 0/0: 0 on the diagonal for -1.

    A limit must explain what is left of c_i + sign c_j at a w that is not quite split.
    """
    split = _probe(w)
    slope = derive.jvp([c], [w], [split])[0]
    above, below, slope, split = (_column(x) + sign * _row(x) for x in (c, w, slope, split))
    limit = slope / where(equal(split, 0), 1, split)
    noise = absolute(_column(c)) + absolute(_row(c)) + absolute(limit) * _column(_largest(w))
    unexplained = absolute(above - limit * below)
    is_unlike = greater(unexplained, float(np.finfo(w.dtype).eps) ** 0.7 * noise)
    is_tiny = _is_tiny(below, w)
    limit = where(is_unlike, math.nan, limit)
    return where(is_tiny, limit, above / where(is_tiny, 1, below))


def _apart(below: Node, is_tiny: Node) -> Node:
    """1 / below off the diagonal, NaN where that is tiny; 0 on the diagonal."""
    n = below.shape[-1]
    return kept(where(is_tiny, math.nan, 1 / where(is_tiny, 1, below)), _off_diagonal(n))


@lru_cache(maxsize=16)
def _off_diagonal(n: int) -> np.ndarray:
    return 1.0 - np.eye(n)


# Tangents. `dot` is that of a decomposition.


def _turned(packed: Node, dot: Node) -> tuple[Node, Node]:
    """The tangents of the left and right vectors."""
    (u, v), w, x = _both(packed), values(packed), _matrix(packed, dot)
    moved = product(x, v)
    inner = product(adjoint(u), moved)
    below = _row(w) - _column(w)
    if _is_one_sided(packed):
        v_dot = product(v, inner * _apart(below, _is_tiny(below, w)))
        return v_dot, v_dot
    apart = _apart(below * (_row(w) + _column(w)), _is_tiny(below, w))
    turn = apart * (inner * _row(w) + _column(w) * adjoint(inner))
    v_dot = product(v, apart * (_column(w) * inner + adjoint(inner) * _row(w)))
    is_zero = _is_tiny(_row(w), w)
    inverse = where(is_zero, math.nan, 1 / where(is_zero, 1, _row(w)))
    if packed.is_complex:
        turn = turn + complex_(0, kept(imag(inner) * inverse, identity(w.shape[-1])))
    u_dot = product(u, turn)
    if u.shape[-2] > u.shape[-1]:
        u_dot = u_dot + (moved - product(u, inner)) * inverse
    return u_dot, v_dot


def _values_tangent(z, dots, packed):
    return rayleigh(packed, _matrix(packed, dots[0]))


def _vectors_tangent(z, dots, packed, left):
    return _turned(packed, dots[0])[0 if left else 1]


def _rayleigh_tangent(z, dots, packed, x):
    (u, v), (u_dot, v_dot) = _both(packed), _turned(packed, dots[0])
    terms = conjugate(u_dot) * product(x, v) + conjugate(u) * product(x, v_dot)
    return real(sum_(terms, axes=(terms.ndim - 2,)))


def _spectral_tangent(z, dots, packed, c):
    (u, v), w, x = _both(packed), values(packed), _matrix(packed, dots[0])
    moved = product(x, v)
    inner = product(adjoint(u), moved)
    if _is_one_sided(packed):
        return product(u, _quotients(c, w, -1) * inner, adjoint(v))
    sums = _quotients(c, w, 1)
    even, odd = 0.5 * (inner + adjoint(inner)), 0.5 * (inner - adjoint(inner))
    left = product(u, _quotients(c, w, -1) * even + sums * odd)
    if u.shape[-2] > u.shape[-1]:
        left = left + (moved - product(u, inner)) * _row(diagonal(sums))
    return product(left, adjoint(v))


# Values.


def _vectors(packed, left):
    return packed[..., _parts(packed)[0 if left else 1], :]


def _rayleigh(packed, x):
    u, v = _vectors(packed, True), _vectors(packed, False)
    return np.sum(u.conj() * (x @ v), axis=-2).real


def _spectral(packed, c):
    u, v = _vectors(packed, True), _vectors(packed, False)
    return (u * np.asarray(c)[..., None, :]) @ np.swapaxes(v.conj(), -1, -2)


def _values_shape(packed, *rest):
    return (*packed.shape[:-2], packed.shape[-1]), np.empty(0, packed.dtype).real.dtype


def _vectors_shape(packed, left):
    side = _parts(packed)[0 if left else 1]
    return (*packed.shape[:-2], side.stop - side.start, packed.shape[-1]), packed.dtype


def _matrix_shape(packed, c):
    left, right = (side.stop - side.start for side in _parts(packed))
    return (*packed.shape[:-2], left, right), packed.dtype


# fmt: off
eigh     = general("eigh", _eigh, lambda a, lower: ((*a.shape[:-2], a.shape[-1] + 1, a.shape[-1]), a.dtype),
                    lambda z, dots, a, lower: padded(hermitian(dots[0], lower), z.shape[-2]))
svd      = general("svd", _svd, lambda a: ((*a.shape[:-2], sum(a.shape[-2:]) + 1, a.shape[-1]), a.dtype),
                    lambda z, dots, a: padded(dots[0], z.shape[-2]))
values   = general("values", lambda packed: packed[..., -1, :].real, _values_shape, _values_tangent)
vectors  = general("vectors", _vectors, _vectors_shape, _vectors_tangent)
rayleigh = _linear("rayleigh", _rayleigh, _values_shape, lambda z_bar, z, packed, x: (None, spectral(packed, z_bar)),
                   tangent=_rayleigh_tangent, linear=((1,),), batches=False)
spectral = _linear("spectral", _spectral, _matrix_shape, lambda z_bar, z, packed, c: (None, rayleigh(packed, z_bar)),
                   tangent=_spectral_tangent, linear=((1,),), batches=False)
# fmt: on
