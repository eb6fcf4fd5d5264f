"""Stand-ins: what a copy of the user's function sees, and what the user sees of it: nothing."""

import collections
import dataclasses
import enum
import functools
import math
import random
import types
from dataclasses import dataclass
from math import exp as exponential
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.linalg as la
import pytest
import scipy.sparse
import scipy.sparse as sp
import scipy.special
from numpy import array, zeros
from scipy.special import polygamma

from nbhvp.errors import TraceError
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph
from nbhvp.trace.record import record

N = 6
X = np.linspace(0.3, 1.3, N)
ELSEWHERE = X[::-1] ** 2 + 0.1
RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(4, N))
TABLE = np.array([2, 0, 5])
LAYERS = [WEIGHTS, {"bias": np.arange(4.0), "scale": 0.5}]
SETTINGS = types.SimpleNamespace(matrix=WEIGHTS, factor=2.0)
DEFAULTS = collections.defaultdict(float, offset=np.ones(N))
SPARSE = sp.random_array((4, N), density=0.5, rng=RNG, format="csr")
LEGACY = sp.csr_matrix(SPARSE)
GENERATOR = np.random.default_rng(1)
SCALE = 2.0
calls = 0


def evaluate(trace, x, *leaves):
    return interpret(Graph(trace.inputs, trace.outputs), x, *leaves)[0]


def check(fun, *leaves):
    expected = [np.asarray(fun(point, *leaves)) for point in (X, ELSEWHERE)]
    trace = record(fun, X, leaves)
    for point, value in zip((X, ELSEWHERE), expected, strict=True):
        np.testing.assert_allclose(evaluate(trace, point), value, rtol=1e-13)
    assert not trace.closure.changed()
    return trace


# Ways to reach NumPy.


def by_module(x):
    y = np.zeros(3)
    y[0] = x[0]
    y[1:] = np.array([x[1] * x[2], 1.0])
    return np.asarray(y) + np.asarray([x[0], 2, 3]) + la.norm(x) + np.linalg.norm(y)


def by_name(x):
    y = zeros((2, 2))
    y[1] = array([x[1], exponential(x[2])])
    return y + polygamma(1, x[0]) + scipy.special.logsumexp(x)


def imported_inside(x):
    import math as m

    import numpy as xp

    y = xp.empty(2)
    y[:] = x[:2]
    return y * m.sqrt(x[0]) if isinstance(x, xp.ndarray) else None


def by_math(x):
    whole = math.floor(4 * x[0])
    return math.exp(x[0]) * math.hypot(x[1], 2, x[2]) + math.log(x[1], 3) + whole * x[3] + math.pi


def joined(x):
    return np.r_[0.0, x, 1:3] * np.r_[x[0], np.ones(8)] + np.c_[x, X].sum()


def as_values(x):
    ufunc = np.sin if x.ndim == 1 else np.cos
    return functools.reduce(np.maximum, [ufunc(x), np.cos(x), x / 2])


def checks_of_type(x):
    assert isinstance(x, np.ndarray)
    assert isinstance(x[0], float)
    assert isinstance(x[0], np.floating | int)
    assert not isinstance(x, list)
    assert np.ndim(x) == 1
    assert np.shape(x) == (N,)
    assert np.isscalar(x[0])
    assert not np.iscomplexobj(x)
    return x * np.ones(np.size(x))


# Ways to reach the user's code and data.


def helper(z, weights=WEIGHTS):
    out = zeros(4)
    out[:] = weights @ z
    return out


def calls_helper(x):
    return [helper(x), helper(2 * x, WEIGHTS**2)][0] + LAYERS[1]["bias"] * LAYERS[0][0, 0]


def recursive(x, depth=3):
    return array([x[depth]]) if depth == 0 else recursive(x, depth - 1) * array([x[depth]])


def nested(x):
    total = array([0.0])

    def add(value):
        nonlocal total
        total = total + array([value])

    for i in TABLE:
        add(x[i] * SCALE)
    return total


def tables(x):
    picked = x[TABLE] + WEIGHTS[TABLE[0]][TABLE]
    return (
        WEIGHTS[np.argmax(x[:4]), TABLE[1]] * picked + DEFAULTS["offset"][0] + SETTINGS.matrix[0, 0]
    )


def make_closure():
    weights, count = WEIGHTS[0].copy(), 0
    power = functools.partial(pow_of, exponent=2)

    def inner(x):
        nonlocal count
        count += 1
        return zeros(N) + power(x) * weights + count

    return inner


def pow_of(x, exponent):
    return array(list(x)) ** exponent


@functools.lru_cache
def cached(n):
    return np.arange(n) + 0.5


def uses_cached(x):
    return cached(N) * x


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args):
        return np.array([function(*args), 1.0])

    return wrapper


@decorated
def wrapped(x):
    return x.sum()


class Model:
    offset = np.arange(N) * 0.1

    def __init__(self, weights):
        self.weights = weights
        self.sparse = SPARSE
        self.evaluations = 0

    def __call__(self, x):
        self.evaluations += 1
        self.last = x
        return self.layer(x) + self.evaluations

    def layer(self, x):
        y = zeros(4)
        y[1:] = (self.weights @ x)[1:]
        return y + self.sparse @ (x + self.offset) + self.size + self.twice(self.norm)

    @property
    def size(self):
        return np.asarray(self.weights).sum()

    @functools.cached_property
    def norm(self):
        return array([self.weights[0, 0]])[0]

    @staticmethod
    def twice(x):
        return array([x, x]).sum()

    @classmethod
    def make(cls, x):
        return cls(x * WEIGHTS)


class Child(Model):
    def layer(self, x):
        return super().layer(x) * array([x[0]])


@dataclass(frozen=True, slots=True)
class Slotted:
    weights: np.ndarray

    def value(self, x):
        return array([self.weights[0] @ x])


class Pair(NamedTuple):
    a: np.ndarray
    b: float


class Mode(enum.Enum):
    SUM = 1


MODEL, CHILD, SLOTTED, PAIR = Model(WEIGHTS), Child(WEIGHTS), Slotted(WEIGHTS), Pair(WEIGHTS, 2.0)
MODE = Mode.SUM


def objects(x):
    assert isinstance(CHILD, Model)
    assert isinstance(MODEL, Model)
    assert not isinstance(MODEL, Child)
    total = MODEL.layer(x) + CHILD.layer(x) + SLOTTED.value(x) + PAIR.a[0] @ x * PAIR.b
    return total + Model.make(x).layer(x) if MODE is Mode.SUM else total


def products(x):
    y = SPARSE @ x + SPARSE.dot(2 * x) + LEGACY * x + LEGACY @ x + x @ SPARSE.T
    matrix = np.stack([x, x * x], axis=1)
    y = y + (SPARSE @ matrix)[:, 1] + (matrix.T @ SPARSE.T)[0] + (matrix.T @ LEGACY.T)[1]
    gram = SPARSE.T @ SPARSE + 2.0 * sp.eye_array(N) - sp.diags_array(np.ones(N))
    y = y + x @ (gram.tocsc() @ x) + SPARSE.shape[0] + sp.csr_matrix(WEIGHTS) @ x
    return y + SPARSE @ np.ones(N) + SPARSE[:, [0]] @ x[:1] + scipy.sparse.issparse(SPARSE)


PLAINLY = [
    by_module, by_name, imported_inside, by_math, joined, as_values, checks_of_type, calls_helper,
    recursive, nested, tables, uses_cached, wrapped, objects, products, MODEL.layer,
    functools.partial(helper, weights=2 * WEIGHTS), lambda x: x[:, None] @ x[None], np.cumsum,
]  # fmt: skip


@pytest.mark.parametrize("fun", PLAINLY, ids=lambda f: getattr(f, "__name__", str(f)[:40]))
def test_stand_ins(fun):
    if fun is by_math:
        assert len(record(fun, X).guards) == 1  # nothing raises
    check(fun)


def test_functions_with_state_are_traced_on_copies():
    closure, model = make_closure(), Model(WEIGHTS)
    traces = [record(closure, X), record(model, X)]
    assert not any(trace.closure.changed() for trace in traces)
    assert model.evaluations == 0
    assert not hasattr(model, "last")
    np.testing.assert_allclose(evaluate(traces[0], ELSEWHERE), closure(ELSEWHERE))
    np.testing.assert_allclose(evaluate(traces[1], ELSEWHERE), model(ELSEWHERE))


def count(x):
    global calls
    calls += 1
    LAYERS[1]["last"] = x
    return x * calls


def test_nothing_leaves_the_trace():
    before = dict(globals())
    record(count, X)
    assert dict(globals()) == before
    assert "last" not in LAYERS[1]
    assert zeros is np.zeros
    assert type(np).__name__ == "module"


def test_functions_as_arguments():
    check(lambda x, function, power=2: function(x) ** power, pow_two)


def pow_two(x):
    return np.array([x[0], SCALE * x[1]])


# What changes.


def test_changes_are_seen():
    weights, scale, items = np.ones(N), 1.0, [1.0, np.ones(N)]
    holder = Model(np.ones((4, N)))

    def fun(x):
        return (weights * x).sum() * scale + (items[1] @ x) * items[0] + holder.weights[0] @ x

    def changed():
        return record(fun, X).closure

    closure = changed()
    assert not closure.changed()
    weights[2] = 5
    assert closure.changed()
    closure = changed()
    scale = 3.0
    assert closure.changed()
    scale = 1.0
    assert not closure.changed()
    for change in (
        lambda: items[1].fill(2), lambda: items.__setitem__(0, 4.0), lambda: items.append(1),
        lambda: setattr(holder, "weights", np.zeros((4, N))), lambda: setattr(holder, "new", 1),
    ):  # fmt: skip
        closure = changed()
        assert not closure.changed()
        change()
        assert closure.changed()


def test_changes_of_globals_are_seen(monkeypatch):
    closure = record(nested, X).closure
    monkeypatch.setitem(globals(), "SCALE", 2.5)
    assert closure.changed()
    monkeypatch.undo()
    assert not closure.changed()
    closure = record(calls_helper, X).closure
    monkeypatch.setattr(helper, "__defaults__", (2 * WEIGHTS,))
    assert closure.changed()


def test_a_plain_array_is_a_constant_as_it_was_and_is_watched():
    holder = type("Holder", (list,), {})([np.ones(N)])  # not looked into

    def fun(x):
        first = x * holder[0]
        holder[0][0] += 1
        return first + holder[0] * x

    trace = record(fun, X)
    np.testing.assert_allclose(evaluate(trace, X)[0], 3 * X[0])
    holder[0][1] = 7
    assert trace.closure.changed()


# Randomness and other wrong turnings.


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: x + np.random.normal(size=N),
        lambda x: x * random.random(),
        lambda x: x * GENERATOR.normal(),
        lambda x: x * np.random.default_rng().normal(),
    ],
)
def test_hidden_state_is_reported(fun):
    assert record(fun, X).hidden_state is not None


def test_a_seeded_generator_is_no_hidden_state():
    trace = record(lambda x: x * np.random.default_rng(3).normal(size=N), X)
    assert trace.hidden_state is None


def write_global(x):
    WEIGHTS[0] = x


def add_to_global(x):
    TABLE[:] += 1


def largest_entry(x):
    return (x[0] * SPARSE).max()


@pytest.mark.parametrize(
    ("fun", "error", "words"),
    [
        (write_global, TraceError, "made outside the function"),
        (add_to_global, TraceError, "made outside the function"),
        (largest_entry, TraceError, "max of a sparse matrix"),
        (lambda x: SPARSE @ x[:2], ValueError, "6 columns"),
        (
            lambda x: scipy.linalg.signm(x[:4].reshape(2, 2)),
            TraceError,
            "in scipy.linalg.signm: scipy.linalg.schur has no derivative rule",
        ),
        (lambda x: np.r_["0,2", x], TraceError, "directive"),
        (lambda x: math.log(-x[0]), ValueError, "math domain|positive input"),
        (lambda x: math.exp(x), TypeError, "0-dimensional|size-1|scalar"),
        (lambda x: math.factorial(x[0]), TypeError, "integer"),
        (lambda x: dataclasses.asdict(SLOTTED)["weights"].nothing, AttributeError, "nothing"),
    ],
)
def test_wrong_turning(fun, error, words):
    with pytest.raises(error, match=words) as caught:
        record(fun, X)
    if error is TraceError:
        assert str(caught.value).startswith(f"{__file__}:{fun.__code__.co_firstlineno}") or (
            str(caught.value).startswith(f"{__file__}:{fun.__code__.co_firstlineno + 1}")
        )


class Subclassed(dict):
    """An object that is not copied."""


class Registered:
    """Another, as it makes its own objects."""

    scale = 1.0
    table: ClassVar = [1.0]

    def __new__(cls):
        return object.__new__(cls)

    def __init__(self):
        self.factor = 2.0


class Defaults:
    scale = 1.0
    table: ClassVar = [1.0]

    def value(self, x):
        return self.scale * self.table[0] * x.sum()


def by_keyword(x, *, factor=2.0):
    return factor * x.sum()


def test_changes_of_what_is_not_copied_are_seen(monkeypatch):
    members, queue = {1.0, 2.0}, collections.deque([1.0])
    subclassed, registered = Subclassed(a=1.0), Registered()

    def fun(x):
        held = sum(members) + sum(queue) + subclassed["a"] + registered.factor
        return held * by_keyword(x) + Defaults().value(x) + Registered.scale * x[0]

    check(fun)
    changes = (
        lambda: members.add(3.0), lambda: queue.append(3.0), lambda: subclassed.update(a=2.0),
        lambda: setattr(registered, "factor", 3.0), lambda: setattr(registered, "new", 1),
        lambda: monkeypatch.setattr(Registered, "scale", 2.0),
        lambda: monkeypatch.setattr(Defaults, "scale", 2.0),
        lambda: Defaults.table.__setitem__(0, 2.0),
        lambda: monkeypatch.setattr(Defaults, "value", lambda self, x: x.sum()),
        lambda: monkeypatch.setattr(by_keyword, "__kwdefaults__", {"factor": 3.0}),
        lambda: monkeypatch.setitem(by_keyword.__kwdefaults__, "factor", 4.0),
    )  # fmt: skip
    for change in changes:
        closure = record(fun, X).closure
        assert not closure.changed()
        change()
        assert closure.changed()
