"""Every composition against NumPy: its value at two points, its gradient and its products.

The graph is interpreted. `assert_composition` holds gradients to sixth-order differences of NumPy's
values, products by the three exact modes to those of the gradient and to one another.
"""

import numpy as np
import pytest
import scipy.special as special
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from nbhvp.errors import TraceError
from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph
from nbhvp.trace import answers
from nbhvp.trace.record import record
from tests import cases
from tests.cases.points import MASK, MATRIX, VECTOR
from tests.checks import assert_composition, close, weighted

pytestmark = pytest.mark.usefixtures("unsplit")

MODES = derive.EXACT_MODES


@pytest.mark.filterwarnings("ignore:numpy.fix is deprecated:DeprecationWarning")
@pytest.mark.parametrize(("fun", "x"), cases.PARAMETERS)
def test_composition(fun, x):
    assert_composition(fun, x)


def test_every_ufunc_is_answered_or_refused():
    ufuncs = {u for u in vars(np).values() if isinstance(u, np.ufunc)}
    answered = {u for u in ufuncs if u in answers.ANSWERS or p.primitive_of(u) is not None}
    refused = ufuncs & answers.REFUSALS.keys()
    assert answered | refused == ufuncs
    assert not answered & refused


AT_ZERO = [
    ("squared norm", lambda x: np.linalg.norm(x) ** 2),
    ("distances", lambda x: np.linalg.norm(x[:, None, None] - x[None, :, None], axis=-1)),
    ("std", lambda x: np.std(x)),
    ("complex abs", lambda x: np.abs(x * (1 + 2j))),
    ("complex sign", lambda x: np.sign(x * (1 + 2j)).real),
    ("prod", lambda x: np.prod(x)),
    ("sinc", lambda x: np.sinc(x)),
    ("logsumexp", lambda x: special.logsumexp(x)),
    ("softmax", lambda x: special.softmax(x)),
    ("rel_entr", lambda x: special.rel_entr(x, 1.0)),
    ("interp", lambda x: np.interp(x, [-1, 0, 1], [0, 1, 3])),
    ("sort", lambda x: np.sort(x)),
]


@pytest.mark.parametrize("fun", [c[1] for c in AT_ZERO], ids=[c[0] for c in AT_ZERO])
def test_no_nan_at_zero(fun):
    x = np.zeros(4)
    trace = record(fun, x, (), {})
    value, _ = weighted(trace)
    node = trace.inputs[0]
    v = p.input_node(node.pool, "v", node.shape, node.dtype)
    outputs = (derive.gradient(value, node), *(derive.hvp(value, node, v, m) for m in MODES))
    assert all(np.isfinite(r).all() for r in interpret(Graph((node, v), outputs), x, np.ones(4)))


def test_sinc_at_zero_has_its_second_derivative():
    trace = record(lambda x: np.sinc(x[0]), np.zeros(1), (), {})
    node = trace.inputs[0]
    v = p.input_node(node.pool, "v", node.shape, node.dtype)
    product = derive.hvp(trace.outputs[0], node, v)
    result = interpret(Graph((node, v), (product,)), np.zeros(1), np.ones(1))[0]
    np.testing.assert_allclose(result, [-(np.pi**2) / 3], rtol=1e-14)


SINGLE = [
    ("softmax", lambda x: special.softmax(x)),
    ("huber", lambda x: special.huber(0.7, x)),
    ("mean std", lambda x: np.mean(x) + np.std(x)),
    ("clip", lambda x: np.clip(x, 0, 1)),
    ("where", lambda x: np.where(x > 0, x, 0.5)),
    ("radians", lambda x: np.radians(x)),
    ("norm", lambda x: np.linalg.norm(x)),
    ("select", lambda x: np.select([x > 0], [x], 0.5)),
    ("sinc", lambda x: np.sinc(x)),
    ("prod", lambda x: np.prod(x) * np.cumprod(x)),
    ("linspace", lambda x: np.linspace(x[0], 1.0, 3)),
]


@pytest.mark.parametrize("fun", [c[1] for c in SINGLE], ids=[c[0] for c in SINGLE])
def test_float32_stays_float32(fun):
    x = VECTOR.astype(np.float32)
    trace = record(fun, x, (), {})
    graph = derive.check(Graph(trace.inputs, trace.outputs))
    assert graph.outputs[0].dtype == np.float32 == fun(x).dtype
    close(interpret(graph, x)[0], fun(x), 1e-6)


GUARDS = [
    ("multiply.at", lambda x: _at(np.multiply, x, np.argsort(x))),
    ("maximum.at", lambda x: _at(np.maximum, x, (x > 0).astype(int))),
    ("split", lambda x: np.split(x, np.argsort(x)[:1])[0]),
    ("roll", lambda x: np.roll(x, np.argmax(x))),
    ("diag", lambda x: np.diag(x, np.argmax(x))),
    ("real_if_close", lambda x: np.real_if_close(x + 0j * x)),
    ("allclose", lambda x: x if np.allclose(x, x[::-1]) else 2 * x),
    ("array_equal", lambda x: x if np.array_equal(x, x + 1) else 2 * x),
    ("array_equiv", lambda x: x if np.array_equiv(x, x[:1]) else 2 * x),
    ("compress", lambda x: x[np.nonzero(x > 0)]),
    ("repeat", lambda x: np.repeat(x, (x > 0).astype(int))),
]


@pytest.mark.parametrize("fun", [c[1] for c in GUARDS], ids=[c[0] for c in GUARDS])
def test_truth_values_are_guards(fun):
    trace = record(fun, VECTOR, (), {})
    assert len(trace.guards) > 0
    graph = Graph(trace.inputs, trace.outputs)
    np.testing.assert_array_equal(interpret(graph, VECTOR)[0], fun(VECTOR))


REFUSALS = [
    ("pad mode", lambda x: np.pad(x, 1, mode=lambda *a: None), "mode=<function"),
    ("keyword", lambda x: np.mean(x, mean=3), "mean="),
    ("gcd", lambda x: np.gcd((x > 0).astype(int), 3), "gcd"),
    ("order", lambda x: special.polygamma(x, x), "order"),
    ("unique", lambda x: np.unique(x), "numpy.unique"),
    ("as_strided", lambda x: np.lib.stride_tricks.as_strided(x, (2,), (8,)), "sliding_window_view"),
    ("resize", lambda x: (1 * x).resize(3), "np.resize"),
    ("nditer", lambda x: list(np.nditer(x)), "nditer"),
    ("fromiter", lambda x: np.fromiter((a for a in x), float), "float"),
    ("frompyfunc", lambda x: np.frompyfunc(lambda a: a, 1, 1)(x), "vectorized"),
    ("reduce where", lambda x: np.logaddexp.reduce(x, where=MASK), "where="),
    ("power.reduce", lambda x: np.power.reduce(x), "power.reduce"),
    ("power.accumulate", lambda x: np.power.accumulate(x), "power.accumulate"),
    ("bins", lambda x: np.histogram(x, "auto"), "bins='auto'"),
    ("pad odd", lambda x: np.pad(x, 7, "reflect", reflect_type="odd"), "odd"),
    ("polyfit", lambda x: np.polyfit(x, x, 2), "polyfit"),
    ("masked array", lambda x: np.ma.masked_array(x, MASK).sum(), "plain numbers"),
]


@pytest.mark.parametrize(("fun", "needed"), [c[1:] for c in REFUSALS], ids=[c[0] for c in REFUSALS])
def test_refusals_say_what_and_where(fun, needed):
    with pytest.raises(TraceError) as error:
        record(fun, VECTOR, (), {})
    assert needed in str(error.value)
    assert "test_numpy_functions.py" in str(error.value)


def _at(ufunc, x, index):
    y = x * x
    ufunc.at(y, index, x)
    return y


NONE, ONE, TWO = np.array(0), np.array(1), np.array(2)
BOTH, CUTS = np.array([1, 2]), np.array([[1, 0], [0, 2]])
PARAMETERS = {
    "diag": (np.diag, ONE), "tril": (np.tril, ONE), "sum": (np.sum, ONE), "std": (np.std, ONE),
    "roll": (np.roll, BOTH, np.array([0, 1])), "diff": (np.diff, ONE, ONE), "pad": (np.pad, CUTS),
    "repeat": (np.repeat, BOTH[[0, 1, 0]], NONE), "tile": (np.tile, BOTH),
    "reshape": (np.reshape, np.array([2, 6])), "transpose": (np.transpose, np.array([1, 0])),
    "expand_dims": (np.expand_dims, ONE), "moveaxis": (np.moveaxis, ONE, NONE),
    "take": (np.take, BOTH, ONE), "partition": (np.partition, ONE, ONE), "rot90": (np.rot90, ONE),
    "flip": (np.flip, ONE), "round": (np.round, ONE), "cumsum": (np.cumsum, ONE),
    "norm": (np.linalg.norm, TWO, ONE), "fft": (np.fft.fft, TWO, NONE),
    "trace": (np.trace, ONE), "windows": (sliding_window_view, TWO, ONE),
    "polygamma": (lambda x, n: special.polygamma(n, x), ONE),
    "logsumexp": (special.logsumexp, ONE), "gaussian": (ndimage.gaussian_filter1d, ONE, ONE),
}  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_may_be_arrays(name):
    """Constants, and arguments of the function, which are guarded."""
    fun, *values = PARAMETERS[name]
    x = np.abs(MATRIX)
    total = lambda x, *values: np.sum(np.abs(fun(x, *values)) ** 2)
    constant = record(lambda x: total(x, *map(np.array, values)), x)
    given = record(total, x, tuple(values))
    for trace, inputs in ((constant, (x,)), (given, (x, *values))):
        (found,) = interpret(Graph(trace.inputs, trace.outputs), *inputs)
        close(found, total(x, *(v.item() if v.ndim == 0 else v for v in values)), 1e-12)
    assert not constant.guards
    assert given.guards


SEQUENCES = [(0, 2), range(2), range(2, 0, -2), [(0, 1), (1, 0)], (), [], ((0, 2), (1, 1))]


@pytest.mark.parametrize("index", SEQUENCES, ids=str)
def test_sequences_are_index_arrays(index):
    """Within an index, as a whole index where NumPy takes it so, to read, to write and to add."""

    def fun(x):
        y, z = x * x, np.zeros((3, 4))
        y[:, index] = x[..., index] * 2 + 1
        np.add.at(z, (slice(None), index), 3.0)
        return np.sum(y * z) + np.sum(x[index] ** 2) + np.sum(x[:, index] ** 3)

    assert_composition(fun, MATRIX)


def aliased(x):
    """Views of one matrix, read after it was written."""
    y = np.ones((3, 3)) * x[0]
    views = [
        np.broadcast_to(y, (2, 3, 3)),
        np.ravel(y),
        np.flip(y, 0),
        np.rot90(y),
        np.split(y, 3)[1],
        np.expand_dims(y, 0),
        np.moveaxis(y, 0, 1),
        np.diagonal(y),
        np.unstack(y)[2],
        sliding_window_view(y, 2, axis=0),
    ]
    y[1] = x[:3]
    y[2, 2] = x[3] * x[4]
    return np.concatenate([view.ravel() for view in views])


def written(x):
    """Results put into arrays that the function made."""
    y, z, w = np.zeros((2, 2)), np.empty(2), np.zeros(4)
    x = x.reshape(2, 3)
    np.matmul(x, x.T, out=y)
    np.dot(y, x[:, 0], out=z)
    np.add(z, 1, out=z)
    np.cumsum(x[0], out=w[1:])
    np.clip(w, 0, 1, out=w)
    x.sum(0, None, w[:3])
    x.max(1, y[0])
    np.einsum("ij->i", x, out=y[:, 1])
    np.take(w, [3, 0], out=z)
    return np.concatenate([y.ravel(), z, w])


def unshared(x):
    """Results that share no memory with their argument, though they have its elements."""
    y = x.reshape(6, 1) ** 2
    results = [
        np.repeat(y, 1, axis=0),
        np.cumprod(y, axis=1),
        np.prod(y, axis=1),
        np.max(y, axis=()),
        np.pad(y, 0, "edge"),
        np.maximum.accumulate(y, axis=1),
        np.logaddexp.reduce(y, axis=1),
        y[::-1, 0].ravel(),
        np.einsum("ij,ij->ij", y, np.ones((6, 1))),
        ndimage.correlate1d(y, [1.0], axis=0),
    ]
    for result in results:
        result *= 2
    return np.concatenate([y.ravel(), *(result.ravel() for result in results)])


def numbers(x):
    """Scalars of NumPy are values, arrays without axes are cells."""
    scalars = [np.std(x), np.prod(x), np.median(x), np.linalg.norm(x), np.abs(1j * x[0])]
    cells = [np.array(x[0]), np.tensordot(x, x, 1), np.pad(np.array(x[1]), 0)]
    before = [*scalars, *cells]
    for k in range(len(scalars)):
        scalars[k] += 1
    for cell in cells:
        cell *= 2
    return np.array([*scalars, *before])


def diagonal_of_einsum(x):
    y = np.outer(x, x)
    np.einsum("ii->i", y)[...] = x
    return y


@pytest.mark.parametrize("fun", [aliased, written, unshared, numbers, diagonal_of_einsum])
def test_writes_are_seen_through_every_alias(fun):
    trace = record(fun, VECTOR, (), {})
    close(interpret(Graph(trace.inputs, trace.outputs), VECTOR)[0], fun(VECTOR), 1e-14)


# Functions of x and of an integer array, and how many guards they need.
INDEXED = [
    ("take", lambda x, i: np.take(x, i), 1),
    ("take_along_axis", lambda x, i: np.take_along_axis(x, i, 0), 1),
    ("take wrap", lambda x, i: np.take(x, i, mode="wrap"), 0),
    ("choose", lambda x, i: np.choose(i % 2, [x[:3], x[3:]]), 1),
    ("bincount", lambda x, i: np.bincount(abs(i), x[:3]), 2),
    ("delete", lambda x, i: np.delete(x, i), 1),
    ("searchsorted", lambda x, i: np.searchsorted(np.sort(x), i) * x[:3], 0),
    ("products", lambda x, i: np.outer(i, i) @ x[:3] * i.sum() * np.prod(i + 5) * i.mean(), 0),
]
INDEX = np.array([2, 0, -1])


@pytest.mark.parametrize(("fun", "guards"), [c[1:] for c in INDEXED], ids=[c[0] for c in INDEXED])
def test_traced_integers(fun, guards):
    trace = record(fun, VECTOR, (INDEX,), {})
    assert len(trace.guards) == guards
    close(
        interpret(Graph(trace.inputs, trace.outputs), VECTOR, INDEX)[0], fun(VECTOR, INDEX), 1e-14
    )


UNGUARDED = [np.max, np.sort, np.median, np.unwrap, np.std, special.softmax, np.cumprod, np.ptp]


@pytest.mark.parametrize("fun", UNGUARDED, ids=lambda f: f.__name__)
def test_order_and_choice_need_no_guard(fun):
    assert len(record(fun, VECTOR, (), {}).guards) == 0
