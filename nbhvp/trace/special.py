"""Functions of scipy.special and of Python's math module.

Most of math has a twin in NumPy: one table maps them. The rest are compositions. The exponential
sums (logsumexp, softmax, log_softmax) subtract an integer near the maximum: it prevents overflow as
well as the maximum itself does, and being a step it carries no derivative.
"""

import math

import numpy as np
import scipy.special as special

from nbhvp.graph import primitives as p
from nbhvp.graph import special as sp
from nbhvp.trace.arrays import apply, is_constant, lift, trace_error
from nbhvp.trace.elementwise import (
    absolute,
    cast,
    common,
    composition,
    floating,
    floats,
    is_complex,
    sign,
    where,
)
from nbhvp.trace.products import vector_norm
from nbhvp.trace.reductions import max_, sum_

# Exponential sums.


def _shift(a, axis):
    """An integer near the maximum; 0 where that is infinite."""
    size = apply(p.real, a) if is_complex(a) else a
    least = None if a.size else -math.inf
    near = np.floor(max_(size, axis, keepdims=True, initial=least))
    return where(np.isfinite(near), near, 0)


@composition(special.logsumexp)
def logsumexp(a, axis=None, b=None, keepdims=False, return_sign=False):
    a = floating(lift(a))
    if b is not None:
        b = lift(b)
        a, b = np.broadcast_arrays(where(b == 0, -math.inf, a), b)
    shift = _shift(a, axis)
    terms = np.exp(a - shift)
    terms = terms if b is None else b * terms
    total = sum_(terms, axis, keepdims=keepdims)
    sign_ = sign(total)
    if return_sign:
        total = absolute(total)
    result = np.log(total) + (shift if keepdims else np.reshape(shift, total.shape))
    return (result, sign_) if return_sign else result


@composition(special.softmax)
def softmax(x, axis=None):
    x = floating(lift(x))
    terms = np.exp(x - _shift(x, axis))
    return terms / sum_(terms, axis, keepdims=True)


@composition(special.log_softmax)
def log_softmax(x, axis=None):
    x = floating(lift(x))
    x = x - _shift(x, axis)
    return x - np.log(sum_(np.exp(x), axis, keepdims=True))


# Relatives of the primitives.


@composition(special.polygamma)
def polygamma(n, x):
    n = lift(n)
    if not is_constant(n) or n.ndim:
        raise trace_error("scipy.special.polygamma of a variable order", "use a constant integer")
    order = int(n.value)
    return (
        special.digamma(lift(x)) if order == 0 else apply(sp.polygamma, floating(lift(x)), n=order)
    )


@composition(special.digamma)
def digamma(z):
    z = lift(z)
    if is_complex(z):
        raise trace_error("scipy.special.digamma of complex values", "use real ones")
    return apply(sp.digamma, z)


@composition(special.loggamma)
def loggamma(z):
    z = lift(z)
    if is_complex(z):
        raise trace_error("scipy.special.loggamma of complex values", "use real ones")
    z = floating(z)
    return where(z < 0, math.nan, apply(sp.gammaln, z))


@composition(special.gamma, math.gamma)
def gamma(x):
    x = floating(lift(x))
    is_odd = np.floor(x) % 2 == 1
    return where((x < 0) & is_odd, -1, 1) * np.exp(apply(sp.gammaln, x))


@composition(special.factorial)
def factorial(n, exact=False):
    if exact:
        raise trace_error("scipy.special.factorial with exact=True", "use exact=False")
    return gamma(floating(lift(n)) + 1)


@composition(special.betaln)
def betaln(a, b):
    a, b = floats(a, b)
    return apply(sp.gammaln, a) + apply(sp.gammaln, b) - apply(sp.gammaln, a + b)


@composition(special.beta)
def beta(a, b):
    return np.exp(betaln(a, b))


@composition(special.rel_entr)
def rel_entr(x, y):
    """x log(x / y); 0 at x = 0 <= y, infinite outside of the domain."""
    x, y = floats(x, y)
    inside = (x > 0) & (y > 0)
    a, b = where(inside, x, 1), where(inside, y, 1)
    outside = where((x == 0) & (y >= 0), 0, where(np.isnan(x) | np.isnan(y), math.nan, math.inf))
    return where(inside, a * np.log(a / b), outside)


@composition(special.kl_div)
def kl_div(x, y):
    return rel_entr(x, y) - x + y


@composition(special.huber)
def huber(delta, r):
    delta, r = floats(delta, r)
    size = abs(r)
    return where(size <= delta, 0.5 * r * r, delta * (size - 0.5 * delta))


@composition(special.pseudo_huber)
def pseudo_huber(delta, r):
    delta, r = floats(delta, r)
    u, v = delta, r / delta
    return u * u * (v * v / (1 + np.sqrt(1 + v * v)))


@composition(special.exprel)
def exprel(x):
    """(exp(x) - 1)/x; near 0 by its series, for the sake of its derivatives."""
    x = floating(lift(x))
    near = abs(x) < 0.5
    away, small = where(near, 1, x), where(near, x, 0)
    series = 1.0
    for k in range(16, 1, -1):
        series = 1 + small * series / k
    return where(near, series, np.expm1(away) / away)


if hasattr(special, "softplus"):

    @composition(special.softplus)
    def softplus(x):
        return np.logaddexp(0.0, lift(x))


# Python's math.


def _as_in(function):
    """A math function computed as a NumPy or SciPy one on floating arguments."""

    def handler(*args):
        return function(*floats(*args))

    return handler


TWINS = {
    math.acos: np.arccos, math.acosh: np.arccosh, math.asin: np.arcsin, math.asinh: np.arcsinh,
    math.atan: np.arctan, math.atan2: np.arctan2, math.atanh: np.arctanh, math.cbrt: np.cbrt,
    math.copysign: np.copysign, math.cos: np.cos, math.cosh: np.cosh, math.erf: special.erf,
    math.erfc: special.erfc, math.exp: np.exp, math.exp2: np.exp2, math.expm1: np.expm1,
    math.fmod: np.fmod, math.isfinite: np.isfinite, math.isinf: np.isinf, math.isnan: np.isnan,
    math.lgamma: special.gammaln, math.log10: np.log10, math.log1p: np.log1p, math.log2: np.log2,
    math.nextafter: np.nextafter, math.pow: np.power, math.sin: np.sin, math.sinh: np.sinh,
    math.sqrt: np.sqrt, math.tan: np.tan, math.tanh: np.tanh, math.ulp: np.spacing,
}  # fmt: skip

for _function, _twin in TWINS.items():
    composition(_function)(_as_in(_twin))


@composition(math.log)
def log(x, base=math.e):
    x = np.log(floating(lift(x)))
    return x if base == math.e else x / np.log(base)


@composition(math.hypot)
def hypot(*coordinates):
    return vector_norm(lift(list(coordinates)))


@composition(math.dist)
def dist(p, q):
    return vector_norm(lift(p) - lift(q))


@composition(math.fsum)
def fsum(seq):
    return sum_(floating(lift(list(seq))))


@composition(math.remainder)
def ieee_remainder(x, y):
    x, y = floats(x, y)
    return x - y * np.rint(x / y)


@composition(math.isclose)
def isclose_(a, b, *, rel_tol=1e-09, abs_tol=0.0):
    a, b = common(a, b)
    size = np.maximum(rel_tol * np.maximum(abs(a), abs(b)), abs_tol)
    return (a == b) | (np.isfinite(a) & np.isfinite(b) & (abs(a - b) <= size))


def _whole(function):
    """math.floor and kin: an integer, still traced."""
    return lambda x: cast(function(floating(lift(x))), np.int64)


composition(math.floor)(_whole(np.floor))
composition(math.ceil)(_whole(np.ceil))
composition(math.trunc)(_whole(np.trunc))
if hasattr(math, "sumprod"):

    @composition(math.sumprod)
    def sumprod(p, q):
        return np.dot(lift(p), lift(q))
