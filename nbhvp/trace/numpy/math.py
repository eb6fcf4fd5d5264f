"""Functions of Python's math module: most are a function of NumPy or SciPy, the rest compositions of these."""

import math

import numpy as np
import scipy.special as special

from nbhvp.trace.answers import answers
from nbhvp.trace.arrays import lift
from nbhvp.trace.numpy.elementwise import answers_as, cast, common, floating, floats
from nbhvp.trace.numpy.products import vector_norm
from nbhvp.trace.numpy.reductions import sum_

__all__: list[str] = []

answers_as(__name__, {
    math.acos: np.arccos, math.acosh: np.arccosh, math.asin: np.arcsin, math.asinh: np.arcsinh,
    math.atan: np.arctan, math.atan2: np.arctan2, math.atanh: np.arctanh, math.cbrt: np.cbrt,
    math.copysign: np.copysign, math.cos: np.cos, math.cosh: np.cosh, math.erf: special.erf,
    math.erfc: special.erfc, math.exp: np.exp, math.exp2: np.exp2, math.expm1: np.expm1,
    math.fmod: np.fmod,
    math.gamma: special.gamma, math.isfinite: np.isfinite, math.isinf: np.isinf, math.isnan: np.isnan,
    math.lgamma: special.gammaln, math.log10: np.log10, math.log1p: np.log1p, math.log2: np.log2,
    math.nextafter: np.nextafter, math.pow: np.power, math.sin: np.sin, math.sinh: np.sinh,
    math.sqrt: np.sqrt, math.tan: np.tan, math.tanh: np.tanh, math.ulp: np.spacing,
})  # fmt: skip


@answers(math.log)
def log(x, base=math.e):
    x = np.log(floating(lift(x)))
    return x if base == math.e else x / np.log(base)


@answers(math.hypot)
def hypot(*coordinates):
    return vector_norm(lift(list(coordinates)))


@answers(math.dist)
def dist(p, q):
    return vector_norm(lift(p) - lift(q))


@answers(math.fsum)
def fsum(seq):
    return sum_(floating(lift(list(seq))))


@answers(math.remainder)
def ieee_remainder(x, y):
    x, y = floats(x, y)
    return x - y * np.rint(x / y)


@answers(math.isclose)
def isclose_(a, b, *, rel_tol=1e-09, abs_tol=0.0):
    a, b = common(a, b)
    size = np.maximum(rel_tol * np.maximum(abs(a), abs(b)), abs_tol)
    return (a == b) | (np.isfinite(a) & np.isfinite(b) & (abs(a - b) <= size))


def _whole(function):
    """math.floor and kin: an integer, still traced."""
    return lambda x: cast(function(floating(lift(x))), np.int64)


answers(math.floor)(_whole(np.floor))
answers(math.ceil)(_whole(np.ceil))
answers(math.trunc)(_whole(np.trunc))
if hasattr(math, "sumprod"):

    @answers(math.sumprod)
    def sumprod(p, q):
        return np.dot(lift(p), lift(q))
