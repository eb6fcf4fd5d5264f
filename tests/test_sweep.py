"""The sweep over tapes: against the same function as a graph of scalars, on every target.

Tapes are recorded here by a few lines of Python: random expressions over all real primitives of
one and two arguments, and deep recurrences. The same operations on nodes give the graph.
"""

import functools

import numpy as np
import pytest

from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, Pool
from nbhvp.graph.tape import CONSTANT, FIRST, INPUT, Guards, Tape, replay, tape_guards

pytestmark = pytest.mark.filterwarnings("error")


class Recorder:
    """Records operations on numbers; `record` and `holds` are its whole language."""

    def __init__(self, *inputs):
        self.codes, self.first, self.second, self.values = [CONSTANT], [0], [0], [0.0]
        self.primitives, self.conditions = [], []
        self.sizes = tuple(len(one) for one in inputs)
        self.inputs = [[self._add(INPUT, 0, 0, x) for x in one] for one in inputs]

    def _add(self, code, first, second, value):
        for column, entry in zip(
            (self.codes, self.first, self.second, self.values),
            (code, first, second, float(value)),
            strict=True,
        ):
            column.append(entry)
        return len(self.codes) - 1

    def _code(self, entry):
        if entry not in self.primitives:
            self.primitives.append(entry)
        return FIRST + self.primitives.index(entry)

    def _evaluated(self, entry, args):
        with np.errstate(all="ignore"):
            return entry.evaluate(*(np.float64(self.values[k]) for k in args))

    def constant(self, value):
        return self._add(CONSTANT, 0, 0, value)

    def record(self, entry, *args):
        return self._add(self._code(entry), *(*args, 0)[:2], self._evaluated(entry, args))

    def guard(self, entry, *args):
        outcome = self._evaluated(entry, args)
        self.conditions.append((self._code(entry), *(*args, 0)[:2], float(outcome)))
        return outcome

    def tape(self, outputs, passive=()):
        columns = [*zip(*self.conditions, strict=True)] or [()] * 4
        types = (np.uint8, np.uint32, np.uint32, np.float64)
        guards = Guards(*(np.array(c, t) for c, t in zip(columns, types, strict=True)))
        columns = (self.codes, self.first, self.second, self.values)
        arrays = (np.array(c, t) for c, t in zip(columns, types, strict=True))
        where = np.array(outputs, np.int64)
        return Tape(tuple(self.primitives), *arrays, self.sizes, where, guards, passive)


class Nodes:
    """The same language on the nodes of a graph, each a scalar."""

    def __init__(self, u, sizes):
        self.pool, at = u.pool, 0
        self.inputs = []
        for size in sizes:
            parts = [p.slice_(u, start=(at + k,), step=(1,), size=(1,)) for k in range(size)]
            self.inputs.append([p.reshape(part, shape=()) for part in parts])
            at += size

    def constant(self, value):
        return p.constant(self.pool, np.float64(value))

    def record(self, entry, *args):
        return entry(*args)

    def stacked(self, results):
        return p.concatenate(*(p.reshape(z, shape=(1,)) for z in results), axis=0)


def takes_floats(entry):
    if not entry.is_elementwise or entry is p.polygamma or entry.arity > 2:
        return False
    pool = Pool()
    args = [p.input_node(pool, name, (), np.float64) for name in "xy"[: entry.arity]]
    try:
        return entry(*args).dtype == np.float64
    except TypeError:
        return False


RECORDED = [entry for entry in p.TABLE.values() if takes_floats(entry)]


def every_primitive(language, seed):
    """Results of each primitive at numbers of its domain, shared operands among them."""
    (xs,) = language.inputs
    rng = np.random.default_rng(seed)
    results = []
    for entry in RECORDED:
        args = []
        for k in range(entry.arity):
            low, high = entry.domain[min(k, len(entry.domain) - 1)]
            # a + b tanh(x y) lies in the domain, and moves with two inputs.
            x, y = (xs[j] for j in rng.integers(len(xs), size=2))
            bent = language.record(p.tanh, language.record(p.multiply, x, y))
            scaled = language.record(p.multiply, language.constant((high - low) / 2.2), bent)
            args.append(language.record(p.add, scaled, language.constant((high + low) / 2)))
        results.append(language.record(entry, *args))
        if entry.arity == 2:
            results.append(language.record(entry, args[0], language.constant(1.75)))
            results.append(language.record(entry, language.constant(0.75), args[1]))
    return results


SMOOTH = (p.add, p.subtract, p.multiply, p.tanh, p.sin, p.arctan2, p.hypot, p.expit)


def random_expression(language, seed):
    """A random graph of records, each operand any earlier one."""
    (xs,) = language.inputs
    rng = np.random.default_rng(seed)
    known = [*xs, language.constant(0.5)]
    for _ in range(40):
        entry = SMOOTH[rng.integers(len(SMOOTH))]
        args = [known[k] for k in rng.integers(len(known), size=entry.arity)]
        known.append(language.record(p.sin, language.record(entry, *args)))
    return [*known[-3:], known[0], known[-1]]


def recurrence(language, seed):
    """x -> r x (1 - x) + 0.1 y, many times."""
    (xs,) = language.inputs
    x, y = xs[0], xs[1]
    one = language.constant(1.0)
    for _ in range(100):
        rest = language.record(p.subtract, one, x)
        grown = language.record(p.multiply, language.record(p.multiply, xs[2], x), rest)
        x = language.record(p.add, grown, language.record(p.multiply, language.constant(0.1), y))
        y = language.record(p.sin, language.record(p.multiply, x, y))
    return [x, y]


PROGRAMS = {
    "every primitive": functools.partial(every_primitive, seed=0),
    **{f"expression {k}": functools.partial(random_expression, seed=k) for k in range(4)},
    "recurrence": functools.partial(recurrence, seed=0),
}
POINT = np.array([0.7, 0.4, 0.9, 0.6])
by_program = pytest.mark.parametrize("name", PROGRAMS)


def both(name):
    """Input, and results by the tape and as a graph."""
    recorder = Recorder(POINT)
    tape = recorder.tape(PROGRAMS[name](recorder))
    u = p.input_node(Pool(), "u", POINT.shape, np.float64)
    language = Nodes(u, tape.sizes)
    return u, replay(u, tape=tape), language.stacked(PROGRAMS[name](language))


def pair(u, make, inputs=()):
    """What `make` makes of the results by the tape and of those as a graph, in one graph."""

    def graph(u, by_tape, by_nodes):
        return derive.check(Graph((u, *inputs), (make(by_tape), make(by_nodes))))

    return graph


def assert_same(graph, *values, tolerance=1e-11):
    given, needed = interpret(graph, *values)
    np.testing.assert_allclose(given, needed, tolerance, tolerance * np.abs(needed).max(initial=1))


@by_program
@pytest.mark.parametrize("at", [POINT, POINT[::-1] * 0.9], ids=["recorded", "another point"])
def test_values_and_first_derivatives(name, at):
    u, *results = both(name)
    v = p.input_node(u.pool, "v", u.shape, np.float64)
    w = p.input_node(u.pool, "w", results[0].shape, np.float64)
    rng = np.random.default_rng(0)
    values = at, rng.normal(size=v.shape), rng.normal(size=w.shape)
    for make in (
        lambda z: z,
        lambda z: derive.jvp([z], [u], [v])[0],
        lambda z: derive.vjp([z], [u], [w])[0],
    ):
        graph = derive.check(Graph((u, v, w), tuple(map(make, results))))
        assert_same(graph, *values)


@by_program
@pytest.mark.parametrize("mode", derive.EXACT_MODES)
def test_products(name, mode):
    """The Hessian of weighted results, and of a function of the results and of the input."""
    u, *results = both(name)
    v = p.input_node(u.pool, "v", u.shape, np.float64)
    w = p.input_node(u.pool, "w", results[0].shape, np.float64)
    rng = np.random.default_rng(0)
    values = POINT, rng.normal(size=v.shape), rng.normal(size=w.shape)
    products = [derive.hvp(derive.inner(w, z), u, v, mode) for z in results]
    assert_same(derive.check(Graph((u, v, w), tuple(products)), linear_in=v), *values)


def test_guards():
    recorder = Recorder(POINT)
    (xs,) = recorder.inputs
    product = recorder.record(p.multiply, xs[0], xs[1])
    assert recorder.guard(p.less, product, xs[2])
    assert recorder.guard(p.floor, recorder.record(p.add, xs[2], recorder.constant(3.0))) == 3
    tape = recorder.tape([product])
    u = p.input_node(Pool(), "u", POINT.shape, np.float64)
    graph = Graph((u,), (tape_guards(u, tape=tape),))
    for at, holds in (((0.7, 0.4, 0.9, 0), True), ((2, 0.5, 0.9, 0), False), ((0, 0, 1, 0), False)):
        assert interpret(graph, np.array(at, float))[0] == holds
