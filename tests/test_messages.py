"""Where NumPy and SciPy refuse the user's arguments, a traced function raises what the plain one does.

The oracle is the plain function itself: the same class, with its words where the tracer checks for
itself. Then what a trace alone refuses, with the words that tell what to write instead, and small
methods of arrays.
"""

import math
import pickle
import re

import numpy as np
import pytest
import scipy.signal
import scipy.special
import scipy.stats
from checks import assert_composition

from nbhvp.errors import TraceError
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph
from nbhvp.trace.record import record

X = np.linspace(0.55, 2.1, 6)


def written(x, write):
    a = x.copy()
    write(a)
    return a * a


SAME_WORDS = {
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

REFUSED = {
    "keep it inside": lambda x: pickle.dumps(x),
    "np.unravel_index": lambda x: np.unravel_index(np.argsort(x), (2, 3), order="F")[0] * x,
    "np.trim_zeros": lambda x: np.trim_zeros(x.reshape(2, 3)),
    "digamma of complex": lambda x: scipy.special.digamma(x + 1j),
    "loggamma of complex": lambda x: scipy.special.loggamma(x + 1j),
    "exact=False": lambda x: scipy.special.comb(x, 2, exact=True),
    "round a float": lambda x: np.round(np.argsort(x), -1) * x,
}

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
    with pytest.raises((ValueError, TypeError)) as raised:
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


@pytest.mark.parametrize("words", REFUSED)
def test_refused_with_a_remedy(words):
    with pytest.raises(TraceError, match=re.escape(words)) as raised:
        record(REFUSED[words], X, (), {})
    assert "test_messages.py" in str(raised.value)


@pytest.mark.parametrize("name", COMPUTED)
def test_computed(name):
    assert_composition(COMPUTED[name], X)


def test_combinations_with_repetition_of_few():
    """N (N + 1) / 2, also below 1, where SciPy before 1.17 gives 0."""
    trace = record(lambda x: scipy.special.comb(x, 2, repetition=True), X, (), {})
    (found,) = interpret(Graph(trace.inputs, trace.outputs), X)
    np.testing.assert_allclose(found, X * (X + 1) / 2, rtol=1e-14)
