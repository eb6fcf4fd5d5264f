"""Whose code it is: functions that bear the names of others, and Python's own ways to apply functions.

The oracle is the plain function, with its differences.
"""

import contextlib
import functools
import itertools
import math
import operator
import types

import numpy as np
import pytest
import scipy.fft
import scipy.linalg
import scipy.special

import nbhvp
from nbhvp.trace.surroundings.ownership import is_foreign, module_of
from tests.checks import assert_composition

X = np.linspace(0.55, 1.6, 6).reshape(2, 3)


# User's functions with the names of a library's.


@functools.wraps(np.sum)
def total(x, dim=None):
    return 3 * np.sum(x, axis=dim)


@functools.wraps(np.exp)
def exp(x):
    return 2 * np.exp(x)


@functools.wraps(math.exp)
def exp_of_number(x):
    return 2 * math.exp(x)


@functools.wraps(scipy.special.erf)
def erf(x, k=2):
    return k * scipy.special.erf(x)


@functools.wraps(scipy.linalg.norm)
def length(x):
    out = np.zeros(1)
    out[0] = np.sum(x**2)
    return out[0]


def mean(x):
    return 5 * np.mean(x)


functools.update_wrapper(mean, np.mean)


def twice(f):
    @functools.wraps(f)
    def doubled(*args, **kwargs):
        return 2 * f(*args, **kwargs)

    return doubled


def scaled(by):
    def decorate(f):
        @functools.wraps(f)
        def inner(x):
            return by * f(x)

        return inner

    return decorate


@scaled(2.5)
@scaled(2.0)
@twice
def squares(x):
    return np.sum(x**2)


class Twice:
    def __init__(self, f):
        self.f = f
        functools.update_wrapper(self, f)

    def __call__(self, *args, **kwargs):
        return 2 * self.f(*args, **kwargs)


class Methods:
    sum = staticmethod(np.sum)
    power = functools.partialmethod(lambda self, x, k: np.sum(x**k), k=2)

    @functools.wraps(np.prod)
    def prod(self, x):
        return 2 * np.prod(x)


def named(x):
    return 7 * np.sum(x**2)


named.__module__, named.__name__, named.__qualname__ = "scipy.special", "erf", "erf"


def unnamed(x):
    return np.sum(x**3)


unnamed.__module__ = None

rows = functools.update_wrapper(functools.partial(np.sum, axis=1), np.sum)
add_up = twice(twice(np.sum))
wrapped_object, own_object = Twice(np.sum), Twice(squares)
methods = Methods()
squares_of_rows = np.vectorize(lambda row: np.sum(row**2), signature="(n)->()")


@np.errstate(all="ignore")
def quiet(x):
    return np.sum(np.exp(x))


@contextlib.contextmanager
def timed():
    yield 2.0


@timed()
def measured(x):
    out = np.zeros(2)
    out[:] = x[:, 0] ** 2
    return np.sum(out)


@functools.lru_cache
def grid(n):
    return np.arange(n) + 0.5


NAMED = {
    "wraps": lambda x: np.sum(total(x, dim=0) ** 2) + total(x),
    "wraps a ufunc": lambda x: np.sum(exp(x)),
    "wraps math": lambda x: exp_of_number(x[0, 0]),
    "wraps SciPy's ufunc": lambda x: np.sum(erf(x, k=3)),
    "wraps SciPy's function": lambda x: length(x),
    "update_wrapper": lambda x: mean(x**2),
    "chain": lambda x: add_up(x**2),
    "chain of own": lambda x: squares(x),
    "object": lambda x: wrapped_object(x**2),
    "object over own": lambda x: own_object(x),
    "partial": lambda x: np.sum(rows(x) ** 2),
    "method": lambda x: methods.prod(x) + methods.sum(x**2) + methods.power(x),
    "names set": lambda x: named(x),
    "no module": lambda x: unnamed(x),
    "in a table": lambda x: sum(np.sum(f(x)) for f in {"a": exp, "b": np.exp, "c": total}.values()),
    "made inside": lambda x: np.sum(twice(np.cumsum)(x)),
    "lambda": lambda x: functools.wraps(np.dot)(lambda a, b: a @ b + np.sum(a))(x[0], x[1]),
    "NumPy's decorator": lambda x: quiet(x),
    "contextlib's decorator": lambda x: measured(x),
    "cache": lambda x: np.sum(grid(3) * x**2),
}
DIRECT = (
    total,
    mean,
    add_up,
    squares,
    wrapped_object,
    own_object,
    methods.prod,
    named,
    unnamed,
    quiet,
)


@pytest.mark.parametrize("name", NAMED)
def test_functions_with_the_names_of_others(name):
    assert_composition(NAMED[name], X)


@pytest.mark.parametrize("number", range(len(DIRECT)))
def test_such_functions_made_differentiable(number):
    fun = DIRECT[number]
    f = nbhvp.differentiable(fun, target="interpret")
    assert f(X) == pytest.approx(fun(X), rel=1e-14)
    h, v = 1e-6, np.cos(X)
    difference = (fun(X + h * v) - fun(X - h * v)) / (2 * h)
    assert np.sum(f.grad(X) * v) == pytest.approx(difference, rel=1e-7)


def test_what_wrapped_functions_read_is_watched():
    scale = 2.0

    @functools.wraps(np.sum)
    def mine(x):
        return scale * np.sum(x)

    f = nbhvp.differentiable(lambda x: mine(x), target="interpret")
    g = nbhvp.differentiable(np.errstate(all="ignore")(mine), target="interpret")
    assert f(X) == g(X) == 2 * np.sum(X)
    scale = 3.0
    assert f(X) == g(X) == 3 * np.sum(X)


@pytest.mark.parametrize(
    "thing, module",
    [
        (total, __name__),
        (np.sum, "numpy"),
        (np.linalg.det, "numpy.linalg"),
        (math.sin, "math"),
        (scipy.special.logsumexp, "scipy.special"),
        (scipy.linalg.expm, "scipy.linalg"),
        (scipy.fft.rfft, "scipy.fft"),
        (wrapped_object, __name__),
        (Twice, __name__),
        (rows, "functools"),
        (methods.prod, __name__),
        (quiet, __name__),
        (unnamed, ""),
        (types.SimpleNamespace(__module__="numpy"), "types"),
    ],
)
def test_the_module_of_a_thing(thing, module):
    assert module_of(thing).startswith(module) and not (module == "" and module_of(thing))
    assert is_foreign(module_of(thing)) == is_foreign(module)


# Python's own ways to apply functions.

APPLIED = {
    "vectorize": lambda x: np.sum(np.vectorize(lambda a, b: a * b + math.sin(a))(x, 2 * x)),
    "vectorize math": lambda x: np.sum(np.vectorize(math.exp)(x)),
    "vectorize rows": lambda x: np.sum(squares_of_rows(x)),
    "reduce ufunc": lambda x: functools.reduce(np.logaddexp, x.ravel()),
    "reduce dot": lambda x: np.sum(functools.reduce(np.dot, [x.T, x, x.T])),
    "reduce operator": lambda x: functools.reduce(operator.mul, x.ravel()),
    "reduce from": lambda x: functools.reduce(lambda a, b: a * b + 1, x.ravel(), 1.0),
    "partial": lambda x: np.sum(functools.partial(np.power, 2.0)(x)),
    "operators": lambda x: operator.add(operator.mul(x[0, 0], x[0, 1]), operator.pow(x[1, 1], 2)),
    "matmul": lambda x: np.sum(operator.matmul(x, operator.attrgetter("T")(x))),
    "itemgetter": lambda x: np.prod(operator.itemgetter(0, 2)(x.ravel())),
    "methodcaller": lambda x: operator.methodcaller("sum", axis=0)(x**2)[1],
    "iadd": lambda x: np.sum(operator.iadd(x * 1, x) ** 2),
    "map": lambda x: sum(map(math.sin, x.ravel())) + sum(map(np.sin, x.ravel())),
    "map of two": lambda x: sum(map(operator.mul, x[0], x[1])),
    "map own": lambda x: sum(map(exp, x.ravel())),
    "filter": lambda x: sum(filter(lambda a: a > 1, x.ravel())),
    "zip": lambda x: sum(a * b for a, b in zip(x[0], x[1], strict=True)),
    "accumulate": lambda x: sum(itertools.accumulate(x.ravel(), operator.mul)),
    "accumulate ufunc": lambda x: sum(itertools.accumulate(x.ravel(), np.logaddexp)),
    "product": lambda x: sum(a * b for a, b in itertools.product(x[0], x[1])),
    "combinations": lambda x: sum(a * b for a, b in itertools.combinations(x.ravel(), 2)),
    "starmap": lambda x: sum(itertools.starmap(lambda a, b: a * b, zip(x[0], x[1], strict=True))),
    "sorted": lambda x: sorted(x.ravel(), key=lambda a: -a)[2] ** 2,
    "max and min": lambda x: max(x.ravel()) * min(x.ravel(), key=lambda a: -a),
    "math of many": lambda x: math.prod(x[0]) + math.fsum(x[1]) + math.dist(x[0], x[1]),
    "apply_along_axis": lambda x: np.sum(np.apply_along_axis(lambda row: row**2, 0, x)),
}


@pytest.mark.parametrize("name", APPLIED)
def test_functions_applied(name):
    assert_composition(APPLIED[name], X)


def test_a_ufunc_of_a_function_is_refused_with_its_name():
    multiply = np.frompyfunc(lambda a, b: a * b, 2, 1)
    with pytest.raises(nbhvp.TraceError, match=r"test_ownership.py:\d+ .*<lambda> \(vectorized\)"):
        nbhvp.differentiable(lambda x: np.sum(multiply(x, x)), target="interpret")(X)
