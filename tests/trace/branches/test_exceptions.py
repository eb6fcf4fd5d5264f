"""Exceptions that depend on values are branches: caught, they lead elsewhere; uncaught, they come."""

import math
import re
import warnings

import numpy as np
import pytest
from numba import njit

import nbhvp

pytestmark = pytest.mark.filterwarnings("error")

POINTS = [
    np.array([a, 2.0])
    for a in (4.0, -1.0, 9.0, 0.0, 2e3, np.nan, -0.5, np.inf, 1.0, -3.0, 25.0, 1e200, -np.inf)
]


def caught(body, *errors):
    errors = errors or (ValueError,)

    def fun(x):
        try:
            return body(x)
        except errors:
            return 5 * x[1]

    return fun


def told(**state):
    """Where NumPy is told to raise."""

    def with_state(body):
        def fun(x):
            with np.errstate(**state):
                return caught(body, FloatingPointError)(x)

        return fun

    return with_state


def strict(body):
    def fun(x):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return caught(body, RuntimeWarning)(x)

    return fun


def seen(body):
    def fun(x):
        with warnings.catch_warnings(record=True) as messages:
            warnings.simplefilter("always")
            result = body(x)
        return 5 * x[1] if messages else result

    return fun


def with_else(x):
    try:
        y = math.sqrt(x[0])
    except ValueError:
        y = 2.0
    else:
        y = 3 * y
    finally:
        z = x[1]
    return y * z


def raised_anew(x):
    try:
        return math.log(x[0]) * x[1]
    except ValueError as error:
        raise KeyError("mine") from error


scope = {}
# By exec, for pytest reads the values of what it asserts.
exec("def asserted(x):\n    assert x[0] > 0, 'positive'\n    return x[0] * x[1]\n", scope)
asserted = scope["asserted"]


@njit
def quotient(x):
    return 1.0 / x[0] + x[1]


@njit
def refusing(x):
    total = 0.0
    for i in range(2):
        if x[0] < 0:
            raise ValueError("negative")
        total += np.sqrt(x[0]) * x[i]
    return total


BOTH = (ValueError, OverflowError)
testing = np.testing
CASES = {
    "sqrt": caught(lambda x: math.sqrt(x[0]) + x[1]),
    "log": caught(lambda x: math.log(x[0]) + x[1]),
    "log of a base": caught(lambda x: math.log(x[0], 2) + x[1]),
    "log1p": caught(lambda x: math.log1p(x[0]) + x[1]),
    "exp": caught(lambda x: math.exp(x[0]) + x[1], OverflowError),
    "cosh": caught(lambda x: math.cosh(x[0]) + x[1], OverflowError),
    "acos": caught(lambda x: math.acos(x[0]) + x[1]),
    "atanh": caught(lambda x: math.atanh(x[0]) + x[1]),
    "sin": caught(lambda x: math.sin(x[0]) + x[1]),
    "gamma": caught(lambda x: math.gamma(x[0]) + x[1], *BOTH),
    "pow": caught(lambda x: math.pow(x[0], 1.5) + x[1], *BOTH),
    "pow of -1": caught(lambda x: math.pow(x[0], -1) * x[1], *BOTH),
    "fmod": caught(lambda x: math.fmod(x[1], x[0]) + x[1]),
    "of all": caught(lambda x: sum(math.exp(v) + math.log(v) for v in x), *BOTH),
    "not used": caught(lambda x: (math.log(x[0]), 2 * x[1])[1]),
    "int": caught(lambda x: int(x[0]) + x[1], *BOTH),
    "round": caught(lambda x: round(x[0]) + x[1], *BOTH),
    "floor": caught(lambda x: math.floor(x[0] / 1e190) + x[1], *BOTH),
    "quotient of numbers": caught(lambda x: 1 / x[0].item() + x[1], ZeroDivisionError),
    "quotient of floats": caught(lambda x: x[1] / float(x[0]) + x[1], ZeroDivisionError),
    "two numbers": caught(lambda x: x[1].item() / float(x[0]), ZeroDivisionError),
    "remainder": caught(lambda x: x[1].item() % x[0].item() + x[1], ZeroDivisionError),
    "whole quotient": caught(lambda x: x[1].item() // x[0].item() + x[1], ZeroDivisionError),
    "divmod": caught(lambda x: divmod(x[1].item(), x[0].item())[1] + x[1], ZeroDivisionError),
    "power": caught(lambda x: x[0].item() ** -1.0 + x[1], ZeroDivisionError),
    "large power": caught(lambda x: x[0].item() ** 100.0 + x[1], OverflowError),
    "complex power": lambda x: abs(x[0].item() ** 0.5) + x[1],
    "quotient of NumPy's": caught(lambda x: 1 / x[0] + x[1], ZeroDivisionError),
    "invalid": told(invalid="raise")(lambda x: np.sqrt(x[0]) + x[1]),
    "divide": told(divide="raise")(lambda x: x[1] / x[0]),
    "over": told(over="raise")(lambda x: np.exp(x[0]) + x[1]),
    "product": told(over="raise")(lambda x: x[0] * x[0] + x[1]),
    "under": told(under="raise")(lambda x: np.exp(-x[0]) + x[1]),
    "all": told(all="raise")(lambda x: np.log(x[0]) * x[1]),
    "all of arrays": told(all="raise")(lambda x: np.sum(np.sqrt(x))),
    "strict warnings": strict(lambda x: np.sqrt(x[0]) + x[1]),
    "warnings seen": seen(lambda x: np.log(x[0]) + x[1]),
    "index": caught(lambda x: 3 * x[np.rint(np.clip(x[0], -9, 9)).astype(int) - 1], IndexError),
    "logarithm to a base": caught(
        lambda x: math.log(2.0, x[0]) * x[1], ValueError, ZeroDivisionError
    ),
    "sum of an iterator": caught(lambda x: math.fsum(math.log(v) for v in x)),
    "bincount": caught(
        lambda x: (
            np.bincount(np.rint(np.clip(x, -3, 9)).astype(int)).size * x[1] if x[0] < 99 else x[1]
        )
    ),
    "range of a histogram": caught(
        lambda x: np.histogram(np.ones(2), 2, (x[0], x[1]))[0].sum() * x[1]
    ),
    "number of points": caught(
        lambda x: np.linspace(0, x[1], int(np.clip(x[0], -2, 9))).sum() + x[1]
    ),
    "key": caught(
        lambda x: {4: 1.0, 9: 2.0}[int(x[0])] * x[1], KeyError, ValueError, OverflowError
    ),
    "else and finally": with_else,
    "raised anew": raised_anew,
    "not caught": lambda x: math.sqrt(x[0]) + 1 / float(x[0]) + x[1],
    "assert": asserted,
    "assert caught": caught(asserted, AssertionError),
    "a compiled quotient": caught(quotient, ZeroDivisionError),
    "a compiled loop": caught(refusing),
    "assert_allclose": caught(
        lambda x: (testing.assert_allclose(x[0], 9.0, rtol=0.5), 2 * x[0])[1], AssertionError
    ),
    "assert_array_equal": caught(
        lambda x: (testing.assert_array_equal(x > 0, [True, True]), 2 * x[0])[1], AssertionError
    ),
    "assert_array_less": lambda x: (testing.assert_array_less(x[0], x[1]), 2 * x[0])[1],
    "assert_almost_equal": caught(
        lambda x: (testing.assert_almost_equal(x[0], 25.0, 3), 2 * x[0])[1], AssertionError
    ),
    "assert_": caught(lambda x: (testing.assert_(x[0] > 0), 2 * x[0])[1], AssertionError),  # noqa: PT009
}


def outcome(fun, x):
    try:
        return fun(x)
    except nbhvp.TraceError:
        raise
    except Exception as error:
        return type(error), str(error).split("\n")[0]


def assert_alike(fun, target):
    f = nbhvp.differentiable(fun, target=target)
    for x in [*POINTS, *reversed(POINTS)]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the plain function
            right = outcome(fun, x)
        found = outcome(f, x)
        if isinstance(right, tuple):
            assert found == right, x
        else:
            assert np.allclose(found, right, rtol=1e-12, equal_nan=True), x
    return f


@pytest.mark.parametrize("name", CASES)
def test_exceptions_are_branches(name):
    assert_alike(CASES[name], "interpret")


@pytest.mark.compiles
@pytest.mark.parametrize("name", ["of all", "quotient of numbers", "all"])
def test_compiled_they_are_too(name):
    assert_alike(CASES[name], "cpu")


def told_apart(function):
    """Of a function that raises two kinds of exceptions: the way taken for each."""

    def fun(x):
        try:
            return function(x)
        except ValueError:
            return 2 * x[1]
        except OverflowError:
            return 3 * x[1]

    return fun


@pytest.mark.parametrize(
    ("fun", "points"),
    [
        (lambda x: math.pow(x[0], x[1]), [[2, 0.5], [-2, 0.5], [1e300, 2], [0, -1], [1e200, 3]]),
        (lambda x: math.gamma(x[0]) * x[1], [[2, 3], [-1, 3], [300, 3], [0, 3], [200, 3]]),
        (lambda x: math.lgamma(x[0]) * x[1], [[2, 3], [-1, 3], [1e308, 3], [0, 3], [1.1e308, 3]]),
        (lambda x: int(x[0]) * x[1], [[2.5, 3], [math.nan, 3], [math.inf, 3], [math.nan, 1]]),
        (lambda x: x[0].item() ** 2 * x[1], [[2, 3], [1e200, 3], [3, 3], [1e201, 3]]),
    ],
)
def test_one_function_raises_two_kinds_of_exceptions(fun, points):
    fun = told_apart(fun)
    for way in (points, points[::-1]):
        f = nbhvp.differentiable(fun, target="interpret")
        for x in map(np.array, way):
            assert f(1.0 * x) == fun(1.0 * x), x


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: x[0].item() ** 2 / x[1].item(),
        lambda x: math.fsum(x) / math.prod(x),
        lambda x: math.sqrt(sum(x.tolist())) * x[1],
        lambda x: math.hypot(*x) * math.log(x[0]),
        lambda x: divmod(x[0].item(), 0.7)[1] ** 2,
    ],
)
def test_numbers_of_python_are_doubles_in_single_precision_too(fun):
    x, v = np.array([1.5, 2.5]), np.array([1.0, -2.0])
    f = nbhvp.differentiable(fun, target="interpret")
    assert np.isclose(f(np.float32(x)), fun(np.float32(x)), rtol=1e-6)
    assert np.allclose(f.hvp(np.float32(x), np.float32(v)), f.hvp(x, v), rtol=1e-5, atol=1e-6)


def test_derivatives_are_those_of_the_way_taken():
    f = nbhvp.differentiable(CASES["sqrt"], target="interpret")
    assert f.grad(POINTS[0]).tolist() == [0.25, 1.0]
    assert f.grad(POINTS[1]).tolist() == [0.0, 5.0]
    assert f.hvp(POINTS[2], np.ones(2)).tolist() == [-0.25 / 27, 0.0]


def test_one_guard_stands_for_all_that_raises_nothing():
    f = nbhvp.trace.record.record(CASES["of all"], POINTS[0])
    assert len(f.guards) == 1


def test_a_special_case_at_a_pole_loses_its_derivative():
    fun = caught(lambda x: math.sin(x[0]) / float(x[0]) * x[1], ZeroDivisionError)
    with pytest.raises(nbhvp.TraceError, match="is lost"):
        nbhvp.differentiable(fun, target="interpret").grad(np.zeros(2))


@nbhvp.elementwise(partials=lambda z, x: (1 / x,))
def unkind(x):
    if np.any(x < 0):
        raise ValueError("negative")
    return np.log(x)


def divided(x):
    total = 0.0
    for i in range(2):
        total += 1.0 / x[i]
    return total


@pytest.mark.compiles
@pytest.mark.parametrize(
    ("body", "error"), [(unkind, ValueError), (njit(divided), ZeroDivisionError)]
)
def test_what_no_guard_can_tell_must_not_be_caught(body, error):
    for seen in ([], [np.ones(2)]):  # where the function is traced first, and at a later point
        f = nbhvp.differentiable(caught(lambda x: np.sum(body(x)), error), target="interpret")
        for x in seen:
            f(x)
        with pytest.raises((nbhvp.TraceError, error)) as told:
            f(np.array([-1.0, 0.0]))
        is_told = re.search(rf"catches {error.__name__}.*no guard can tell", str(told.value))
        assert is_told or (seen and told.type is error)


@pytest.mark.compiles
def test_what_nobody_catches_needs_no_guard_of_divisors():
    compiled = njit(divided)
    assert not nbhvp.trace.record.record(lambda x: compiled(x), np.ones(2)).guards


def test_whole_numbers_beyond_64_bits_are_refused():
    with pytest.raises(nbhvp.TraceError, match="64 bits"):
        nbhvp.differentiable(lambda x: math.floor(x[0]) * x[0], target="interpret")([1e20])
