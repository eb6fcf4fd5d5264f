"""Functions with rules of the user's own: against the same in NumPy, and every way to be wrong."""

import ctypes
import math
import pickle
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numba import njit
from scipy import special

import nbhvp
from nbhvp.graph.derive import EXACT_MODES

pytestmark = pytest.mark.usefixtures("unsplit")

X = np.array([0.3, 1.2, 2.0, 0.7])
V = np.array([1.0, -0.5, 0.25, 2.0])


# Elementwise functions.


@nbhvp.elementwise(partials=lambda z, x: (own_cos(x),))
@njit
def own_sin(x):
    out = np.empty_like(x)
    for i in range(x.size):
        out.flat[i] = math.sin(x.flat[i])
    return out


@nbhvp.elementwise(partials=lambda z, x: -own_sin(x))
def own_cos(x):
    return np.cos(x)


C_TGAMMA = ctypes.CDLL(None).tgamma
C_TGAMMA.restype, C_TGAMMA.argtypes = ctypes.c_double, [ctypes.c_double]


@nbhvp.elementwise(partials=lambda z, x: (z * special.digamma(x),))
def c_gamma(x):
    return np.array([C_TGAMMA(one) for one in x.ravel()]).reshape(x.shape)


@nbhvp.elementwise(partials=lambda z, x, y: (own_quotient(1.0, y), -z / y))
def own_quotient(x, y):
    return x / y


@nbhvp.elementwise(partials=lambda z, n, x: (None, n * own_power(n - 1, x)))
def own_power(n, x):
    return x**n


TABLE = np.array([0.0, 1.0, 4.0, 9.0])


@nbhvp.elementwise(partials=lambda z, k, x: (None, TABLE[k]))
def looked_up(k, x):
    return TABLE[k] * x


@nbhvp.elementwise(partials=lambda z, x: z)
def own_exp(x):
    return np.exp(x)


# Functions of arrays.


@nbhvp.custom_jvp
def root(a):
    """The positive root of x + x^5 = a."""
    return np.array([np.roots([1, 0, 0, 0, 1, -c])[-1].real for c in a])


@root.defjvp
def root_jvp(primals, tangents):
    (a,), (a_dot,) = primals, tangents
    x = root(a)
    return x, a_dot / (1 + 5 * x**4)


@nbhvp.custom_jvp
def gram(A, scale):
    return scale * (A.T @ A)


@gram.defjvp
def gram_jvp(primals, tangents):
    (A, scale), (A_dot, scale_dot) = primals, tangents
    half = A.T @ A_dot
    return scale * (A.T @ A), scale * (half + half.T) + scale_dot * (A.T @ A)


@nbhvp.custom_jvp
def total(x):
    return x.sum()


@total.defjvp
def total_jvp(primals, tangents):
    return total(*primals), np.sum(*tangents)


INDEX = np.array([3, 0, 1, 1])


def as_root(a):
    """The same root by Newton's steps, exact to rounding."""
    x = a / (1 + np.abs(a))
    for _ in range(60):
        x = x - (x + x**5 - a) / (1 + 5 * x**4)
    return x


CASES = {
    "compiled loop": (lambda x: own_sin(x * x), lambda x: np.sin(x * x)),
    "C": (lambda x: c_gamma(1 + x), lambda x: special.gamma(1 + x)),
    "two arguments": (lambda x: own_quotient(x, x[:2, None]), lambda x: x / x[:2, None]),
    "number": (lambda x: own_quotient(2.0, x), lambda x: 2.0 / x),
    "compiled, scalar": (lambda x: own_sin(x[0]) * x[1], lambda x: np.sin(x[0]) * x[1]),
    "static": (lambda x: own_power(3, x), lambda x: x**3),
    "table": (lambda x: looked_up(INDEX, x) ** 2, lambda x: (TABLE[INDEX] * x) ** 2),
    "traced index": (lambda x: looked_up(np.argsort(x), x), lambda x: TABLE[np.argsort(x)] * x),
    "result": (lambda x: own_exp(-x), lambda x: np.exp(-x)),
    "root": (lambda x: np.prod(root(x)), lambda x: np.prod(as_root(x))),
    "matrix": (
        lambda x: gram(x.reshape(2, 2), x[0])[0, 1] ** 2,
        lambda x: (x[0] * (x.reshape(2, 2).T @ x.reshape(2, 2)))[0, 1] ** 2,
    ),
    "sum": (lambda x: total(x) ** 3, lambda x: np.sum(x) ** 3),
    "compiled, nested": (
        lambda x: own_sin(own_exp(own_sin(x))),
        lambda x: np.sin(np.exp(np.sin(x))),
    ),
    "compiled, constant": (lambda x: own_sin(np.array([0.5])) * x, lambda x: np.sin(0.5) * x),
}


def scalar(fun):
    return lambda x: np.sum(np.tanh(fun(x)))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_derivatives_are_those_of_numpy(case):
    own, plain = (nbhvp.differentiable(scalar(fun), target="interpret") for fun in case)
    assert np.isclose(own(X), plain(X), rtol=1e-14)
    np.testing.assert_allclose(own.grad(X), plain.grad(X), rtol=1e-12, atol=1e-15)
    for mode in EXACT_MODES:
        needed = plain.hvp(X, V)
        np.testing.assert_allclose(own.hvp(X, V, mode=mode), needed, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(own.grad(X + 0.1), plain.grad(X + 0.1), rtol=1e-12, atol=1e-15)


@pytest.mark.compiles
@pytest.mark.no_cover
def test_compiled():
    own, plain = (
        nbhvp.differentiable(
            lambda x, k=k: sum(scalar(case[k])(x) for case in CASES.values()), target=target
        )
        for k, target in enumerate(["cpu", "interpret"])
    )
    for x in (X, X + 0.1):
        np.testing.assert_allclose(own.grad(x), plain.grad(x), rtol=1e-11)
        np.testing.assert_allclose(own.hvp(x, V), plain.hvp(x, V), rtol=1e-10)
        many = np.stack([V, 2 * V], axis=-1)
        np.testing.assert_allclose(own.hvp(x, many), plain.hvp(x, many), rtol=1e-10)
    assert own.report().traces == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precisions(dtype):
    f = nbhvp.differentiable(lambda x: np.sum(own_exp(x)), target="interpret")
    x = X.astype(dtype)
    assert f.grad(x).dtype == f.hvp(x, x).dtype == dtype
    np.testing.assert_allclose(f.hvp(x, x), np.exp(x) * x, rtol=1e-6)


def test_python_numbers_give_way_to_float32():
    double = lambda x, scale: np.sum(own_quotient(3.0, x) + own_quotient(x, scale))
    f, plain = (
        nbhvp.differentiable(fun, target="interpret")
        for fun in (double, lambda x, scale: np.sum(3.0 / x + x / scale))
    )
    x = X.astype(np.float32)
    assert f(x, 2.0).dtype == plain(x, 2.0).dtype == np.float32
    np.testing.assert_allclose(f.grad(x, 2.0), plain.grad(x, 2.0), rtol=1e-6)
    assert f(x, np.float64(2.0)).dtype == plain(x, np.float64(2.0)).dtype == np.float64


def test_static_arguments_are_told_apart_by_type():
    kind = nbhvp.elementwise(partials=lambda z, x, n: (n, None))(
        lambda x, n: x * (1 + isinstance(n, bool))
    )
    f = nbhvp.differentiable(lambda x: np.sum(kind(x, 1) + 10 * kind(x, True)), target="interpret")
    assert np.isclose(f(X), 21 * X.sum())


@pytest.mark.compiles
def test_threads_may_derive_at_once():
    f = nbhvp.differentiable(lambda x, a: np.sum(own_sin(own_exp(a * x))), target="interpret")
    large = np.ones(1000)
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(f.hvp, large * k / 9, large, large) for k in range(8)]
        for k, job in enumerate(jobs):
            e = np.exp(k / 9)
            np.testing.assert_allclose(
                job.result()[0], e * np.cos(e) - e * e * np.sin(e), rtol=1e-10
            )


def test_complex_arguments():
    f = nbhvp.differentiable(lambda x: np.abs(own_exp(1j * x * x)[0] + x[1]), target="interpret")
    plain = nbhvp.differentiable(lambda x: np.abs(np.exp(1j * x * x)[0] + x[1]), target="interpret")
    np.testing.assert_allclose(f.hvp(X, V), plain.hvp(X, V), rtol=1e-12)


def test_single_precision_inside():
    """The function computes in float32, whatever it is given: partials follow."""
    low = nbhvp.elementwise(partials=lambda z, x: 2 * x)(lambda x: (x * x).astype(np.float32))
    f = nbhvp.differentiable(lambda x: np.sum(low(x)), target="interpret")
    np.testing.assert_allclose(f.grad(X), 2 * X, rtol=1e-6)


@pytest.mark.compiles
def test_arguments_may_be_written_and_results_kept():
    kept = np.empty(4)

    @nbhvp.elementwise(partials=lambda z, x: 2 * x)
    def square(x):
        kept[:] = x * x
        x[:] = np.nan
        return kept

    f = nbhvp.differentiable(lambda x: np.sum(square(x) * square(x + 1)))
    x = X.copy()
    np.testing.assert_allclose(f.grad(x), 2 * X * (X + 1) * (2 * X + 1), rtol=1e-13)
    np.testing.assert_array_equal(x, X)


def test_one_application_is_one_call():
    calls = []

    @nbhvp.elementwise(partials=lambda z, x: counted(x))
    def counted(x):
        calls.append(x)
        return np.exp(x)

    f = nbhvp.differentiable(lambda x: np.sum(counted(x) * counted(x)), target="interpret")
    f.hvp(X, V)
    assert len(calls) == 2  # at the trace, and in the point program


@pytest.mark.compiles
def test_in_plain_code():
    np.testing.assert_array_equal(own_cos(X), np.cos(X))
    assert own_sin(X[:1]) == np.sin(X[:1])
    assert own_cos.__name__ == "own_cos"
    assert "own_cos" in repr(own_cos)
    assert "test_rules.py" in repr(own_cos)


@pytest.mark.compiles
def test_pickling():
    assert pickle.loads(pickle.dumps(own_cos)) is own_cos
    exp = pickle.loads(pickle.dumps(nbhvp.elementwise(partials=np.exp)(np.exp)))
    np.testing.assert_array_equal(exp(X), np.exp(X))
    f = pickle.loads(pickle.dumps(nbhvp.differentiable(lambda x: np.sum(own_sin(x)))))
    np.testing.assert_allclose(f.hvp(X, V), -np.sin(X) * V, rtol=1e-13)


# What is watched.

FACTOR = 2.0
WEIGHTS = np.ones(4)


@nbhvp.elementwise(partials=lambda z, x: WEIGHTS * FACTOR)
def watched(x):
    return FACTOR * x


def test_changes_are_seen(monkeypatch):
    f = nbhvp.differentiable(lambda x: np.sum(watched(x)), target="interpret")
    assert np.isclose(f(X), 2 * X.sum())
    assert f.grad(X).tolist() == [2.0] * 4
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert np.isclose(f(X), 3 * X.sum())
    assert f.grad(X).tolist() == [3.0] * 4
    f.grad(X + 1)
    assert f.report().traces == 2
    WEIGHTS[1] = 0.5
    try:
        assert f.grad(X + 1).tolist() == [3.0, 1.5, 3.0, 3.0]
        assert f.report().traces == 3
    finally:
        WEIGHTS[1] = 1.0


def test_another_rule_is_seen():
    twice = nbhvp.custom_jvp(lambda x: 2 * x)
    twice.defjvp(lambda primals, tangents: (twice(*primals), 2 * tangents[0]))
    f = nbhvp.differentiable(lambda x: np.sum(twice(x)), target="interpret")
    assert f.grad(X).tolist() == [2.0] * 4
    twice.defjvp(lambda primals, tangents: (twice(*primals), 5 * tangents[0]))
    assert f.grad(X).tolist() == [5.0] * 4


# Wrong rules.


def elementwise_of(partials):
    return nbhvp.elementwise(partials=partials)(lambda x: x * x)


def jvp_of(rule):
    square = nbhvp.custom_jvp(lambda x: x * x)
    square.defjvp(rule)
    return square


def opaque(x):
    return np.array([C_TGAMMA(one) for one in x])


WRONG = {
    "no partials": (elementwise_of(None), "no derivative rule: give it partials="),
    "no rule": (nbhvp.custom_jvp(lambda x: x * x), r"no derivative rule: give it a rule, by .defjvp"),
    "count": (elementwise_of(lambda z, x: (x, x)), "gave 2 partials, needed 1"),
    "partial's shape": (elementwise_of(lambda z, x: np.ones((3, 1)) * x), r"gave a partial of shape \(3, 4\)"),
    "nothing": (jvp_of(lambda primals, tangents: None), "must return .z, z_dot."),
    "value": (jvp_of(lambda p, t: (p[0], 2 * p[0] * t[0])), "gave another value"),
    "shape": (jvp_of(lambda p, t: (p[0] ** 2, t[0][:2])), r"tangent of shape \(2,\), needed \(4,\)"),
    "dtype": (
        jvp_of(lambda p, t: (p[0] ** 2, (2 * p[0] * t[0]).astype(np.float32))),
        "tangent of dtype float32, needed float64",
    ),
    "quadratic": (jvp_of(lambda p, t: (p[0] ** 2, p[0] * t[0] ** 2)), "is not linear"),
    "affine": (jvp_of(lambda p, t: (p[0] ** 2, 2 * p[0] * t[0] + 1)), "is not linear"),
    "constant": (jvp_of(lambda p, t: (p[0] ** 2, 2 * p[0])), "is not linear"),
    "branch": (
        elementwise_of(lambda z, x: 2 * x if x[0] > 0 else x),
        "a branch is taken on a value.*this is the derivative rule of",
    ),
    "lost": (elementwise_of(lambda z, x: np.float64(x[0])), "a plain float of a traced value"),
    "opaque": (elementwise_of(lambda z, x: opaque(x)), "or with functions that have rules"),
    "random": (elementwise_of(lambda z, x: np.random.rand() * x), "depends on the random"),
}  # fmt: skip


@pytest.mark.parametrize("target", ["interpret", "cpu"])
@pytest.mark.parametrize(("fun", "words"), WRONG.values(), ids=WRONG)
def test_wrong_rules(fun, words, target):
    f = nbhvp.differentiable(lambda x: np.sum(fun(x)), target=target)
    assert np.isclose(f(X), np.sum(X * X))
    for _ in range(2):
        with pytest.raises(nbhvp.TraceError, match=words) as caught:
            f.grad(X)
        assert "test_rules.py:" in str(caught.value)


def test_a_rule_as_deep_as_it_goes():
    """A partial without a rule of its own: the gradient is there, the product an error."""
    slope = nbhvp.elementwise(lambda x: 2 * x)
    square = nbhvp.elementwise(partials=lambda z, x: slope(x))(lambda x: x * x)
    f = nbhvp.differentiable(lambda x: np.sum(square(x)), target="interpret")
    np.testing.assert_allclose(f.grad(X), 2 * X)
    with pytest.raises(nbhvp.TraceError, match=r"lambda> .*test_rules.py:\d+.* has no derivative"):
        f.hvp(X, V)
    np.testing.assert_allclose(f.grad(X), 2 * X)


# Wrong functions and calls.


HELD = types.MappingProxyType({"sin": own_sin})  # watched, but not looked into


@pytest.mark.parametrize(
    ("fun", "error", "words"),
    [
        (nbhvp.elementwise(lambda x: x[:2]), nbhvp.TraceError, "elementwise, and gives shape"),
        (nbhvp.elementwise(lambda x: [1.0]), TypeError, "test_rules.py.* of type list"),
        (nbhvp.custom_jvp(lambda x: None), TypeError, "of type NoneType"),
        (nbhvp.custom_jvp(lambda x: 1 // 0), ZeroDivisionError, "division"),
        (lambda x: own_sin([x, x]), nbhvp.TraceError, "each as one argument"),
        (lambda x: own_sin(x, set()), TypeError, "unhashable"),
        (lambda x: HELD["sin"](x), nbhvp.TraceError, "does not follow"),
    ],
)
def test_wrong_functions(fun, error, words):
    with pytest.raises(error, match=words):
        nbhvp.differentiable(lambda x: np.sum(fun(x)), target="interpret").grad(X)


@pytest.mark.parametrize("target", ["interpret", "cpu"])
@pytest.mark.parametrize("change", [lambda x: x[x > 1], lambda x: x if x[0] < 1 else x > 1])
def test_a_shape_or_dtype_that_depends_on_values_is_found(change, target):
    fun = nbhvp.custom_jvp(change)
    f = nbhvp.differentiable(lambda x: np.sum(fun(x)), target=target)
    f(X)
    with pytest.raises(ValueError, match=r"test_rules.py:\d+. gave float64"):
        f(X + 2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nbhvp.elementwise(3),
        lambda: nbhvp.elementwise(partials=(1,))(np.exp),
        lambda: nbhvp.custom_jvp("f"),
        lambda: nbhvp.custom_jvp(np.exp).defjvp(None),
        lambda: nbhvp.elementwise(np.exp).defjvp(np.exp),
    ],
)
def test_wrong_decorations(make):
    with pytest.raises(TypeError, match="needed a function|takes partials="):
        make()
