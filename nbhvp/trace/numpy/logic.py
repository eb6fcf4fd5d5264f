"""Comparisons and tests of values; those that give one truth value are branches, and so guards."""

import math

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.trace.answers import answers
from nbhvp.trace.arrays import apply, lift
from nbhvp.trace.numpy.elementwise import absolute, common, into, is_complex
from nbhvp.trace.numpy.reductions import all_

__all__ = ["isclose"]


@answers(np.isclose)
def isclose(a, b, rtol=1e-05, atol=1e-08, equal_nan=False):
    a, b = common(a, b)
    result = (absolute(a - b) <= atol + rtol * absolute(b)) & np.isfinite(b) | (a == b)
    return result | (np.isnan(a) & np.isnan(b)) if equal_nan else result


@answers(np.isposinf)
def isposinf(x, out=None):
    return into(out, lift(x) == math.inf)


@answers(np.isneginf)
def isneginf(x, out=None):
    return into(out, lift(x) == -math.inf)


@answers(np.iscomplex)
def iscomplex(x):
    x = lift(x)
    return apply(p.imag, x) != 0 if is_complex(x) else lift(np.zeros(x.shape, bool))


@answers(np.isreal)
def isreal(x):
    x = lift(x)
    return apply(p.imag, x) == 0 if is_complex(x) else lift(np.ones(x.shape, bool))


@answers(np.allclose)
def allclose(a, b, rtol=1e-05, atol=1e-08, equal_nan=False):
    return bool(all_(isclose(a, b, rtol, atol, equal_nan)))


@answers(np.array_equal)
def array_equal(a1, a2, equal_nan=False):
    a, b = lift(a1), lift(a2)
    if a.shape != b.shape:
        return False
    same = (a == b) | (np.isnan(a) & np.isnan(b)) if equal_nan else a == b
    return bool(all_(same))


@answers(np.array_equiv)
def array_equiv(a1, a2):
    a, b = lift(a1), lift(a2)
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        return False
    return bool(all_(a == b))
