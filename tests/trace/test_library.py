"""The libraries' own Python source in a trace: followed where x comes in, as it is elsewhere."""

import types

import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
import scipy.optimize
import scipy.signal
import scipy.stats
from scipy.spatial.transform import Rotation

import nbhvp
from nbhvp.graph.node import reachable
from nbhvp.trace.record import record

X = np.array([0.7, 1.3, 0.4])
POLYNOMIAL = np.poly1d([1.0, -2.0, 0.5])


class Scaled(np.poly1d):
    """A class of the user's, based on one of NumPy's."""

    factor = 3.0

    def __call__(self, value):
        return self.factor * super().__call__(value)


SCALED = Scaled([1.0, 2.0])


def written_after_it_was_made(x):
    polynomial = np.poly1d([1.0, 2.0])
    polynomial.extra = x[0]
    return polynomial(2.0) + np.sum(polynomial.extra * x)


NUMBERS = np.array([0.5, 1.1, 2.3, 0.9])
TEST = scipy.stats.ttest_1samp(np.outer(NUMBERS, [1.0, 2.0]), 0.3)

FOLLOWED = {
    "a function": lambda x: np.sum(scipy.signal.hilbert(x).imag ** 2),
    "behind __array_function__": lambda x: np.sum(np.polynomial.polynomial.polyval(x, x)),
    "a default that is a flag": lambda x: np.sum(scipy.linalg.toeplitz(x) @ x),
    "an object from outside": lambda x: np.sum(POLYNOMIAL(x)),
    "an object made of x": lambda x: np.sum(np.poly1d(x)(x)),
    "an operator": lambda x: np.sum((POLYNOMIAL * np.poly1d(x)).coeffs ** 2),
    "a class of the user's": lambda x: np.sum(SCALED(x)),
    "an attribute": written_after_it_was_made,
    "the function itself": scipy.optimize.rosen,
    "a tuple of SciPy's": lambda x: x[0] * scipy.stats.linregress(NUMBERS, NUMBERS**2).slope,
    "a tuple's method": lambda x: (
        x[0] * scipy.stats.ttest_1samp(NUMBERS, 0.3).confidence_interval().low
    ),
    "a tuple from outside": lambda x: np.sum(x[:2] * TEST.statistic * TEST.df),
    "memory of Cython's": lambda x: np.sum(Rotation.from_rotvec(NUMBERS[:3]).apply(x) ** 2),
}


def differences(function, x, step=1e-4):
    """The gradient by differences of order 6."""
    weights = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}

    def along(e):
        return sum(
            w * (function(x + k * step * e) - function(x - k * step * e))
            for k, w in weights.items()
        )

    return np.array([along(e) / step for e in np.eye(len(x))])


@pytest.mark.parametrize("name", FOLLOWED)
def test_followed(name):
    fun = FOLLOWED[name]
    f = nbhvp.differentiable(fun, target="interpret")
    assert f(X) == pytest.approx(fun(X), rel=1e-14)
    np.testing.assert_allclose(f.grad(X), differences(fun, X), 1e-9, 1e-10)
    v = np.array([0.3, -1.0, 0.5])
    hessian = np.array([differences(lambda y, k=k: f.grad(y)[k], X) for k in range(len(X))])
    np.testing.assert_allclose(f.hvp(X, v), hessian @ v, 1e-8, 1e-9)


def test_what_is_constant_is_the_librarys_own():
    def f(x):
        window = scipy.signal.get_window(("kaiser", 4.0), 3)
        polynomial = np.poly1d([1.0, 2.0])
        assert isinstance(polynomial, np.poly1d)
        return np.sum(window * x) * polynomial(3.0)

    trace = record(f, X)
    assert not trace.guards
    assert {node.primitive.name for node in reachable(trace.outputs)} <= {"input", "constant"} | {
        "multiply", "sum", "reshape", "broadcast", "cast",
    }  # fmt: skip


def test_branches_of_the_librarys_are_guards():
    """trim_zeros looks for the first number that is not 0."""
    trace = record(lambda x: np.trim_zeros(np.roll(x, 1)), X)
    assert trace.guards


def test_the_libraries_are_not_watched():
    """Only the user's function and what it names."""
    one = record(lambda x: np.sum(x**2), X).closure
    other = record(lambda x: scipy.optimize.rosen(x), X).closure
    assert len(other.watches) <= len(one.watches) + 1


def test_what_an_object_holds_is_watched():
    held = types.SimpleNamespace(polynomial=np.poly1d([1.0, 2.0]))
    f = nbhvp.differentiable(lambda x: np.sum(held.polynomial(x)), target="interpret")
    first = f(X)
    held.polynomial.coeffs[0] = 5.0
    assert f(X) != first
    assert f(X) == pytest.approx(np.sum(held.polynomial(X)))


def test_the_object_of_a_method_is_watched():
    polynomial = np.poly1d([1.0, 2.0])
    integral = polynomial.integ
    f = nbhvp.differentiable(lambda x: np.sum(integral(1)(2.0) * x), target="interpret")
    first = f(X)
    polynomial.coeffs[0] = 5.0
    assert f(X) == pytest.approx(first / 6 * 14)


def test_an_error_names_the_line_the_function_and_the_reason():
    words = r"test_library\.py:\d+ .*in scipy\.linalg\.signm: scipy\.linalg\.schur has no"
    with pytest.raises(nbhvp.TraceError, match=words):
        record(lambda x: np.sum(scipy.linalg.signm(np.outer(x, x))), X)
    with pytest.raises(ValueError, match="[Ss]ize|1-D|square") as error:
        record(lambda x: scipy.linalg.signm(x), X)
    assert not isinstance(error.value, nbhvp.TraceError)


MADE_UP = types.ModuleType("scipy._made_up")
SOURCE = """
from scipy.ndimage import distance_transform_edt

def careful(x):
    try:
        return distance_transform_edt(x)
    except TypeError:
        return 2 * x
"""
exec(compile(SOURCE, scipy.linalg.__file__, "exec"), vars(MADE_UP))


def test_an_error_of_ours_is_no_branch_of_the_librarys():
    """Code of the libraries may catch any TypeError, and a refusal is one."""
    assert MADE_UP.careful(np.ones(2)) is not None
    with pytest.raises(
        nbhvp.TraceError, match=r"test_library.*in scipy\.careful: .*no derivative rule"
    ):
        record(lambda x: np.sum(MADE_UP.careful(x)), X)
