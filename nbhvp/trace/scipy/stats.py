"""Distributions of scipy.stats: densities, distribution functions and quantiles in all parameters.

SciPy's methods of a law move and scale its argument, y = (x - loc) / scale, and put the values of the
standard form into arrays under masks, which would be guards. Here one place does the same by choices:
the form is asked at y where y is in the support and at a point inside of it elsewhere, and what it
gives is chosen there; outside it is -inf or 0 or 1, and NaN where a parameter is not allowed. The
standard form itself (`_logpdf`, `_cdf`, `_ppf`, ...), the support and the checks of parameters are
SciPy's own source, which is followed. `FORMS` has those that SciPy gives with less range.

Objects of scipy.stats are known by the names of their classes: importing it takes long.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy.special as special

from nbhvp.trace.answers import answers
from nbhvp.trace.arrays import Traced, lift, trace_error, traced_in
from nbhvp.trace.dispatch import call
from nbhvp.trace.kinds import LibraryObject
from nbhvp.trace.numpy.elementwise import floating, floats, where
from nbhvp.trace.scipy.special import log1p_over
from nbhvp.trace.surroundings.ownership import is_library, module_of

__all__: list[str] = []

LOG_2, LOG_PI, LOG_2PI = math.log(2), math.log(math.pi), math.log(2 * math.pi)


def _student(y, df):
    size = special.gammaln(0.5 * (df + 1)) - special.gammaln(0.5 * df) - 0.5 * np.log(math.pi * df)
    return size - 0.5 * (df + 1) * np.log1p(y * y / df)


def _dgamma(y, a):
    tail = 0.5 * special.gammaincc(a, abs(y))
    return where(y > 0, 1 - tail, tail)


def _dgamma_quantile(q, a):
    size = special.gammainccinv(a, 1 - abs(2 * q - 1))
    return where(q > 0.5, size, -size)


def _extreme(y, c):
    """log(-log F) of genextreme, log(1 - c y) / c, smooth in c at 0."""
    return -y * log1p_over(-c * y)


def _genextreme(y, c):
    size = (1 - c) * _extreme(y, c) - np.exp(_extreme(y, c))
    return where(c * y == 1, where(c == 1, 0.0, -math.inf), size)


def _genextreme_quantile(y, c):
    """Of y = -log(-log F)."""
    return y * special.exprel(-c * y)


FORMS = {
    "bernoulli": {"cdf": lambda k, p: 1 - p, "sf": lambda k, p: p},
    "beta": {"ppf": lambda q, a, b: special.betaincinv(a, b, q)},
    "binom": {
        "cdf": lambda k, n, p: special.bdtr(np.floor(k), n, p),
        "sf": lambda k, n, p: special.bdtrc(np.floor(k), n, p),
    },
    "cauchy": {
        "logpdf": lambda y: -LOG_PI - np.log1p(y * y),
        "ppf": lambda q: -1 / np.tan(math.pi * q),
        "isf": lambda q: 1 / np.tan(math.pi * q),
    },
    "chi2": {"isf": lambda q, df: 2 * special.gammainccinv(0.5 * df, q)},
    "dgamma": {
        "cdf": _dgamma,
        "sf": lambda y, a: _dgamma(-y, a),
        "ppf": _dgamma_quantile,
        "isf": lambda q, a: -_dgamma_quantile(q, a),
    },
    "genextreme": {
        "logpdf": _genextreme,
        "cdf": lambda y, c: np.exp(-np.exp(_extreme(y, c))),
        "sf": lambda y, c: -np.expm1(-np.exp(_extreme(y, c))),
        "logcdf": lambda y, c: -np.exp(_extreme(y, c)),
        "ppf": lambda q, c: _genextreme_quantile(-np.log(-np.log(q)), c),
        "isf": lambda q, c: _genextreme_quantile(-np.log(-np.log1p(-q)), c),
    },
    "genpareto": {
        "logpdf": lambda y, c: -(c + 1) * y * log1p_over(c * y),
        "logsf": lambda y, c: -y * log1p_over(c * y),
    },
    "laplace": {"logpdf": lambda y: -abs(y) - LOG_2},
    "lognorm": {"logpdf": lambda y, s: -0.5 * (np.log(y) / s) ** 2 - np.log(s * y) - 0.5 * LOG_2PI},
    "nbinom": {
        "cdf": lambda k, n, p: special.betainc(n, np.floor(k) + 1, p),
        "sf": lambda k, n, p: special.betaincc(n, np.floor(k) + 1, p),
    },
    "pareto": {
        "logpdf": lambda y, b: np.log(b) - (b + 1) * np.log(y),
        "cdf": lambda y, b: -np.expm1(-b * np.log(y)),
    },
    "t": {"logpdf": _student},
}
"""Standard forms that SciPy computes in C, or by cases of a parameter that would be guards or that have
another derivative than the law, or takes the logarithm of where they underflow."""
DENSITIES = ("logpdf", "pdf", "logpmf", "pmf")
QUANTILES = ("ppf", "isf")
METHODS = (*DENSITIES, "cdf", "sf", "logcdf", "logsf", *QUANTILES)
OUTSIDE = {
    "logpdf": (-math.inf, -math.inf), "pdf": (0, 0), "logpmf": (-math.inf, -math.inf), "pmf": (0, 0),
    "cdf": (0, 1), "sf": (1, 0), "logcdf": (-math.inf, 0), "logsf": (0, -math.inf),
}  # fmt: skip
"""The values of a method below and above the support."""


class StandardForm:
    """A law of scipy.stats for loc = 0 and scale = 1, its methods followed through SciPy's source.

    Parameters
    ----------
    original
        The law.
    standin : callable
        The stand-in of its methods.
    """

    def __init__(self, original, standin):
        self._original = original
        self._standin = standin
        kind = type(original)
        is_scipys = is_library(module_of(kind)) and kind.__name__ == f"{original.name}_gen"
        self.name = original.name
        self._forms = FORMS.get(original.name, {}) if is_scipys else {}
        self.is_discrete = hasattr(original, "pmf")

    def own(self, name: str, *args):
        """A method of SciPy's."""
        return self._standin(getattr(self._original, name))(*args)

    def has(self, name: str) -> bool:
        """Whether the law has a method of its own, which is not derived from others by SciPy."""
        base = "rv_discrete" if self.is_discrete else "rv_continuous"
        kinds = type(self._original).__mro__
        return next(kind for kind in kinds if name in vars(kind)).__name__ not in (
            base, "rv_generic", "rv_sample",
        )  # fmt: skip

    def __call__(self, name: str, y, shapes):
        """A method of the standard form, of y inside of the support."""
        if name in self._forms:
            return self._forms[name](y, *shapes)
        if name.startswith("log") and (not self.has(f"_{name}") or name[3:] in self._forms):
            if name in ("logcdf", "logsf"):
                return self._logarithm(name[3:], y, shapes)
            return np.log(self.own(f"_{name[3:]}", y, *shapes))
        if name in ("pdf", "pmf") and self.has(f"_log{name}"):
            return np.exp(self(f"log{name}", y, shapes))
        return self.own(f"_{name}", y, *shapes)

    def _logarithm(self, name: str, y, shapes):
        """log(F), or log(1 - S) by the other tail S where that is the smaller."""
        value = self(name, y, shapes)
        is_large = value > 0.5
        rest = where(is_large, self("sf" if name == "cdf" else "cdf", y, shapes), 0.5)
        return where(is_large, np.log1p(-rest), np.log(where(is_large, 0.5, value)))

    def support(self, shapes) -> tuple:
        return self.own("_get_support", *shapes)

    def inside(self, name: str, y, shapes):
        """Where y is such that the form is asked."""
        if not self.is_discrete:
            mask = "_support_mask" if name in DENSITIES else "_open_support_mask"
            return self.own(mask, y, *shapes) & np.isfinite(y)
        low, high = self.support(shapes)
        if name in DENSITIES:
            return (y >= low) & (y <= high) & np.isfinite(y) & self.own("_nonzero", y, *shapes)
        return (y >= low) & (y < high) & np.isfinite(y)


def _inner(low, high, is_discrete: bool):
    """A point of the support, which stands in for those outside."""
    if is_discrete:
        return where(np.isfinite(low), low, where(np.isfinite(high), high, 0.0))
    choose = where
    if not isinstance(low, Traced) and not isinstance(high, Traced):
        choose = np.where
    has_low, has_high = np.isfinite(low), np.isfinite(high)
    one_end = choose(has_low, low + 0.5, choose(has_high, high - 0.5, 0.5))
    point = choose(has_low & has_high, 0.5 * (low + high), one_end)
    # Of the steps of a fine stair: a constant to derivatives, which may be infinite where an end is.
    return np.floor(point * 2.0**30) * 2.0**-30


def _value(law: StandardForm, name: str, y, loc, scale, shapes):
    """A method of a law at traced arguments."""
    if law.is_discrete and name in QUANTILES:
        raise trace_error(
            f"a quantile of the discrete law {law.name}", "it is a step function: leave it out"
        )
    y, loc, scale, *shapes = floats(y, loc, scale, *shapes)
    shape = np.broadcast_shapes(y.shape, loc.shape, scale.shape, *(s.shape for s in shapes))
    y, loc, scale, *shapes = (_flat(value, shape) for value in (y, loc, scale, *shapes))
    valid = (scale > 0) & law.own("_argcheck", *shapes) & ~np.isnan(loc)
    if name in QUANTILES:
        result = loc + scale * _quantile(law, name, y, shapes)
    else:
        y = (y - loc) / scale
        valid = valid & ~np.isnan(y)
        result = _chosen(law, name, y, shapes)
        if name == "logpdf":
            result = result - np.log(scale)
        elif name == "pdf":
            result = result / scale
    return np.reshape(where(valid, result, math.nan), shape)


def _flat(value, shape: tuple):
    """A parameter as SciPy gives it to standard forms: of one axis, of one element or of all."""
    is_small = value.size == 1 or value.shape == shape
    return np.reshape(value if is_small else np.broadcast_to(value, shape), -1)


def _chosen(law: StandardForm, name: str, y, shapes):
    """The standard form where y is in the support, and what is known outside of it."""
    inside = law.inside(name, y, shapes)
    low, high = law.support(shapes)
    result = law(name, where(inside, y, _inner(low, high, law.is_discrete)), shapes)
    below, above = OUTSIDE[name]
    outside = below if below == above else where(y < high, below, above)
    return where(inside, result, outside)


def _quantile(law: StandardForm, name: str, q, shapes):
    """The quantile of the standard form; the ends of the support at 0 and 1."""
    low, high = law.support(shapes)
    if name == "isf":
        low, high = high, low
    inside = (q > 0) & (q < 1)
    result = law(name, where(inside, q, 0.5), shapes)
    depends = isinstance(low, Traced) or isinstance(high, Traced)
    if depends and not np.any((q == 0) | (q == 1)):
        return where(inside, result, math.nan)  # an end may have no derivative
    return where(inside, result, where(q == 0, low, where(q == 1, high, math.nan)))


# The objects of scipy.stats.


@answers("scipy.stats.rv_generic")
class Distribution(LibraryObject):
    """The stand-in of scipy.stats.norm and its kin."""

    def __call__(self, *args, **kwargs):
        return Frozen(self, args, kwargs)

    freeze = __call__


def _method(name):
    def method(self, x, *args, **kwargs):
        function = getattr(self.original, name)
        if not any(True for _ in traced_in(x, args, kwargs)):
            return call(function, (x, *args), kwargs)
        shapes, loc, scale = self.original._parse_args(*args, **kwargs)
        return _value(StandardForm(self.original, self._standin), name, x, loc, scale, shapes)

    return method


for _name in METHODS:
    setattr(Distribution, _name, _method(_name))


class Frozen(LibraryObject):
    """A distribution with its parameters."""

    def __init__(self, distribution, args, kwargs):
        self.distribution, self.args, self.kwds = distribution, args, kwargs

    @property
    def is_live(self) -> bool:
        """Whether a parameter is traced."""
        return any(True for _ in traced_in(self.args, self.kwds))

    @property
    def original(self):
        """The distribution of SciPy's, of constant parameters."""
        return self.distribution.original(*self.args, **self.kwds)

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        function = getattr(self.distribution, name)
        if not callable(function):
            return function
        return lambda *x, **named: function(*x, *named.values(), *self.args, **self.kwds)

    @property
    def dist(self):
        return self.distribution

    # Methods that take what is theirs after the parameters.

    def stats(self, moments="mv"):
        return self.distribution.stats(*self.args, **{**self.kwds, "moments": moments})

    def rvs(self, size=None, random_state=None):
        named = {**self.kwds, "size": size, "random_state": random_state}
        return self.distribution.rvs(*self.args, **named)

    def expect(self, func=None, lb=None, ub=None, conditional=False, **named):
        law = self.distribution.original
        shapes, loc, scale = law._parse_args(*self.args, **self.kwds)
        moved = (loc,) if hasattr(law, "pmf") else (loc, scale)
        return self.distribution.expect(func, shapes, *moved, lb, ub, conditional, **named)

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
            return call(self.original.logpdf, (x, mean, cov, allow_singular), {})
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

    def cdf(self, x, **named):
        return self.distribution.cdf(x, self.mean, self.cov, self.allow_singular, **named)

    def logcdf(self, x, **named):
        return self.distribution.logcdf(x, self.mean, self.cov, self.allow_singular, **named)

    def entropy(self):
        return self.distribution.entropy(self.mean, self.cov)

    def marginal(self, dimensions):
        return self.distribution.marginal(dimensions, self.mean, self.cov, self.allow_singular)

    def rvs(self, size=1, random_state=None):
        return self.distribution.rvs(self.mean, self.cov, size, random_state=random_state)


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
