"""Traced arrays against NumPy: the functions are written once, run plainly and traced.

The graph recorded at one point, interpreted at another, must equal the plain function there, and
its tangent must equal differences of the plain function.
"""

import numpy as np
import pytest

import nbhvp
from nbhvp.errors import TraceError
from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph
from nbhvp.trace.arrays import Recording, Traced, adopt, lift, traced
from nbhvp.trace.record import record

pytestmark = pytest.mark.usefixtures("unsplit")

N = 12
X = np.linspace(-1.1, 1.3, N)
ELSEWHERE = np.cos(np.arange(N)) * 0.9 + 0.05
INDEX = np.array([3, -1, 0, 3])
MASK = np.arange(N) % 3 == 0


def evaluate(trace, x, *leaves):
    return interpret(Graph(trace.inputs, trace.outputs), x, *leaves)[0]


def tangent(trace, x, v, *leaves):
    pool, node = trace.pool, trace.inputs[0]
    v_node = p.input_node(pool, "v", node.shape, node.dtype)
    dots = derive.jvp(trace.outputs, (node,), (v_node,))
    graph = derive.check(Graph((*trace.inputs, v_node), tuple(dots)), linear_in=v_node)
    return interpret(graph, x, *leaves, v)[0]


def holds(trace, x, *leaves):
    graph = Graph(trace.inputs, tuple(node for node, _ in trace.guards))
    found = interpret(graph, x, *leaves)
    return all(np.array_equal(a, b) for a, (_, b) in zip(found, trace.guards, strict=True))


def check(fun, *leaves, x=X, elsewhere=ELSEWHERE, guards=0):
    before, leaves_before = x.copy(), [np.copy(leaf) for leaf in leaves]
    trace = record(fun, x, leaves)
    np.testing.assert_array_equal(x, before)
    for leaf, copy in zip(leaves, leaves_before, strict=True):
        np.testing.assert_array_equal(leaf, copy)
    assert len(trace.guards) == guards
    for point in (x, elsewhere):
        plain = np.asarray(fun(point.copy(), *leaves_before), float)
        values = evaluate(trace, point, *map(np.asarray, leaves_before))
        np.testing.assert_allclose(values.reshape(plain.shape), plain, rtol=1e-13, atol=1e-13)
    v = np.sin(1 + np.arange(N)).reshape(x.shape)
    h = 1e-6
    plus, minus = fun(elsewhere + h * v, *leaves_before), fun(elsewhere - h * v, *leaves_before)
    difference = (np.asarray(plus, float) - np.asarray(minus, float)) / (2 * h)
    dot = tangent(trace, elsewhere, v, *map(np.asarray, leaves_before))
    np.testing.assert_allclose(dot.reshape(difference.shape), difference, atol=1e-7, rtol=1e-7)
    return trace


# Aliases: what is written through one name is read through the others.


def slice_then_write(x):
    y = x * 1
    row = y[2:8]
    row[1] = x[0]
    row *= 2
    return y


def two_views_of_one(x):
    y = np.sin(x)
    a, b = y[:6], y[3:]
    a[4] = 5.0
    b[:2] += x[:2]
    return a * y[:6] + b[:6]


def read_after_and_before(x):
    y = x * 2
    a = y[1:4]
    before = a * 1
    y[2] = 7 * x[0]
    return before + a


def overlap(x):
    y = x.copy()
    y[1:] = y[:-1]
    y[::2] += y[::-2]
    return y


def reshape_is_view(x):
    y = x.copy()
    m = y.reshape(3, 4)
    m[1] = m[0] * m[2]
    m.T[2] = 3
    return y


def ravel_of_transpose_is_copy(x):
    m = x.copy().reshape(3, 4)
    flat = m.T.ravel()
    flat[0] = 100
    m.ravel()[1] = 50
    return m


def ravel_of_slice_is_copy(x):
    m = x.copy().reshape(3, 4)
    part = m[:, :2].reshape(-1)
    part[:] = 0
    return m


def scalar_is_no_view(x):
    y = x.copy()
    a = y[3]
    y[3] = 9
    a += 1
    return a * y


def zero_d_view(x):
    y = x.copy()
    a = y[3, ...]
    a[...] = x[0] * 4
    a += 1
    return y


def negative_step(x):
    y = x.copy()
    z = y[::-1]
    z[0] = x[1]
    z[-3:-1] = x[2:4]
    return y[8:1:-2] * z[0]


def newaxis_view(x):
    y = x.copy()
    column = y[:, None]
    column[2] = 5
    column[3:5, 0] = x[:2]
    return y


def chain_of_views(x):
    y = x.copy().reshape(2, 3, 2)
    v = y.transpose(2, 0, 1)[1, ::-1, 1:].T
    v[...] = x[:4].reshape(2, 2)
    v[0] -= 1
    return y


def swapped(x):
    y = x.copy()
    y[0], y[1] = y[1], y[0]
    return y


def write_to_x(x):
    x[0] = 3.0
    x += 1
    return x * x


def real_and_imaginary_views(x):
    z = x[:6] + 1j * x[6:]
    z.imag[1] = 7.0
    z.real *= x[0]
    z[2] = 1j * x[3]
    return z.real * z.imag


def real_of_real(x):
    y = x.copy()
    y.real[2] = 8
    return y + y.imag


def astype_copies(x):
    y = x.copy()
    a, b = y.astype(float), y.astype(float, copy=False)
    a[0], b[1] = 5.0, 6.0
    return y


def flat_writes(x):
    m = x.copy().reshape(3, 4).T
    m.flat[1] = 5.0
    m.flat[[2, 3]] = x[:2]
    return m * m.flat[5] + sum(m.flat)


def fill_and_sort(x):
    y = x.copy()
    y[:3].fill(x[0])
    y[5:].sort()
    return y


def zeros_written(x):
    y = np.zeros((3, 4))
    y[0] = x[:4]
    y[1, 2:] = x[4:6] * y[0, 0]
    y[-1, -1] = 2
    return y


def empty_written(x):
    y = np.empty(N)
    for i in range(N):
        y[i] = x[i] ** 2 if i else 1.0
    return y


def likes(x):
    a, b = np.zeros_like(x), np.full_like(x, x[0])
    a[1:3], b[0] = x[2:4], 1.0
    return a + b + np.ones_like(x)


def out_argument(x):
    y, z = np.zeros(N), x.copy()
    np.exp(x, out=y)
    np.multiply(y, z, out=z[:])
    np.add(y[:3], 1, out=y[-3:])
    return y + z


def masked_division(x):
    y = np.full(N, 0.5)
    np.divide(1.0, x, out=y, where=np.array(MASK) & (x != 0))
    return y


def in_place_operators(x):
    y = x.copy()
    y += 1
    y *= y
    y -= x
    y /= 3
    y **= 2
    return y


def in_place_makes_new_scalar(x):
    a = b = x[0]
    a += 1
    a *= 3
    return a - b


def view_of_broadcast(x):
    b = np.broadcast_to(x[:4], (3, 4))
    return b.sum(axis=0) + b[1] * b[2, 0]


def live_row_is_view(x):
    m = x.copy().reshape(3, 4)
    row = m[np.argmax(m[:, 0])]
    row += 1
    row[2] = x[0]
    m[np.argmax(m[0]) % 3, 1] += 2
    return m


ALIASES = [
    slice_then_write, two_views_of_one, read_after_and_before, overlap, reshape_is_view,
    ravel_of_transpose_is_copy, ravel_of_slice_is_copy, scalar_is_no_view, zero_d_view,
    negative_step, newaxis_view, chain_of_views, swapped, write_to_x, real_and_imaginary_views,
    real_of_real, astype_copies, flat_writes, fill_and_sort, zeros_written, empty_written, likes,
    out_argument, masked_division, in_place_operators, in_place_makes_new_scalar,
    view_of_broadcast,
]  # fmt: skip


@pytest.mark.parametrize("fun", ALIASES, ids=lambda f: f.__name__)
def test_alias(fun):
    check(fun)


def test_row_at_a_live_index_is_a_view():
    check(live_row_is_view, guards=1)


# Indexing: reads, and writes through the same index.

INDICES = [
    0, -1, slice(2, 9, 3), slice(None, None, -2), slice(20, 3, -1), slice(5, 2), None, Ellipsis,
    (1, 2), (1, Ellipsis), (Ellipsis, 1), (slice(1, 3), 0), (None, 1, None, slice(0, 2)),
    (slice(None), slice(-3, None, 2)), (), (np.int64(1), -2), [0, 2], [2, -3, 2], np.array([[0], [2]]),
    ([0, 1], [3, 2]), ([[0], [2]], [1, -1, 0]), (slice(None), [3, 0, 3]), (1, [3, 0]), ([1, 2], 0),
    ([0, 1], slice(1, 3)), ([1, 0], None, [2, 3]), (None, [1, 1], slice(None, 2)), True, False,
    np.arange(12).reshape(3, 4) > 4, np.array([True, False, True]), [False, True, True],
    (slice(None), np.array([True, False, True, True])), (np.array([True, False, True]), [1, 2]),
    (True, [0, 1]), np.zeros(0, int), [], (Ellipsis, [1, 2]), (np.array(2),), np.ix_([0, 2], [1, 3]),
    np.array([1, 2], np.uint8),
]  # fmt: skip
CUBE_INDICES = [
    ([0, 1], slice(None), [1, 0]), (0, slice(None), [1, 0]), (slice(None), [0, 2], [1, 0]),
    (slice(None), 1, [[0], [1]]), ([1], [[0], [2]]), (Ellipsis, [1, 0]), (1, Ellipsis, [1, 0]),
    ([0, 1], None, Ellipsis, [0, 1]), (slice(None, None, -1), [2, 0]), np.ones((2, 3), bool),
    (slice(None), np.arange(6).reshape(3, 2) % 2 == 0), (None, [1], slice(0, 2), [0, 1]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "index"),
    [((3, 4), index) for index in INDICES] + [((2, 3, 2), index) for index in CUBE_INDICES],
    ids=str,
)
def test_index(shape, index):
    def read(x):
        return x.reshape(shape)[index] * 2

    def write(x):
        y = x.reshape(shape) * 1
        y[index] = 0.5
        y[index] = y[index] * x[0]
        y[index] += 1
        return y

    check(read)
    check(write)


def test_last_write_wins():
    def fun(x):
        y = x.copy()
        y[[1, 4, 1, 4]] = x[[5, 6, 7, 8]]
        y[[0, 0]] += 1
        np.add.at(y, [2, 2, 3], x[:3])
        np.subtract.at(y, 5, 1.0)
        return y

    check(fun)


def test_an_index_argument_is_an_operand():
    """Another index is no new trace; its bounds are guarded."""
    trace = check(lambda x, i: x[i] * x.reshape(3, 4)[i % 3, 1], INDEX, guards=2)
    other = np.array([5, 1, -2, 2])
    expected = X[other] * X.reshape(3, 4)[other % 3, 1]
    np.testing.assert_allclose(evaluate(trace, X, other), expected)


def test_writing_at_an_index_argument():
    def fun(x, i):
        y = x.copy()
        y[i] = x[:4]
        y.reshape(3, 4)[:, i % 4] *= 2
        np.add.at(y, i, x[4:8])
        return y

    trace = check(fun, INDEX, guards=2)
    other = np.array([5, 5, -2, 2])
    np.testing.assert_allclose(evaluate(trace, X, other), fun(X.copy(), other))


def test_an_index_from_a_sort_needs_no_guard():
    def fun(x):
        order = np.argsort(x)
        y = x[order]
        y[order[::-1][:4]] = x[:4]
        return y + x[np.argmax(x)] * x[np.argmin(x)]

    check(fun)


def test_masks():
    def constant_shape(x):
        y = x.copy()
        y[y < 0] = 0.0
        y[x > 0.5] = x[0]
        m = y.reshape(3, 4)
        m[m[:, 0] > 0.1] = x[:4]
        return y

    check(constant_shape)
    trace = record(lambda x: x[x > 0] ** 2, X)
    ((_, mask),) = trace.guards
    np.testing.assert_array_equal(mask, X > 0)


# Random programs of views, reads and writes, with indices that are constants or arguments.


def random_index(rng, shape, j, basic=False):
    items = []
    for n in shape:
        kind = rng.integers(0, 5 if basic else 8)
        start, stop = rng.integers(-n, n + 1, size=2)
        k = rng.integers(0, 5)
        if kind == 0:
            items.append(int(rng.integers(-n, n)))
        elif kind <= 2:
            items.append(slice(start, stop, [None, 1, 2, -1, -2][k]))
        elif kind == 3:
            items += [None, slice(None)]
        elif kind <= 5:
            items.append(slice(None, None, -1))
        elif kind == 6:
            items.append(rng.integers(-n, n, size=[(2,), (1,), (3, 1), (), (2,)][k]))
        else:
            items.append([j[k] % n, j[k : k + 2] % n - 1, j[k, ...] % n, j[1:3], j[0]][k] % n)
    return (*items[:-1], Ellipsis) if rng.integers(0, 4) == 0 else tuple(items)


def random_program(seed):
    def fun(x, j):
        rng = np.random.default_rng(seed)
        arrays = [np.sin(x) * 1, x.copy().reshape(2, 3, 2)]
        for _ in range(8):
            a = arrays[rng.integers(len(arrays))]
            step = rng.integers(0, 8)
            if step < 3:
                new = a[random_index(rng, a.shape, j, basic=step == 0)]
            elif step < 5:
                new = [a.T, a.reshape(-1), a.reshape(a.shape[::-1])][rng.integers(3)]
            else:
                index, new = random_index(rng, a.shape, j), a
                a[index] = [x[3] * 2, a[index] * a[index] + 1, a[index] + x[0]][step - 5]
            if np.ndim(new) and new.size:
                arrays.append(new)
        return np.concatenate([a.ravel() for a in arrays])

    return fun


@pytest.mark.parametrize("seed", range(100))
def test_random_program(seed):
    fun, j, other = random_program(seed), np.arange(6), np.arange(6)[::-1].copy()
    trace = record(fun, X, (j,))
    np.testing.assert_allclose(evaluate(trace, ELSEWHERE, j), fun(ELSEWHERE, j), rtol=1e-12)
    if holds(trace, ELSEWHERE, other):
        values = evaluate(trace, ELSEWHERE, other)
        np.testing.assert_allclose(values, fun(ELSEWHERE, other), rtol=1e-12)


# Operators, scalars and dtypes.


def reflected(x):
    listed = [1.0, 2.0, 3.0]
    y = np.float64(2) * x + np.arange(N) - x[0]
    return 1 / (3 + y[:3] ** 2) + listed * x[:3] - 2 ** x[:3] + listed @ x[:3] + np.ones(3) @ x[:3]


def python_protocol(x):
    total = sum(x) + max(x[0] * 0, 7) + abs(x[1]) - -x[2] + +x[3]
    for k, row in enumerate(x.reshape(3, 4)):
        total = total + (k + 1) * row[-1]
    return total * len(x)


def modulo(x):
    quotient, rest = divmod(x + 5, 0.7)
    return quotient + rest + (x + 5) // 0.3 + (x + 5) % 0.9


def booleans(x):
    low, high = x > -0.5, x < 0.8
    return (low & high) * x + (low | ~high) * x**2 + (low ^ high)


@pytest.mark.parametrize("fun", [reflected, modulo, booleans], ids=lambda f: f.__name__)
def test_operators(fun):
    check(fun)


def test_python_protocol():
    check(python_protocol, guards=1)


def test_methods():
    def fun(x):
        m = x.reshape(3, 4)
        y = m.sum(axis=0) + m.mean(0) * m.std() + m.max(axis=0) - m.min() + m.prod(axis=0)
        y = (
            y
            + m.T.dot(x[:3])
            + m.cumsum(axis=1)[-1]
            + m.swapaxes(0, 1)[:, 1]
            + m.clip(-0.2, 0.3)[0]
        )
        return y * m.trace() + m.take([1, 2, 0, 1], axis=1)[0] + m.flatten("F")[:4]

    check(fun, elsewhere=X * 0.9)


def test_dtypes_follow_numpy():
    def fun(x, lam):
        half = x.astype(np.float32)
        assert (half * 2.0).dtype == np.float32
        assert (half * lam).dtype == np.float32
        assert (half * (1 / lam + 2)).dtype == np.float32
        assert (half * x[0]).dtype == np.float64
        assert (half * np.float64(2)).dtype == np.float64
        assert (half + np.arange(N)).dtype == np.float64
        assert (x > 0).dtype == bool
        return half

    trace = record(fun, X, (0.5,))
    np.testing.assert_array_equal(evaluate(trace, X, np.array(0.5)), X.astype(np.float32))


def test_reductions_of_ufuncs():
    def fun(x):
        m = x.reshape(3, 4)
        return np.add.reduce(m) + np.multiply.reduce(m, axis=0) + np.maximum.reduce(m)

    check(fun)
    check(lambda x: np.add.outer(x[:3], x[3:5]) * np.add.accumulate(x[:2]))


# Guards.


def test_guards_record_outcomes():
    def fun(x):
        if x.sum() > 0:
            x = x * 2
        while x[0] < 3:
            x = x + 1
        return x[int(x[1])] * round(x[2])

    trace = record(fun, X)
    assert [value.item() for _, value in trace.guards if value.dtype == bool][:2] == [True, True]
    assert all(value.dtype in (bool, np.int64) for _, value in trace.guards)


def test_constants_need_no_guards():
    def fun(x):
        table = np.arange(4)
        weights = {1: 2.0, 2: 3.0}
        total = x[0] * (float(table[2]) + int(np.array(3)) + table.tolist()[1] + np.ones(2).item(0))
        for i in table[1:3]:
            if i > 0 and i in table:
                total = total + x[i] * weights[i]
        return total

    check(fun)


def test_guard_is_met_once():
    trace = record(lambda x: sum(1 for _ in range(3) if x[0] < 0) + x[0], X)
    assert len(trace.guards) == 1


# Wrong turnings.

PLAIN = type("Holder", (list,), {})([np.zeros(N)])  # not looked into, so its array stays plain


def add_to_plain(x):
    PLAIN[0] += x


def write_into_plain(x):
    PLAIN[0][0] = x[0]


def write_array_into_plain(x):
    PLAIN[0][:] = x


def out_is_plain(x):
    np.exp(x, out=PLAIN[0])


def add_at_plain(x):
    np.add.at(PLAIN[0], [0], x[:1])


def protected(x):
    x.setflags(write=False)
    return x


WRONG = [
    (lambda x: protected(2 * x).sort(), TraceError, "setflags protects"),
    (lambda x: np.float64(x[0]), TraceError, "plain float"),
    (lambda x: np.complex128(x[0]), TraceError, "plain complex"),
    (
        lambda x: np.linalg.lstsq(np.outer(x, x), x)[2],
        TraceError,
        "lstsq",
    ),
    (lambda x: np.arctan2.reduce(x), TraceError, "arctan2"),
    (lambda x: np.arctan2.reduce(x), TraceError, "arctan2.reduce"),
    (lambda x: np.exp(x, where=x > 0), TraceError, "out="),
    (lambda x: x.view(np.int64), TraceError, "astype"),
    (lambda x: x.tofile("nowhere"), TraceError, "tofile"),
    (lambda x: np.zeros(3) + object(), TypeError, ""),
    (lambda x: (x * 1j).astype(float), TypeError, ""),
    (lambda x: np.ma.array(x).sum(), TraceError, "plain numbers"),
    (add_to_plain, TraceError, "made outside the function"),
    (write_into_plain, TraceError, "must be made inside"),
    (write_array_into_plain, TraceError, "plain numbers"),
    (out_is_plain, TraceError, "made outside the function"),
    (add_at_plain, TraceError, "made outside the function"),
    (lambda x: np.zeros(x[0]), TraceError, "shape"),
]


@pytest.mark.parametrize(("fun", "error", "words"), WRONG)
def test_wrong_turning(fun, error, words):
    with pytest.raises(error) as caught:
        record(fun, X)
    if error is TraceError:
        first = fun.__code__.co_firstlineno
        assert words in str(caught.value)
        assert str(caught.value).startswith(
            (f"{__file__}:{first} ", f"{__file__}:{first + 1} "),
        )


def write_broadcast(x):
    np.broadcast_to(x, (2, N))[0] = 1


def cast_in_place(x):
    y = np.arange(N)
    y += x


def complex_into_real(x):
    y = np.zeros(N)
    y[:] = x * 1j


def write_scalar(x):
    x[0][0] = 1


NUMPYS_OWN = [
    (write_broadcast, ValueError, "read-only"),
    (cast_in_place, TypeError, "Cannot cast ufunc 'add' output"),
    (complex_into_real, TypeError, "complex"),
    (write_scalar, TypeError, "item assignment"),
    (lambda x: x[N], IndexError, "out of bounds"),
    (lambda x: x[0.5], IndexError, "integers, slices"),
    (lambda x: x + x[:2], ValueError, "broadcast"),
    (lambda x: x.reshape(5, 5), ValueError, "cannot reshape"),
    (lambda x: 1 if x > 0 else 2, ValueError, "ambiguous"),
    (lambda x: {x: 1}, TypeError, "unhashable"),
    (lambda x: x.nothing, AttributeError, "nothing"),
]


@pytest.mark.parametrize(("fun", "error", "words"), NUMPYS_OWN)
def test_numpys_own_errors(fun, error, words):
    with pytest.raises(error, match=words):
        record(fun, X)


def test_a_value_of_another_trace_is_refused():
    kept = []
    with Recording() as recording:
        kept.append(traced(p.input_node(recording.pool, "x", (N,), float), X))
    with pytest.raises(TraceError, match="returned"):
        kept[0] + 1
    with pytest.raises(TraceError, match="another call"), Recording():
        kept[0] + 1


def test_equal_constants_are_one_node():
    with Recording():
        a, b = lift(np.arange(3.0)), lift(np.arange(3.0))
        assert a.node is b.node
        changed = np.arange(3.0)
        first = lift(changed)
        changed[0] = 5
        assert lift(changed).node is not first.node
        np.testing.assert_array_equal(first.value, [0, 1, 2])


def test_uniform_constants_take_no_memory():
    with Recording():
        assert adopt(np.full(1000, 2.5)).node.args[0].size == 1
        assert isinstance(adopt(np.zeros(3)), Traced)
        assert adopt(np.array([0.0, -0.0])).node.value is not None


def test_exponents_of_integers_that_turn_negative_are_an_error():
    f = nbhvp.differentiable(lambda x: np.sum(x * 3 ** (10 * x).astype(int)), target="interpret")
    assert f([0.21, 0.3]) == 0.21 * 9 + 0.3 * 27 and f([0.41, 0.3]) == 0.41 * 81 + 0.3 * 27
    assert f.report().traces == 1
    with pytest.raises(ValueError, match="negative integer powers"):
        f([-0.41, 0.3])
