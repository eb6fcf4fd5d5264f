"""Functions of a matrix by their Frechet derivatives, and Sylvester's equation.

The derivative of f at A in directions E, F, ... is a corner of f of a larger matrix,

    f([A E; 0 A]) = [f(A) L(E); 0 f(A)],        twice as large for each further direction

(Mathias 1996; Higham and Relton 2014). It is linear in each direction, and tr(Y L(E)) = tr(L(Y) E)
gives its adjoint. So the library's f is all that is needed, for derivatives of any order.

The solution of A X + X B = C has X_dot with A X_dot + X_dot B = C_dot - A_dot X - X B_dot; so have
Riccati's equations, by the equation that their residual has.
"""

from __future__ import annotations

import string
from functools import reduce
from operator import add

import numpy as np
import scipy.linalg

from nbhvp.graph import derive
from nbhvp.graph.definitions import BOOL
from nbhvp.graph.primitives import _discrete, _linear, constant, contract, reshape
from nbhvp.graph.table.matrices.linalg import (
    Routine,
    adjoint,
    general,
    product,
    solve_by_lu,
    swapped,
)

__all__ = ["discrete_riccati", "frechet", "of_matrix", "riccati", "stays_real", "sylvester"]


def _each(run, *arrays):
    """What a function of matrices gives, stack by stack; NaN where it fails."""
    out = np.full(arrays[-1].shape, np.nan, arrays[-1].dtype)
    for k in np.ndindex(out.shape[:-2]) if out.size else ():
        found = run(*(x[k] for x in arrays))
        if found is not None:
            out[k] = found if np.iscomplexobj(out) else np.real(found)
    return out


# Functions of one matrix. `was_real` tells that it is real, and complex only since the result is.


def _of_matrix(a, by, was_real):
    return _each(lambda a: by(a.real if was_real else a), np.asarray(a))


def _frechet(a, *directions, by, was_real):
    def corner(*parts):
        first, *rest = parts[-1:] + parts[:-1]
        return _corner(first.real if was_real else first, rest, by)

    return _each(corner, *map(np.asarray, directions), np.asarray(a))


def _corner(a, directions, by):
    """L of one matrix. A real one meets real directions, or rounding would choose among branches."""
    for k, e in enumerate(directions):
        if not np.iscomplexobj(a) and np.iscomplexobj(e):
            parts = ([*directions[:k], part, *directions[k + 1 :]] for part in (e.real, e.imag))
            real, imag = (_corner(a, part, by) for part in parts)
            return None if real is None else real + 1j * imag
    n, whole, scale = len(a), a, 1.0
    for e in directions:
        size = np.linalg.norm(e) / (np.linalg.norm(a) or 1.0)
        if size == 0:
            return np.zeros_like(a)
        along = np.kron(np.eye(len(whole) // n, dtype=a.dtype), e / size)
        whole = np.block([[whole, along], [np.zeros_like(whole), whole]])
        scale *= size
    found = by(whole)
    return None if found is None else scale * found[:n, -n:]


def _frechet_rule(z_bar, z, a, first, *rest, **params):
    found = adjoint(frechet(a, adjoint(z_bar), *rest, **params))
    return [None, found, *(None for _ in rest)]


def _frechet_tangent(z, dots, a, *directions, **params):
    """A new direction comes first, since all are alike and the rule speaks for the first."""
    terms = [frechet(a, dots[0], *directions, **params)] if dots[0] is not None else []
    for k, dot in enumerate(dots[1:]):
        if dot is not None:
            rest = (*directions[:k], *directions[k + 1 :])
            terms.append(frechet(a, dot, *rest, **params))
    return reduce(add, terms)


def _stays_real(a, by):
    found = by(np.asarray(a))
    return found is None or not np.iscomplexobj(found)


# Sylvester's equation A X + X B = Q.


def _sylvester(a, b, q):
    by = Routine(scipy.linalg.solve_sylvester)
    return _each(by, *map(np.asarray, (a, b, q)))


def _sylvester_rule(z_bar, z, a, b, q):
    return None, None, sylvester(adjoint(a), adjoint(b), z_bar)


def _sylvester_tangent(z, dots, a, b, q):
    terms = [product(dots[0], z)] if dots[0] is not None else []
    terms += [product(z, dots[1])] if dots[1] is not None else []
    return -sylvester(a, b, terms[0] if len(terms) == 1 else terms[0] + terms[1])


# Riccati's equation A^H X + X A - X B R^-1 B^H X + Q = 0, whose solution makes A - B R^-1 B^H X stable.


def _riccati(a, b, q, r):
    by = Routine(scipy.linalg.solve_continuous_are)
    a, b, q, r = map(np.asarray, (a, b, q, r))
    return _each(lambda b, q, r, a: by(a, b, q, r), b, q, r, a)


def _riccati_tangent(z, dots, a, b, q, r):
    def residual(x, a, b, q, r):
        gain = solve_by_lu(r, product(adjoint(b), x))
        return product(adjoint(a), x) + product(x, a) - product(x, b, gain) + q

    moved = derive.jvp_of(residual, [z, a, b, q, r], [None, *dots])
    closed = a - product(b, solve_by_lu(r, product(adjoint(b), z)))
    return -sylvester(adjoint(closed), closed, moved)


# The discrete one, A^H X A - X - A^H X B (R + B^H X B)^-1 B^H X A + Q = 0, with the like.


def _discrete_riccati(a, b, q, r):
    by = Routine(scipy.linalg.solve_discrete_are)
    a, b, q, r = map(np.asarray, (a, b, q, r))
    return _each(lambda b, q, r, a: by(a, b, q, r), b, q, r, a)


def _gain(x, a, b, r):
    moved = product(adjoint(b), x)
    return solve_by_lu(r + product(moved, b), product(moved, a))


def _discrete_riccati_tangent(z, dots, a, b, q, r):
    def residual(x, a, b, q, r):
        across = product(adjoint(a), x)
        return product(across, a) - x - product(across, b, _gain(x, a, b, r)) + q

    moved = derive.jvp_of(residual, [z, a, b, q, r], [None, *dots])
    return _stein(a - product(b, _gain(z, a, b, r)), moved)


def _stein(a, q):
    """X of X - A^H X A = Q, by a linear system for its elements."""
    *stack, n = a.shape[:-1]
    letters = string.ascii_letters[: len(stack)]
    pairs = contract(adjoint(a), swapped(a), subscripts=f"{letters}yz,{letters}wx->{letters}ywzx")
    eye = constant(a.pool, np.eye(n * n, dtype=a.dtype))
    system = eye - reshape(pairs, shape=(*stack, n * n, n * n))
    found = solve_by_lu(system, reshape(q, shape=(*stack, n * n, 1)))
    return reshape(found, shape=q.shape)


def _as_given(a, *rest, **params):
    return a.shape, a.dtype


# fmt: off
of_matrix  = general("of_matrix", _of_matrix, _as_given, lambda z, dots, a, **params: frechet(a, dots[0], **params))
frechet    = _linear("frechet", _frechet, _as_given, _frechet_rule, tangent=_frechet_tangent, linear=tuple((k,) for k in range(1, 9)), batches=False)
stays_real = _discrete("stays_real", _stays_real, lambda a, by: ((), BOOL))
sylvester  = _linear("sylvester", _sylvester, lambda a, b, q: (q.shape, q.dtype), _sylvester_rule, tangent=_sylvester_tangent, linear=((2,),), batches=False)
riccati    = general("riccati", _riccati, _as_given, _riccati_tangent)
discrete_riccati = general("discrete_riccati", _discrete_riccati, _as_given, _discrete_riccati_tangent)
# fmt: on
