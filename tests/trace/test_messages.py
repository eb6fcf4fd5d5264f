"""Where NumPy and SciPy refuse the user's arguments, a traced function raises what the plain one does.

The oracle is the plain function itself: the same class, with its words where the tracer checks for
itself. Then what a trace alone refuses, with the words that tell what to write instead, and small
methods of arrays.
"""

import array
import contextlib
import decimal
import fractions
import functools
import math
import pickle
import re
import statistics
import struct
import traceback

import numpy as np
import pytest
import scipy.fft
import scipy.integrate
import scipy.linalg
import scipy.ndimage
import scipy.signal
import scipy.special
import scipy.stats
from numba import njit

import nbhvp
from nbhvp.errors import TraceError
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph
from nbhvp.trace.record import record
from tests.checks import assert_composition

X = np.linspace(0.55, 2.1, 6)


def written(x, write):
    a = x.copy()
    write(a)
    return a * a


SAME_WORDS = {
    "missing": lambda x: x.nothing,
    "missing of a number": lambda x: x[0].nothing,
    "mT": lambda x: x.mT,
    "item": lambda x: x.item(),
    "iteration": lambda x: [*x[:1].reshape(())],
    "take_along_axis": lambda x: np.take_along_axis(x.reshape(2, 3), np.array([0]), 0),
    "ravel_multi_index": lambda x: x[np.ravel_multi_index((np.argsort(x),), (3,))],
    "diag": lambda x: np.diag(x.reshape(1, 2, 3)),
    "fill_diagonal": lambda x: written(x, lambda a: np.fill_diagonal(a, 1.0)),
    "fill_diagonal lengths": lambda x: np.fill_diagonal(x.reshape(1, 2, 3), 1.0),
    "choose": lambda x: np.choose(np.argsort(x), [x, x]),
    "place": lambda x: written(x, lambda a: np.place(a, a > 0, [])),
    "select": lambda x: np.select([x > 0], [x, x]),
    "vander": lambda x: np.vander(x.reshape(2, 3)),
    "meshgrid": lambda x: np.meshgrid(x, x, indexing="no")[0],
    "asarray_chkfinite": lambda x: np.asarray_chkfinite(x * np.inf),
    "correlate": lambda x: np.correlate(x.reshape(2, 3), x),
    "norm": lambda x: np.linalg.norm(x.reshape(1, 2, 3), 2),
    "filtfilt padlen": lambda x: scipy.signal.filtfilt([1.0], [1.0, 0.5], x, padlen=9),
    "detrend": lambda x: scipy.signal.detrend(x, type="no"),
    "detrend breakpoints": lambda x: scipy.signal.detrend(x, bp=9),
}  # fmt: skip

SAME_CLASS = {
    "tensordot": lambda x: np.tensordot(x, x[:2], 1),
    "cross": lambda x: np.cross(x, x),
    "convolve shapes": lambda x: scipy.signal.convolve(x, x.reshape(2, 3)),
    "convolve mode": lambda x: scipy.signal.convolve(x, x, "no"),
    "convolve2d": lambda x: scipy.signal.convolve2d(x.reshape(2, 3), x.reshape(3, 2), "valid"),
    "filtfilt padtype": lambda x: scipy.signal.filtfilt([1.0], [1.0, 0.5], x, padtype="no"),
    "savgol_filter": lambda x: scipy.signal.savgol_filter(x, 7, 2),
    "astype": lambda x: x.astype(int, casting="safe"),
    "matmul": lambda x: np.matmul(x, 2.0),
    "mode": lambda x: np.convolve(x, x, "no"),
    "einsum operands": lambda x: np.einsum("i,j", x),
    "einsum axes": lambda x: np.einsum("ij", x),
    "einsum extents": lambda x: np.einsum("i,i", x, x[:2]),
    "vecdot": lambda x: np.vecdot(x, x[:2]),
    "vector_norm": lambda x: np.linalg.vector_norm(x, ord="no"),
    "out": lambda x: np.exp(x, out=np.zeros(3)),
    "density": lambda x: scipy.stats.gamma.pdf(x),
    "density of too many": lambda x: scipy.stats.norm.pdf(x, 0, 1, 2, 3),
    "multivariate_normal": lambda x: scipy.stats.multivariate_normal.logpdf(
        x.reshape(2, 3), np.zeros(2), np.eye(2)
    ),
}

ACCEPTED_BY_NONE = {
    "fft axis": lambda x: np.fft.fft(x, axis=4).real,
    "rfft axis": lambda x: np.fft.rfft(x, axis=-3).real,
    "irfft axis": lambda x: np.fft.irfft(x, axis=1),
    "fft of no number of points": lambda x: np.fft.fft(x, n=1.5).real,
    "fft2 axes": lambda x: np.fft.fft2(x.reshape(2, 3), axes=(0, 5)).real,
    "rfftn axes": lambda x: scipy.fft.rfftn(x.reshape(2, 3), axes=(0, 0)).real,
    "fftshift axes": lambda x: np.fft.fftshift(x, axes=(0, 2)),
    "dct axis": lambda x: scipy.fft.dct(x, axis=7),
    "dctn axes": lambda x: scipy.fft.dctn(x.reshape(2, 3), axes=(1, 1)),
    "nanquantile": lambda x: np.nanquantile(x, 2.0),
    "nanpercentile": lambda x: np.nanpercentile(x, [50, -1]),
    "putmask": lambda x: written(x, lambda a: np.putmask(a, [1, 0, 1], 2.0)),
    "place": lambda x: written(x, lambda a: np.place(a, np.ones(7, bool), 2.0)),
    "histogram": lambda x: np.histogram(x, bins=0)[0] * x[0],
    "convolve method": lambda x: scipy.signal.convolve(x, x, method="none"),
    "correlate method": lambda x: scipy.signal.correlate(x, x, method="none"),
    "fftconvolve axes": lambda x: scipy.signal.fftconvolve(x, x, axes=(0, 0)),
    "fftconvolve axis": lambda x: scipy.signal.fftconvolve(x, x, axes=3),
    "take mode": lambda x: np.take(x, [0, 1], mode="none"),
    "choose mode": lambda x: np.choose([0, 1, 0, 1, 0, 1], [x, x], mode="none"),
    "einsum result": lambda x: np.einsum("i,j->k", x, x),
}  # fmt: skip
"""Arguments that the plain functions refuse: it is their errors that are raised, in their words."""

REFUSED = {
    "keep it inside": lambda x: pickle.dumps(x),
    "np.unravel_index": lambda x: np.unravel_index(np.argsort(x), (2, 3), order="F")[0] * x,
    "digamma of complex": lambda x: scipy.special.digamma(x + 1j),
    "loggamma of complex": lambda x: scipy.special.loggamma(x + 1j),
    "exact=False": lambda x: x * scipy.special.comb(np.argsort(x)[5], 2, exact=True),
    "round a float": lambda x: np.round(np.argsort(x), -1) * x,
}

# Every error names the user's line, or is Python's or NumPy's own, raised in the user's frame.

UFUNCS = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (np, scipy.special)
    for name in dir(module)
    if isinstance(getattr(module, name), np.ufunc)
}


def of_real(ufunc, x):
    return ufunc(*[x] * ufunc.nin)


def of_complex(ufunc, x):
    return ufunc(*[x + 1j * x] * ufunc.nin)


def compiled_loop(x):
    """Numba compiles it; eigvals has no recording."""
    total = 0.0
    for k in range(x.size):
        total += np.linalg.eigvals(np.ones((2, 2)) * x[k])[0].real
    return total


@nbhvp.elementwise
def without_partials(x):
    return np.exp(x)


@nbhvp.elementwise(partials=lambda z, x: (z, z))
def with_too_many(x):
    return np.exp(x)


@nbhvp.elementwise(partials=lambda z, x: z / math.sqrt(-1.0))
def with_an_error(x):
    return np.exp(x)


@nbhvp.custom_jvp
def without_rule(x):
    return np.exp(x)


@nbhvp.custom_jvp
def not_linear(x):
    return np.exp(x)


@not_linear.defjvp
def _(primals, tangents):
    return np.exp(primals[0]), tangents[0] ** 2


def inner_operator(x):
    return nbhvp.differentiable(lambda y: np.sum(y**2)).hessian(x)[0]


PLAIN = np.zeros(3)


def write_outside(x):
    PLAIN[0] = x[0]
    return PLAIN[0]


LINED = {
    "jv of its order": lambda x: np.sum(scipy.special.jv(x, 2.0)),
    "eig": lambda x: np.sum(scipy.linalg.schur(x[:4].reshape(2, 2))[0]),
    "complete qr": lambda x: np.sum(np.linalg.qr(x.reshape(3, 2), "complete")[0]),
    "rank": lambda x: np.sum(np.linalg.pinv(np.outer(x[:2], x[:2]))),
    "quad": lambda x: scipy.integrate.quad(lambda t: t * x[0], 0, 1)[0],
    "no rule": lambda x: np.sum(scipy.ndimage.distance_transform_edt(x)),
    "bytes": lambda x: x.tobytes(),
    "memoryview": lambda x: memoryview(x),
    "decimal": lambda x: decimal.Decimal(x[0]),
    "fractions": lambda x: fractions.Fraction(x[0]),
    "a generator": lambda x: statistics.geometric_mean(x),
    "text": lambda x: x + "a",
    "None": lambda x: x * None,
    "returns None": lambda x: None,
    "returns text": lambda x: "text",
    "returns complex": lambda x: 1j * x,
    "returns arrays": lambda x: [x, x],
    "returns a generator": lambda x: (number for number in x),
    "write outside": write_outside,
    "inner operator": inner_operator,
    "array for a truth": lambda x: x[0] if x > 1 else x[1],
    "frompyfunc": lambda x: np.sum(np.frompyfunc(lambda a: a, 1, 1)(x)),
    "complex comparison": lambda x: x[0] if x[0] * 1j > x[1] else x[1],
    "complex in a composition": lambda x: np.sum(scipy.special.spence(x + 1j).real),
    "random": lambda x: np.random.default_rng().normal() * x[0],
    "without partials": lambda x: np.sum(without_partials(x)),
    "too many partials": lambda x: np.sum(with_too_many(x)),
    "an error in partials": lambda x: np.sum(with_an_error(x)),
    "without a rule": lambda x: np.sum(without_rule(x)),
    "not linear": lambda x: np.sum(not_linear(x)),
    "compiled loop": njit(compiled_loop),
    "missing name": lambda x: missing_name(x),  # noqa: F821
    "missing attribute": lambda x: x.missing,
    "missing function": lambda x: np.missing(x),
    "index": lambda x: x[10],
    "shapes": lambda x: x + x[:2],
    "axis": lambda x: np.sum(x, axis=3),
    "singular": lambda x: np.sum(np.linalg.inv(0 * np.outer(x, x))),
    "division": lambda x: 1 / 0,
    "assertion": lambda x: x[0] if _refuse(x) else x[1],
}


def _refuse(x):
    raise RuntimeError("the user's own")


def frames(error) -> set[str]:
    return {frame.filename for frame in traceback.extract_tb(error.__traceback__)[1:]}


def assert_names_the_line(fun, error):
    """In its text; or it is what plain Python raises, from the user's frame."""
    if re.search(r"test_messages\.py:\d+", str(error)):
        return
    with pytest.raises(type(error)) as plain:
        fun(X.copy())
    assert str(plain.value).split("\n")[0].split(";")[0] in str(error)
    assert __file__ in frames(error)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LINED)
def test_errors_name_the_line(name):
    f = nbhvp.differentiable(LINED[name], target="interpret")
    for call in (f, f.grad, lambda x: f.hvp(x, x), lambda x: f.jvp(x, x), f.hessian):
        try:
            call(X)
        except Exception as error:
            assert_names_the_line(LINED[name], error)
            break
    else:
        raise AssertionError("no error")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [of_real, of_complex])
def test_errors_of_ufuncs_name_the_line(kind):
    refused = set()
    for name, ufunc in UFUNCS.items():
        fun = functools.partial(kind, ufunc)
        try:
            record(fun, X, (), {})
        except Exception as error:
            assert_names_the_line(fun, error)
            refused.add(name)
    wanted = {"expm1", "log1p", "maximum"} if kind is of_complex else {"gcd", "bitwise_or"}
    assert {f"numpy.{name}" for name in wanted} <= refused


@pytest.mark.parametrize("name", ["numpy.expm1", "numpy.log1p", "numpy.maximum", "scipy.special.erf",
                                  "scipy.special.spence", "scipy.special.dawsn", "scipy.special.erfcx",
                                  "scipy.special.gamma", "scipy.special.xlogy"])  # fmt: skip
def test_complex_arguments_are_refused_by_the_name_that_was_called(name):
    words = rf"test_messages\.py:\d+ .*{re.escape(name)} of complex numbers has no derivative rule"
    with pytest.raises(nbhvp.TraceError, match=words):
        record(lambda x: of_complex(UFUNCS[name], x).real, X, (), {})


def test_a_library_function_itself_names_the_call():
    with pytest.raises(nbhvp.TraceError, match=r"test_messages\.py:\d+ .*distance_transform_edt"):
        nbhvp.differentiable(scipy.ndimage.distance_transform_edt, target="interpret")(X)


def test_errors_at_a_later_point_come_from_the_function():
    f = nbhvp.differentiable(lambda x: np.sum(np.linalg.inv(x.reshape(2, 2))), target="interpret")
    f.hvp(np.eye(2).ravel(), np.ones(4))
    for call in (f, f.grad, f.hessian, lambda x: f.hvp(x, x)):
        with pytest.raises(np.linalg.LinAlgError, match="Singular") as raised:
            call(np.ones(4))
        assert __file__ in frames(raised.value)


COMPUTED = {
    "nbytes and itemsize": lambda x: x * x.nbytes / x.itemsize,
    "texts": lambda x: x * len(f"{x[0]:.3f} {x[0]!s} {x!r}"[:5]),
    "imag": lambda x: abs(_with_imag(x)) ** 2,
    "flat": lambda x: written(x, lambda a: setattr(a, "flat", x[::-1] * x)) * len(x.flat),
    "method put": lambda x: written(x, lambda a: a.put([0, 2], x[3:5] ** 2)),
    "trunc": lambda x: x**2 * math.trunc(x[5]),
    "floor and ceil": lambda x: x**2 * math.floor(x[5]) + math.ceil(x[0]),
    "argwhere": lambda x: x[np.argwhere(x > 1).ravel()] ** 2,
    "put_along_axis": lambda x: written(x, lambda a: np.put_along_axis(a, np.array([1]), x[:1], None)),
    "putmask": lambda x: written(x, lambda a: np.putmask(a, a > 1, [])),
    "array_equal": lambda x: x**2 if np.array_equal(x, x[:2]) else x**3,
    "array_equiv": lambda x: x**2 if np.array_equiv(x, x[:4]) else x**3,
    "isreal": lambda x: x**2 * np.isreal(x) + np.iscomplex(x),
    "isreal of complex": lambda x: x**2 * np.isreal(x + 0j) + np.iscomplex(x * 1j),
    "nan_to_num": lambda x: abs(np.nan_to_num(x + 1j * x**2)),
    "comb": lambda x: scipy.special.comb(x + 1, 2, repetition=True),
    "isclose": lambda x: x**2 if math.isclose(x[0], x[1]) else x**3,
    "frozen normal": lambda x: scipy.stats.multivariate_normal(np.zeros(3), np.eye(3)).pdf(
        x.reshape(2, 3)
    ),
}  # fmt: skip


def _with_imag(x):
    z = x + 0j
    z.imag = x**2
    return z


def _plain_error(fun):
    with pytest.raises((ValueError, TypeError, AttributeError)) as raised:
        fun(X.copy())
    return raised.value


@pytest.mark.parametrize("name", SAME_WORDS)
def test_errors_are_the_plain_functions(name):
    error = _plain_error(SAME_WORDS[name])
    with pytest.raises(type(error), match=re.escape(str(error).split("\n")[0])):
        record(SAME_WORDS[name], X, (), {})


@pytest.mark.parametrize("name", SAME_CLASS)
def test_errors_are_of_the_plain_functions_class(name):
    error = _plain_error(SAME_CLASS[name])
    with pytest.raises((ValueError, TypeError)) as raised:
        record(SAME_CLASS[name], X, (), {})
    assert isinstance(error, type(raised.value)) and not isinstance(raised.value, TraceError)


@pytest.mark.parametrize("name", ACCEPTED_BY_NONE)
def test_arguments_that_the_plain_functions_refuse(name):
    with pytest.raises((ValueError, TypeError, IndexError)) as plain:
        ACCEPTED_BY_NONE[name](X.copy())
    with pytest.raises(type(plain.value), match=re.escape(str(plain.value).split("\n")[0])):
        record(ACCEPTED_BY_NONE[name], X, (), {})


@pytest.mark.parametrize("words", REFUSED)
def test_refused_with_a_remedy(words):
    with pytest.raises(TraceError, match=re.escape(words)) as raised:
        record(REFUSED[words], X, (), {})
    assert "test_messages.py" in str(raised.value)


HIDING = {
    "struct": lambda x: struct.unpack("d", struct.pack("d", x[0]))[0],
    "struct of two": lambda x: struct.pack("2d", *x[:2]) and x[0],
    "fsolve": lambda x: scipy.optimize.fsolve(lambda t: t - x[0], 1.0)[0],
    "root": lambda x: scipy.optimize.root(lambda t: t - x[:2], np.ones(2)).x[0],
    "array.array": lambda x: array.array("d", [x[0]])[0],
}
"""What asks for plain numbers in C, and may raise an error of its own where they are refused."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", HIDING)
def test_errors_of_c_hide_no_refusal(name, capfd):
    words = r"test_messages\.py:\d+.* (would lose its derivative|has no derivative rule here)"
    with pytest.raises(TraceError, match=words):
        record(HIDING[name], X, (), {})


def test_a_refusal_that_was_caught_is_not_told_again():
    def fun(x):
        with contextlib.suppress(struct.error):
            struct.pack("d", x[0])
        raise KeyError("the user's own")

    with pytest.raises(KeyError, match="the user's own"):
        record(fun, X, (), {})


@pytest.mark.parametrize("name", COMPUTED)
def test_computed(name):
    assert_composition(COMPUTED[name], X)


def test_combinations_with_repetition_of_few():
    """N (N + 1) / 2, also below 1, where SciPy before 1.17 gives 0."""
    trace = record(lambda x: scipy.special.comb(x, 2, repetition=True), X, (), {})
    (found,) = interpret(Graph(trace.inputs, trace.outputs), X)
    np.testing.assert_allclose(found, X * (X + 1) / 2, rtol=1e-14)
