"""Distributions of scipy.stats: densities, distribution functions and quantiles in all parameters.

SciPy's methods convert to plain arrays, so that nothing can be traced through them. Each law stands
here in standard form, as its logarithmic density and distribution function of y in its support; one
place moves and scales it, by y = (x - loc) / scale, and says what holds outside: -inf or 0 or 1 there,
NaN where a parameter is not allowed. Values agree with SciPy's, derivatives follow from the
primitives. What is not in `LAWS`, and every other method, is refused when an argument is traced.

Objects of scipy.stats are known by the names of their classes: importing it takes long.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.special as special

from nbhvp.trace import arrays
from nbhvp.trace.answers import answers
from nbhvp.trace.arrays import lift, trace_error, traced_in
from nbhvp.trace.kinds import LibraryObject
from nbhvp.trace.numpy.elementwise import floating, floats, where

__all__: list[str] = []

LOG_2, LOG_PI, LOG_2PI = math.log(2), math.log(math.pi), math.log(2 * math.pi)
SQRT_2 = math.sqrt(2)
LINE, RAY, INTERVAL = (-math.inf, math.inf), (0.0, math.inf), (0.0, 1.0)


@dataclass(frozen=True)
class Law:
    """A law in standard form; its functions take y and the shape parameters."""

    log_density: Callable
    cdf: Callable | None = None
    sf: Callable | None = None
    support: Callable | tuple = LINE
    valid: Callable = lambda *shapes: True
    ppf: Callable | None = None
    isf: Callable | None = None
    logcdf: Callable | None = None
    logsf: Callable | None = None
    is_open: bool = False
    """Whether the density vanishes at the lower end, in a form that is not finite there."""
    inner: float = 0.5
    """A point of the support, which stands in for those outside."""

    def limits(self, shapes) -> tuple:
        return self.support(*shapes) if callable(self.support) else self.support


def _positive(*shapes):
    valid = True
    for shape in shapes:
        valid = valid & (shape > 0)
    return valid


def _student(y, df):
    size = special.gammaln(0.5 * (df + 1)) - special.gammaln(0.5 * df) - 0.5 * np.log(math.pi * df)
    return size - 0.5 * (df + 1) * np.log1p(y * y / df)


def _f(y, m, n):
    size = 0.5 * m * np.log(m) + 0.5 * n * np.log(n) - special.betaln(0.5 * m, 0.5 * n)
    return size + special.xlogy(0.5 * m - 1, y) - 0.5 * (m + n) * np.log(n + m * y)


def _binomial(k, n, p):
    ways = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    return ways + special.xlogy(k, p) + special.xlog1py(n - k, -p)


def _negative_binomial(k, n, p):
    ways = special.gammaln(n + k) - special.gammaln(k + 1) - special.gammaln(n)
    return ways + n * np.log(p) + special.xlog1py(k, -p)


CONTINUOUS = {
    "norm": Law(
        lambda y: -0.5 * y * y - 0.5 * LOG_2PI,
        lambda y: special.ndtr(y),
        lambda y: special.ndtr(-y),
        ppf=lambda q: special.ndtri(q),
        isf=lambda q: -special.ndtri(q),
        logcdf=lambda y: special.log_ndtr(y),
        logsf=lambda y: special.log_ndtr(-y),
    ),
    "expon": Law(
        lambda y: -y,
        lambda y: -np.expm1(-y),
        lambda y: np.exp(-y),
        RAY,
        ppf=lambda q: -np.log1p(-q),
        isf=lambda q: -np.log(q),
        logsf=lambda y: -y,
    ),
    "uniform": Law(lambda y: 0.0 * y, lambda y: y, lambda y: 1 - y, INTERVAL, ppf=lambda q: q),
    "gamma": Law(
        lambda y, a: special.xlogy(a - 1, y) - y - special.gammaln(a),
        lambda y, a: special.gammainc(a, y),
        lambda y, a: special.gammaincc(a, y),
        RAY,
        _positive,
        ppf=lambda q, a: special.gammaincinv(a, q),
        isf=lambda q, a: special.gammainccinv(a, q),
    ),
    "invgamma": Law(
        lambda y, a: -(a + 1) * np.log(y) - special.gammaln(a) - 1 / y,
        lambda y, a: special.gammaincc(a, 1 / y),
        lambda y, a: special.gammainc(a, 1 / y),
        RAY,
        _positive,
        is_open=True,
    ),
    "chi2": Law(
        lambda y, df: (
            special.xlogy(0.5 * df - 1, y) - 0.5 * y - special.gammaln(0.5 * df) - 0.5 * LOG_2 * df
        ),
        lambda y, df: special.gammainc(0.5 * df, 0.5 * y),
        lambda y, df: special.gammaincc(0.5 * df, 0.5 * y),
        RAY,
        _positive,
    ),
    "beta": Law(
        lambda y, a, b: special.xlogy(a - 1, y) + special.xlog1py(b - 1, -y) - special.betaln(a, b),
        lambda y, a, b: special.betainc(a, b, y),
        lambda y, a, b: special.betaincc(a, b, y),
        INTERVAL,
        _positive,
        ppf=lambda q, a, b: special.betaincinv(a, b, q),
    ),
    "f": Law(
        _f,
        lambda y, m, n: special.fdtr(m, n, y),
        lambda y, m, n: special.fdtrc(m, n, y),
        RAY,
        _positive,
    ),
    "t": Law(
        _student,
        lambda y, df: special.stdtr(df, y),
        lambda y, df: special.stdtr(df, -y),
        valid=_positive,
        ppf=lambda q, df: special.stdtrit(df, q),
        isf=lambda q, df: -special.stdtrit(df, q),
    ),
    "cauchy": Law(
        lambda y: -LOG_PI - np.log1p(y * y),
        lambda y: np.arctan2(1, -y) / math.pi,
        lambda y: np.arctan2(1, y) / math.pi,
    ),
    "laplace": Law(
        lambda y: -abs(y) - LOG_2,
        lambda y: where(y > 0, 1 - 0.5 * np.exp(-abs(y)), 0.5 * np.exp(-abs(y))),
        lambda y: where(y > 0, 0.5 * np.exp(-abs(y)), 1 - 0.5 * np.exp(-abs(y))),
    ),
    "logistic": Law(
        lambda y: special.log_expit(y) + special.log_expit(-y),
        lambda y: special.expit(y),
        lambda y: special.expit(-y),
        ppf=lambda q: special.logit(q),
        isf=lambda q: -special.logit(q),
        logcdf=lambda y: special.log_expit(y),
        logsf=lambda y: special.log_expit(-y),
    ),
    "lognorm": Law(
        lambda y, s: -(np.log(y) ** 2) / (2 * s * s) - np.log(s * y) - 0.5 * LOG_2PI,
        lambda y, s: special.ndtr(np.log(y) / s),
        lambda y, s: special.ndtr(-np.log(y) / s),
        RAY,
        _positive,
        ppf=lambda q, s: np.exp(s * special.ndtri(q)),
        logcdf=lambda y, s: special.log_ndtr(np.log(y) / s),
        logsf=lambda y, s: special.log_ndtr(-np.log(y) / s),
        is_open=True,
    ),
    "halfnorm": Law(
        lambda y: -0.5 * y * y + 0.5 * (LOG_2 - LOG_PI),
        lambda y: special.erf(y / SQRT_2),
        lambda y: special.erfc(y / SQRT_2),
        RAY,
    ),
    "halfcauchy": Law(
        lambda y: LOG_2 - LOG_PI - np.log1p(y * y),
        lambda y: 2 / math.pi * np.arctan(y),
        lambda y: 2 / math.pi * np.arctan2(1, y),
        RAY,
    ),
    "rayleigh": Law(
        lambda y: np.log(y) - 0.5 * y * y,
        lambda y: -np.expm1(-0.5 * y * y),
        lambda y: np.exp(-0.5 * y * y),
        RAY,
        logsf=lambda y: -0.5 * y * y,
    ),
    "weibull_min": Law(
        lambda y, c: np.log(c) + special.xlogy(c - 1, y) - y**c,
        lambda y, c: -np.expm1(-(y**c)),
        lambda y, c: np.exp(-(y**c)),
        RAY,
        _positive,
        ppf=lambda q, c: (-np.log1p(-q)) ** (1 / c),
        logsf=lambda y, c: -(y**c),
    ),
    "pareto": Law(
        lambda y, b: np.log(b) - (b + 1) * np.log(y),
        lambda y, b: -np.expm1(-b * np.log(y)),
        lambda y, b: y**-b,
        (1.0, math.inf),
        _positive,
        ppf=lambda q, b: (1 - q) ** (-1 / b),
        inner=1.5,
    ),
    "gumbel_r": Law(
        lambda y: -y - np.exp(-y),
        lambda y: np.exp(-np.exp(-y)),
        lambda y: -np.expm1(-np.exp(-y)),
        logcdf=lambda y: -np.exp(-y),
    ),
    "gumbel_l": Law(
        lambda y: y - np.exp(y),
        lambda y: -np.expm1(-np.exp(y)),
        lambda y: np.exp(-np.exp(y)),
        logsf=lambda y: -np.exp(y),
    ),
    "vonmises": Law(
        lambda y, kappa: kappa * special.cosm1(y) - LOG_2PI - np.log(special.i0e(kappa)),
        valid=lambda kappa: kappa >= 0,
    ),
}
"""By the names that SciPy gives them."""

DISCRETE = {
    "poisson": Law(
        lambda k, mu: special.xlogy(k, mu) - special.gammaln(k + 1) - mu,
        lambda k, mu: special.pdtr(k, mu),
        lambda k, mu: special.pdtrc(k, mu),
        RAY,
        lambda mu: mu >= 0,
    ),
    "binom": Law(
        _binomial,
        lambda k, n, p: special.bdtr(k, n, p),
        lambda k, n, p: special.bdtrc(k, n, p),
        lambda n, p: (0.0, n),
        lambda n, p: (n >= 0) & (n == np.floor(n)) & (p >= 0) & (p <= 1),
    ),
    "bernoulli": Law(
        lambda k, p: special.xlogy(k, p) + special.xlog1py(1 - k, -p),
        lambda k, p: where(k >= 1, 1, 1 - p),
        lambda k, p: where(k >= 1, 0, p),
        INTERVAL,
        lambda p: (p >= 0) & (p <= 1),
    ),
    "geom": Law(
        lambda k, p: np.log(p) + special.xlog1py(k - 1, -p),
        lambda k, p: -np.expm1(k * np.log1p(-p)),
        lambda k, p: np.exp(k * np.log1p(-p)),
        (1.0, math.inf),
        lambda p: (p > 0) & (p <= 1),
        logsf=lambda k, p: k * np.log1p(-p),
        inner=1.0,
    ),
    "nbinom": Law(
        _negative_binomial,
        lambda k, n, p: special.betainc(n, k + 1, p),
        lambda k, n, p: special.betaincc(n, k + 1, p),
        RAY,
        lambda n, p: (n > 0) & (p > 0) & (p <= 1),
    ),
}
LAWS = CONTINUOUS | DISCRETE
DENSITIES = {"logpdf": False, "pdf": False, "logpmf": True, "pmf": True}
"""Names of methods that are densities, and whether those of discrete laws."""
METHODS = (*DENSITIES, "cdf", "sf", "logcdf", "logsf", "ppf", "isf")


def _density(law, method, y, shapes, log_scale, inside):
    """The density of the standard form, or its logarithm."""
    result = where(
        inside, law.log_density(where(inside, y, law.inner), *shapes) - log_scale, -math.inf
    )
    return result if method.startswith("log") else np.exp(result)


# From a tail to the methods: the value below and above the support.
TAILS = {"cdf": (0, 1), "sf": (1, 0), "logcdf": (-math.inf, 0), "logsf": (0, -math.inf)}


def _tail(law, method, y, shapes, limits, inside):
    """A distribution function, its complement, or the logarithm of one."""
    below, above = TAILS[method]
    function = getattr(law, method) or _logarithm(law, method[3:])
    result = function(where(inside, y, law.inner), *shapes)
    return where(inside, result, where(y < limits[1], below, above))


def _logarithm(law, method):
    """log(F), or log(1 - S) by the other tail S where that is the smaller."""
    function, complement = (law.cdf, law.sf) if method == "cdf" else (law.sf, law.cdf)

    def logarithm(y, *shapes):
        value = function(y, *shapes)
        is_large = value > 0.5
        rest = where(is_large, complement(y, *shapes), 0.5)
        return where(is_large, np.log1p(-rest), np.log(where(is_large, 0.5, value)))

    return logarithm


def _quantile(law, method, q, shapes, limits):
    """The quantile of the standard form; the ends of the support at 0 and 1."""
    low, high = limits if method == "ppf" else limits[::-1]
    inside = (q > 0) & (q < 1)
    result = getattr(law, method)(where(inside, q, 0.5), *shapes)
    return where(inside, result, where(q == 0, low, where(q == 1, high, math.nan)))


def _supports(law, name, method) -> bool:
    """Whether the law has what the method needs."""
    if method in DENSITIES:
        return DENSITIES[method] == (name in DISCRETE)
    return getattr(law, method) is not None or getattr(law, method[3:], None) is not None


def _value(name, method, y, shapes, loc, scale):
    """A method of a law at traced arguments."""
    law = LAWS[name]
    if not _supports(law, name, method):
        raise trace_error(
            f"scipy.stats.{name}.{method} has no derivative rule",
            f"use what is there: {', '.join(m for m in METHODS if _supports(law, name, m))}",
        )
    y, loc, scale, *shapes = floats(y, loc, scale, *shapes)
    valid = (scale > 0) & law.valid(*shapes) & ~np.isnan(loc)
    limits = law.limits(shapes)
    if method in ("ppf", "isf"):
        return where(valid, loc + scale * _quantile(law, method, y, shapes, limits), math.nan)
    y = (y - loc) / scale
    whole = np.floor(y) if name in DISCRETE else y
    inside = ((y > limits[0]) if law.is_open else (y >= limits[0])) & (y < math.inf)
    if method in DENSITIES:
        inside = inside & (y <= limits[1]) & (y > -math.inf) & (y == whole)
        result = _density(law, method, y, shapes, np.log(scale), inside)
    else:
        inside = inside & (y < limits[1]) & (y > -math.inf)
        result = _tail(law, method, whole, shapes, limits, inside)
    return where(valid & ~np.isnan(y), result, math.nan)


# The objects of scipy.stats.


def _parameters(distribution, args, kwargs):
    """Shapes, loc and scale, as they are given by position or by name."""
    shapes = [s.strip() for s in distribution.shapes.split(",")] if distribution.shapes else []
    names = [*shapes, "loc"] + ["scale"] * (distribution.name not in DISCRETE)
    if len(args) > len(names) or {*names[: len(args)]} & kwargs.keys() or kwargs.keys() - {*names}:
        raise TypeError(f"{distribution.name} takes the parameters {', '.join(names)}")
    given = {"loc": 0.0, "scale": 1.0, **dict(zip(names, args, strict=False)), **kwargs}
    missing = [name for name in shapes if name not in given]
    if missing:
        raise TypeError(f"{distribution.name} needs the parameters {', '.join(missing)}")
    return [given[name] for name in shapes], given["loc"], given["scale"]


@answers("scipy.stats.rv_generic")
class Distribution(LibraryObject):
    """The stand-in of scipy.stats.norm and its kin."""

    def __call__(self, *args, **kwargs):
        return Frozen(self, args, kwargs)

    freeze = __call__


def _method(name):
    def method(self, x, *args, **kwargs):
        function = getattr(self.original, name)
        if not any(True for _ in traced_in(x, args, kwargs)) or self.original.name not in LAWS:
            return arrays.call(function, (x, *args), kwargs)
        return _value(self.original.name, name, x, *_parameters(self.original, args, kwargs))

    return method


for _name in METHODS:
    setattr(Distribution, _name, _method(_name))


class Frozen(LibraryObject):
    """A distribution with its parameters."""

    def __init__(self, distribution, args, kwargs):
        self.distribution, self.args, self.kwds = distribution, args, kwargs

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        function = getattr(self.distribution, name)
        if not callable(function):
            return function
        return lambda *x, **options: function(*x, *self.args, **self.kwds, **options)

    def __repr__(self) -> str:
        return f"{self.distribution!r}{self.args}"


@answers("scipy.stats.rv_frozen")
class FrozenOriginal(Frozen):
    """The stand-in of a distribution that was given its parameters outside of the function."""

    def __init__(self, original, standin):
        parts = map(standin, (original.dist, original.args, original.kwds))
        super().__init__(*parts)


@answers("scipy.stats.multivariate_normal_gen")
class MultivariateNormal(LibraryObject):
    """The stand-in of scipy.stats.multivariate_normal."""

    def logpdf(self, x, mean=None, cov=1, allow_singular=False):
        if not any(True for _ in traced_in(x, mean, cov)):
            return arrays.call(self.original.logpdf, (x, mean, cov, allow_singular), {})
        if allow_singular:
            raise trace_error(
                "multivariate_normal.logpdf with allow_singular=True", "use a regular matrix"
            )
        return _normal_log_density(x, mean, cov)

    def pdf(self, x, mean=None, cov=1, allow_singular=False):
        return np.exp(self.logpdf(x, mean, cov, allow_singular))

    def __call__(self, mean=None, cov=1, allow_singular=False, seed=None):
        return FrozenNormal(self, mean, cov, allow_singular)


def _normal_log_density(x, mean, cov):
    """-(|L^-1 (x - mean)|^2 + log det(2 pi L L^T)) / 2; the points lie along the last axis."""
    x, cov = floating(lift(x)), floating(lift(cov))
    mean = 0.0 if mean is None else mean
    n = len(cov) if cov.ndim == 2 else max(np.size(mean), 1)
    if cov.ndim < 2:
        cov = np.diag(np.broadcast_to(cov, (n,)))
    if x.ndim == 0 or (n == 1 and x.ndim == 1):
        x = x[..., None]
    if x.shape[-1] != n:
        raise ValueError(f"multivariate_normal needs points of {n} coordinates, got {x.shape[-1]}")
    lower = np.linalg.cholesky(cov)
    gap = x - mean
    white = np.linalg.solve(lower, np.reshape(gap, (-1, n)).T)
    squares = np.reshape(np.sum(white * white, axis=0), np.shape(gap)[:-1])
    size = np.sum(np.log(np.diag(lower)))
    return -0.5 * squares - size - 0.5 * n * LOG_2PI


@dataclass(frozen=True, eq=False)
class FrozenNormal:
    """A multivariate normal distribution with its parameters."""

    distribution: MultivariateNormal
    mean: object
    cov: object
    allow_singular: bool

    def logpdf(self, x):
        return self.distribution.logpdf(x, self.mean, self.cov, self.allow_singular)

    def pdf(self, x):
        return np.exp(self.logpdf(x))


@answers("scipy.stats.multivariate_normal_frozen")
class FrozenNormalOriginal(LibraryObject):
    """The stand-in of one that was given its parameters outside of the function."""

    def __init__(self, original, standin):
        super().__init__(original, standin)
        parameters = original.mean, original.cov, original.allow_singular
        self._frozen = FrozenNormal(standin(original._dist), *parameters)

    def logpdf(self, x):
        return self._frozen.logpdf(x)

    def pdf(self, x):
        return self._frozen.pdf(x)
