"""Recording: arguments, forms of results, guards, what is refused."""

import enum
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pytest
import scipy.sparse as sp

from nbhvp.errors import TraceError
from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph
from nbhvp.trace.arguments import flatten, leaves_of, unflatten
from nbhvp.trace.record import record

X = np.array([0.5, -0.4, 1.2])


class Mode(enum.Enum):
    SUM = 1
    PRODUCT = 2


class Data(NamedTuple):
    a: np.ndarray
    b: float


def evaluate(trace, x, *leaves):
    return interpret(Graph(trace.inputs, trace.outputs), x, *map(np.asarray, leaves))[0]


def gradient(trace, x, *leaves):
    node = derive.gradient(trace.outputs[0], trace.inputs[0])
    return interpret(derive.check(Graph(trace.inputs, (node,))), x, *map(np.asarray, leaves))[0]


# Arguments.

ARRAY = np.arange(3.0)


def test_leaves_and_statics():
    args = (1.5, ARRAY, 3, [np.float32(2), (True, ARRAY > 1)], Data(ARRAY, 0.5), Mode.SUM, "name")
    kwargs = {"table": {"i": np.arange(2), 7: None}, "function": np.exp, "n": np.int64(4)}
    leaves, key = flatten(args, kwargs)
    assert [leaf.dtype.str[1:] for leaf in leaves] == ["f8", "f8", "f4", "b1", "f8", "f8", "i8"]
    assert [leaf.kind for leaf in leaves_of(key)] == [
        "float", "array", "scalar", "array", "array", "float", "array",
    ]  # fmt: skip
    assert leaves[1] is ARRAY
    hash(key)
    numbers = list(range(len(leaves)))
    assert unflatten(key, numbers) == (
        (0, 1, 3, [2, (True, 3)], Data(4, 5), Mode.SUM, "name"),
        {"table": {"i": 6, 7: None}, "function": np.exp, "n": np.int64(4)},
    )


SAME = [((1.0,), (2.0,)), ((ARRAY,), (ARRAY + 1,)), (([0.5, "a"],), ([1.5, "a"],))]
DIFFERENT = [
    ((1,), (2,)), ((1,), (True,)), ((1.0,), (1,)), ((1.0,), (np.float64(1),)), ((None,), ()),
    ((ARRAY,), (ARRAY[:2],)), ((ARRAY,), (ARRAY.astype("f4"),)), (([1.0],), ((1.0,),)),
    ((Mode.SUM,), (Mode.PRODUCT,)), ((np.exp,), (np.sin,)), (({"a": 1.0},), ({"b": 1.0},)),
    ((np.int64(1),), (np.int32(1),)), ((1.0,), (np.array(1.0),)),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), SAME)
def test_equal_keys(a, b):
    assert flatten(a, {})[1] == flatten(b, {})[1]
    assert hash(flatten(a, {})[1]) == hash(flatten(b, {})[1])


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different_keys(a, b):
    assert flatten(a, {})[1] != flatten(b, {})[1]


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((sp.eye_array(3),), {}, "argument 1 is of type"),
        ((1, [2.0, {3}]), {}, r"argument 2\[1\] is of type set"),
        ((), {"z": 1j}, "argument 'z' is of type complex"),
        ((ARRAY * 1j,), {}, "argument 1 is an array of complex128"),
        ((np.array(["a"]),), {}, "argument 1 is an array of <U1"),
        ((), {"t": {"k": object()}}, r"argument 't'\['k'\] is of type object"),
    ],
)
def test_other_arguments_are_refused(args, kwargs, words):
    with pytest.raises(TypeError, match=words + ".*: arguments after x may be"):
        record(lambda x, *a, **k: x, X, args, kwargs)


def test_arguments_are_inputs():
    def fun(x, scale, data, mode="sum", *, shift=0.0, on=True):
        assert isinstance(scale, float)
        assert isinstance(data["y"], np.ndarray)
        total = scale * (x * data["y"]).sum() + shift
        data["y"][0] = 5.0
        return total if mode == "sum" and on else -total

    y = np.array([1.0, 2.0, 3.0])
    trace = record(fun, X, (2.0, {"y": y}), {"shift": 0.25})
    assert [node.params["name"] for node in trace.inputs] == ["x", "arg0", "arg1", "arg2"]
    np.testing.assert_array_equal(y, [1, 2, 3])
    new = np.array([-1.0, 0.5, 2.0])
    expected = fun(X, 3.0, {"y": new.copy()}, shift=1.5)
    assert evaluate(trace, X, 3.0, new, 1.5) == expected
    np.testing.assert_array_equal(gradient(trace, X, 3.0, new, 1.5), 3 * new)


def test_python_floats_stay_weak():
    x = X.astype(np.float32)
    assert record(lambda x, c: x * c, x, (2.0,)).outputs[0].dtype == np.float32
    assert record(lambda x, c: x * c, x, (np.float64(2),)).outputs[0].dtype == np.float64
    trace = record(lambda x, c: ((c + 1) / 3 * x).sum(), x, (2.0,))
    assert evaluate(trace, x, 0.5) == (np.float32(0.5) * x).sum()


# Results.

FORMS = [
    (lambda x: x.sum(), "scalar", ()),
    (lambda x: x[:1], "scalar", ()),
    (lambda x: [[x[0]]][0], "scalar", ()),
    (lambda x: (x @ x).reshape(1, 1), "scalar", ()),
    (lambda x: 3, "scalar", ()),
    (lambda x: (x > 0).sum(), "scalar", ()),
    (lambda x: x > 0, "array", (3,)),
    (lambda x: np.outer(x, x), "array", (3, 3)),
    (lambda x: np.arange(4), "array", (4,)),
    (lambda x: x, "array", (3,)),
    (lambda x: x[:0], "array", (0,)),
    (lambda x: [x[0], 2 * x[1], 1.0, x[2:]], "sequence", (4,)),
    (lambda x: (x.sum(), 2), "sequence", (2,)),
    (lambda x: [], "sequence", (0,)),
]


@pytest.mark.parametrize(("fun", "form", "shape"), FORMS)
def test_forms(fun, form, shape):
    trace = record(fun, X)
    assert trace.form == form
    (output,) = trace.outputs
    assert output.shape == shape
    assert output.dtype.kind == "f"
    plain = np.array([float(np.ravel(r)[0]) for r in fun(X)]) if form == "sequence" else fun(X)
    expected = np.reshape(plain, shape).astype(float)
    np.testing.assert_allclose(evaluate(trace, X), expected, rtol=1e-15)


def none(x):
    x.sum()


@pytest.mark.parametrize(
    ("fun", "words"),
    [
        (none, rf"none \({__file__}:\d+\) returned None"),
        (lambda x: x * 1j, "complex"),
        (lambda x: "text", "object of type str"),
        (lambda x: {"a": x}, "object of type dict"),
        (lambda x: [x, x], r"shapes \(3,\), \(3,\)"),
    ],
)
def test_wrong_results(fun, words):
    with pytest.raises(TypeError, match=words):
        record(fun, X)


@pytest.mark.parametrize("x", [X * 1j, X.astype(object), np.arange(3), [1.0, 2.0], np.array("a")])
def test_wrong_points(x):
    with pytest.raises(TypeError, match="real floats"):
        record(lambda x: x, x)


# Inputs.

POINTS = [
    X, X.astype(np.float32), np.zeros((2, 0)), np.array(1.5), np.ones((3, 2)).T, np.arange(8.0)[::2],
]  # fmt: skip


@pytest.mark.parametrize("x", POINTS)
def test_points_of_any_layout(x):
    x = x.copy(order="K")
    x.flags.writeable = False

    def fun(x):
        x *= 2
        return (x**2).sum() if x.ndim else x * x

    expected = np.asarray(fun(x.copy()))
    trace = record(fun, x)
    assert trace.inputs[0].dtype == x.dtype
    np.testing.assert_array_equal(evaluate(trace, x), expected)


def test_functions_of_every_kind():
    class Quadratic:
        def __init__(self, a):
            self.a = a

        def __call__(self, x):
            return self.value(x)

        def value(self, x, power=2):
            return (self.a * x**power).sum()

    quadratic = Quadratic(np.arange(3.0))
    cube = functools.partial(quadratic.value, power=3)
    for fun in (quadratic, quadratic.value, cube, np.sum, functools.lru_cache(quadratic.value)):
        value = cube(X) if fun is cube else (np.sum(X) if fun is np.sum else quadratic(X))
        assert evaluate(record(fun, X), X) == pytest.approx(float(value), rel=1e-15)


# Guards.


def piecewise(x, limit):
    total = 0.0
    for value in x:
        total = total + (value**2 if value > limit else -value)
    return total


def test_guards_tell_where_a_trace_holds():
    trace = record(piecewise, X, (0.0,))
    graph = Graph(trace.inputs, tuple(node for node, _ in trace.guards))

    def holds(x, limit):
        found = interpret(graph, x, np.asarray(limit))
        return all(np.array_equal(f, v) for f, (_, v) in zip(found, trace.guards, strict=True))

    assert len(trace.guards) == 3
    assert holds(X, 0.0)
    assert holds(2 * X, -0.5)
    assert not holds(-X, 0.0)
    assert not holds(X, -0.5)
    np.testing.assert_array_equal(gradient(trace, X, 0.0), [1.0, -1.0, 2.4])


def test_floating_point_warnings_stay_inside():
    trace = record(lambda x: np.log(x).sum() + (x / 0.0).sum(), X)
    assert np.isnan(evaluate(trace, X))


def test_the_users_own_error_comes_through():
    def fun(x):
        if x[0] > 0:
            raise ArithmeticError("negative only")

    with pytest.raises(ArithmeticError, match="negative only"):
        record(fun, X)
    with pytest.raises(TraceError, match=r"test_record\.py:\d+ in `return np.float64"):
        record(floated, X)


def floated(x):
    return np.float64(x[0])


def test_traces_in_threads_are_apart():
    def fun(x):
        for _ in range(20):
            x = np.sin(x) + np.array([x[0], 1, 2])
        return x.sum()

    with ThreadPoolExecutor(4) as threads:
        traces = list(threads.map(lambda k: record(fun, k * X), range(8)))
    for k, trace in enumerate(traces):
        assert evaluate(trace, k * X) == pytest.approx(fun(k * X), rel=1e-14)


def test_a_thousand_steps():
    def fun(x):
        u = np.zeros(50)
        u[:3] = x
        for _ in range(300):
            u[1:-1] += 0.1 * (u[2:] - 2 * u[1:-1] + u[:-2])
        return (u**2).sum()

    trace = record(fun, X)
    assert evaluate(trace, 2 * X) == pytest.approx(fun(2 * X), rel=1e-13)
    v = p.input_node(trace.pool, "v", (3,), float)
    product = derive.hvp(trace.outputs[0], trace.inputs[0], v)
    expected = 4 * interpret(Graph((*trace.inputs, v), (product,)), X, X)[0] @ X / 2
    assert expected == pytest.approx(4 * fun(X), rel=1e-12)


def test_writes_do_not_read_what_they_replace(monkeypatch):
    """Each would look past all writes before it: arrays filled in loops would take quadratic time."""
    reads = []
    read = p.found_in
    monkeypatch.setattr(p, "found_in", lambda *args: reads.append(args) or read(*args))

    def filled(x):
        y = np.zeros((3, 2))
        for i in range(3):
            y[i, 0] = x[i] * x[0]
            y[i, 1:] = x[i]
        return (y**2).sum()

    trace = record(filled, X)
    np.testing.assert_allclose(evaluate(trace, X), filled(X), rtol=1e-15)
    assert not reads
