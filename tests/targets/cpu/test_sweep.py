"""The sweep over tapes: against the same function as a graph of scalars, on every target.

Tapes are recorded here by a few lines of Python: random expressions over all real primitives of
one and two arguments, and deep recurrences. The same operations on nodes give the graph.
"""

import functools
import re

import numpy as np
import pytest
import scipy.special as special

import nbhvp
from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.batch import batched
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, Pool
from nbhvp.graph.table import lengths
from nbhvp.graph.table.tape import CONSTANT, FIRST, INPUT, Guards, Tape, replay, tape_guards
from nbhvp.plan.schedule import schedule
from nbhvp.plan.splitting.split import split
from nbhvp.runtime.blocks import choose
from nbhvp.targets.cpu.program import Program
from nbhvp.targets.cpu.traffic import traffic
from nbhvp.targets.native import cache
from tests.checks import THOROUGH, assert_close, assert_no_raise, compiled, plain

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
    if not entry.is_elementwise or entry.params or entry.arity > 2:
        return False
    pool = Pool()
    args = [p.input_node(pool, name, (), np.float64) for name in "xy"[: entry.arity]]
    try:
        return entry(*args).dtype == np.float64
    except TypeError:
        return False


RECORDED = [entry for entry in p.TABLE.values() if takes_floats(entry)]


def every_primitive(language, seed, entries=RECORDED):
    """Results of primitives at numbers of their domains, shared operands among them."""
    (xs,) = language.inputs
    rng = np.random.default_rng(seed)
    results = []
    for entry in entries:
        args = []
        for k in range(entry.arity):
            low, high = entry.domain[min(k, len(entry.domain) - 1)]
            # a + b tanh(x y) lies in the domain, and moves with two inputs.
            x, y = (xs[j] for j in rng.integers(len(xs), size=2))
            if k in entry.fixed:
                args.append(language.constant(low + 0.25))
                continue
            bent = language.record(p.tanh, language.record(p.multiply, x, y))
            scaled = language.record(p.multiply, language.constant((high - low) / 2.2), bent)
            args.append(language.record(p.add, scaled, language.constant((high + low) / 2)))
        results.append(language.record(entry, *args))
        if entry.arity == 2 and not entry.fixed:
            results.append(language.record(entry, args[0], language.constant(1.75)))
            results.append(language.record(entry, language.constant(0.75), args[1]))
    return results


SMOOTH = (p.add, p.subtract, p.multiply, p.tanh, p.sin, p.arctan2, lengths.hypot, p.expit)


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
    "some primitives": functools.partial(every_primitive, seed=1, entries=RECORDED[::8]),
    **{
        f"expression {k}": functools.partial(random_expression, seed=k)
        for k in range(4 if THOROUGH else 2)
    },
    "recurrence": functools.partial(recurrence, seed=0),
}
POINT = np.array([0.7, 0.4, 0.9, 0.6])
by_program = pytest.mark.parametrize("name", PROGRAMS)


def z_of(tape, u):
    """The only result of a tape, as a scalar."""
    return p.reshape(replay(u, tape=tape), shape=())


def both(name):
    """Input, and results by the tape and as a graph."""
    recorder = Recorder(POINT)
    tape = recorder.tape(PROGRAMS[name](recorder))
    u = p.input_node(Pool(), "u", POINT.shape, np.float64)
    language = Nodes(u, tape.sizes)
    return u, replay(u, tape=tape), language.stacked(PROGRAMS[name](language))


def assert_pairs(graph, *values, target=interpret, tolerance=1e-11):
    """Outputs come in pairs: by the tape on some target, and by nodes on the interpreter."""
    given = target(Graph(graph.inputs, graph.outputs[::2]), *values)
    needed = interpret(Graph(graph.inputs, graph.outputs[1::2]), *values)
    for a, b in zip(given, needed, strict=True):
        assert_close(a, b, tolerance * max(1.0, np.abs(b).max(initial=0)))


def weighted(z, w):
    return derive.inner(w, z)


def curved(z, w):
    """Weights that depend on the results."""
    return derive.inner(w, p.sin(z) * z)


def derivatives(name, function, modes=derive.EXACT_MODES):
    """Values, first derivatives and products, in pairs, and the values of the inputs."""
    u, *results = both(name)
    v = p.input_node(u.pool, "v", u.shape, np.float64)
    w = p.input_node(u.pool, "w", results[0].shape, np.float64)
    makers = [
        lambda z: z,
        lambda z: derive.jvp([z], [u], [v])[0],
        lambda z: derive.vjp([z], [u], [w])[0],
        *(lambda z, m=mode: derive.hvp(function(z, w), u, v, m) for mode in modes),
    ]
    outputs = [make(z) for make in makers for z in results]
    rng = np.random.default_rng(0)
    values = POINT, rng.normal(size=v.shape), rng.normal(size=w.shape)
    return derive.check(Graph((u, v, w), tuple(outputs))), values


@pytest.mark.no_cover
@pytest.mark.parametrize("function", [weighted, curved])
@by_program
def test_derivatives(name, function):
    several = THOROUGH or function is curved  # whose products have all terms
    graph, values = derivatives(name, function, derive.EXACT_MODES[: 3 if several else 1])
    assert_pairs(graph, *values)
    assert_pairs(graph, POINT[::-1] * 0.9, *values[1:])


@by_program
def test_plain_text(name):
    """The kernels as plain Python, where every index is checked."""
    graph, values = derivatives(name, weighted, derive.EXACT_MODES[:1])
    assert_pairs(graph, *values, target=plain)


@pytest.mark.compiles
@pytest.mark.no_cover
@pytest.mark.parametrize("name", ["some primitives", "recurrence"])
def test_compiled(name):
    graph, values = derivatives(name, weighted, derive.EXACT_MODES[:1])
    program = Program(Graph(graph.inputs, graph.outputs[::2]))
    for at in (POINT, POINT[::-1] * 0.9):
        assert_pairs(graph, at, *values[1:], target=lambda graph, *values: program(*values))
    for kernel in program.kernels:
        assert_no_raise(kernel)
    assert not any(stretch.library for stretch in program._stretches)


def test_the_product_is_linear():
    graph, _ = derivatives("recurrence", curved, derive.EXACT_MODES)
    for output in graph.outputs[6::2]:
        derive.check(Graph(graph.inputs, (output,)), linear_in=graph.inputs[1])


def test_what_is_stored_for_a_product():
    """Partials, and second partials times adjoints: neither values nor codes."""
    graph, _ = derivatives("recurrence", weighted, derive.EXACT_MODES[:1])
    u, v, w = graph.inputs
    state, _ = split(Graph(graph.inputs, graph.outputs[6:7]), v)
    assert {node.primitive.name for node in state} == {"tape_partials", "tape_curvature"}


def test_third_derivatives_are_refused():
    u, z, _ = both("recurrence")
    v = p.input_node(u.pool, "v", u.shape, np.float64)
    w = p.input_node(u.pool, "w", z.shape, np.float64)
    for mode in derive.EXACT_MODES:
        product = derive.hvp(derive.inner(w, z), u, v, mode)
        for x, x_dot in ((u, v), (w, w)):
            with pytest.raises(nbhvp.TraceError, match="third derivative of a loop"):
                derive.jvp([product], [x], [x_dot])
        with pytest.raises(nbhvp.TraceError, match="third derivative of a loop"):
            derive.vjp([product], [u], [v])


@pytest.mark.parametrize("target", [interpret, plain])
def test_second_tangents(target):
    """The tangent of a tangent, which no product needs, is right as well."""
    u, *results = both("expression 0")
    v = p.input_node(u.pool, "v", u.shape, np.float64)
    w = p.input_node(u.pool, "w", u.shape, np.float64)
    outputs = (derive.jvp(derive.jvp([z], [u], [v]), [u], [w])[0] for z in results)
    rng = np.random.default_rng(0)
    graph = Graph((u, v, w), tuple(outputs))
    assert_pairs(graph, POINT, rng.normal(size=4), rng.normal(size=4), target=target)


# Several directions.


@pytest.mark.parametrize("count", [3, 11])
@pytest.mark.parametrize("target", [interpret, plain])
def test_several_directions(count, target):
    graph, values = derivatives("expression 1", weighted, derive.EXACT_MODES[:1])
    u, v, w = graph.inputs
    rng = np.random.default_rng(count)
    for direction, output in ((v, 2), (w, 4), (v, 6)):
        alone = Graph((*(i for i in graph.inputs if i is not direction), direction), ())
        alone = Graph(alone.inputs, graph.outputs[output : output + 1])
        many = batched(alone, direction, count)
        cold = [x for i, x in zip(graph.inputs, values, strict=True) if i is not direction]
        columns = rng.normal(size=(count, *direction.shape))
        (given,) = target(many, *cold, np.ascontiguousarray(np.moveaxis(columns, 0, -1)))
        needed = np.stack([interpret(alone, *cold, one)[0] for one in columns], -1)
        assert_close(given, needed, 1e-12)


def chain(steps, h=0.01):
    """x -> x + h sin x, many times, as columns of a tape made at once."""
    sine, scaled, moved = (3 + 3 * np.arange(steps) + k for k in range(3))
    before = np.concatenate([[1], moved[:-1]])
    first = np.concatenate([[0, 0, 0], np.stack([before, sine, before], 1).ravel()])
    second = np.concatenate([[0, 0, 0], np.stack([0 * sine, 0 * sine + 2, scaled], 1).ravel()])
    codes = np.concatenate([[CONSTANT, INPUT, CONSTANT], np.tile(FIRST + np.arange(3), steps)])
    values = np.zeros(len(codes))
    values[2] = h
    columns = (a.astype(t) for a, t in ((codes, np.uint8), (first, np.uint32), (second, np.uint32)))
    guards = Recorder().tape([]).guards
    entries = (p.sin, p.multiply, p.add)
    return Tape(entries, *columns, values, (1,), np.array([moved[-1]]), guards)


@pytest.mark.compiles
def test_a_deep_recurrence():
    """Against the first two derivatives carried along by hand; eight directions at once too."""
    steps, h = 10_000, 0.01
    u = p.input_node(Pool(), "u", (1,), np.float64)
    v = p.input_node(u.pool, "v", (1,), np.float64)
    value = z_of(chain(steps, h), u)
    graph = Graph((u, v), (derive.hvp(value, u, v),))
    x, dx, ddx = 0.1, 1.0, 0.0
    for _ in range(steps):
        sin, cos = np.sin(x), np.cos(x)
        x, dx, ddx = x + h * sin, dx + h * cos * dx, ddx + h * (cos * ddx - sin * dx * dx)
    outputs = (value, derive.gradient(value, u), *graph.outputs)
    found = Program(Graph((u, v), outputs))(np.array([0.1]), np.array([2.0]))
    np.testing.assert_allclose([one.item() for one in found], [x, dx, 2 * ddx], 1e-9)
    state, product = split(graph, v)
    assert choose(product) == 8
    many = Program(batched(product, product.inputs[-1], 8))
    known = Program(Graph((u,), tuple(state)))(np.array([0.1]))
    assert re.search(r"<[48] x double>", cache.compiled(many.kernels[0].source).llvm)
    (found,) = many(*known, np.array([0.1]), np.arange(8.0)[None])
    np.testing.assert_allclose(found, ddx * np.arange(8.0)[None], 1e-9)


def test_what_a_product_costs():
    """Indices, partials, second partials; tangent and adjoint of each record, written and read."""
    u = p.input_node(Pool(), "u", (1,), np.float64)
    v = p.input_node(u.pool, "v", (1,), np.float64)
    tape = chain(2 * 10**5)
    graph = Graph((u, v), (derive.hvp(z_of(tape, u), u, v),))
    _, product = split(graph, v)
    moved = traffic(schedule(product).steps)
    records = len(tape.codes)
    assert moved.read / records == pytest.approx(8 + 16 + 16 + 16, rel=1e-3)
    assert moved.written / records == pytest.approx(16, rel=1e-3)
    assert choose(product) is None, "a block of directions would not stay in cache"


# What has no derivative, and guards.


def test_what_is_not_active_counts_for_nothing():
    """Partials that are NaN or infinite: of a passive exponent, and of records nobody uses."""
    recorder = Recorder([-2.0, 0.5], [3.0])
    (x, y), (e,) = recorder.inputs
    exponent = recorder.record(p.multiply, e, recorder.constant(1.0))
    zero = recorder.record(p.subtract, x, x)
    recorder.record(p.sqrt, zero)
    recorder.record(p.log, recorder.constant(-1.0))
    cube = recorder.record(p.power, x, exponent)
    tape = recorder.tape([recorder.record(p.multiply, cube, y)], passive=(1,))
    x = p.input_node(Pool(), "x", (2,), np.float64)
    v = p.input_node(x.pool, "v", (2,), np.float64)
    value = z_of(tape, p.concatenate(x, p.constant(x.pool, np.array([3.0])), axis=0))
    outputs = [derive.jvp([value], [x], [v])[0], derive.gradient(value, x)]
    outputs += [derive.hvp(value, x, v, mode) for mode in derive.EXACT_MODES]
    needed = [12 * 0.5 * 3 - 8 * 4, [6.0, -8.0], *[[-6 * 3 + 12 * 4, 12 * 3]] * 3]
    for target in (interpret, plain):
        found = target(Graph((x, v), tuple(outputs)), np.array([-2.0, 0.5]), np.array([3.0, 4.0]))
        for a, b in zip(found, needed, strict=True):
            np.testing.assert_allclose(a, b, 1e-14)


@pytest.mark.parametrize("order", ["constant", "passive", "varying", "derived"])
def test_an_order_that_varies_is_refused(order):
    """Bessel functions have no derivative in their order."""
    recorder = Recorder([2.0], [1.0])
    (x,), (n,) = recorder.inputs
    constant = recorder.constant(1.0)
    orders = dict(constant=constant, passive=n, varying=x)
    orders["derived"] = recorder.record(p.add, n, constant)
    bessel = recorder.record(p.TABLE["jv"], orders[order], x)
    u = p.input_node(Pool(), "u", (2,), np.float64)
    value = z_of(recorder.tape([bessel], passive=(1,)), u)
    if order in ("constant", "passive"):
        (found,) = interpret(Graph((u,), (derive.gradient(value, u),)), np.array([2.0, 1.0]))
        np.testing.assert_allclose(found, [special.jvp(1, 2.0), 0.0], 1e-14)
    else:
        with pytest.raises(nbhvp.TraceError, match="no derivative rule in its order"):
            derive.gradient(value, u)


@pytest.mark.parametrize("target", [interpret, plain])
def test_results_of_any_kind(target):
    """Inputs, constants and the same record twice; no results, no inputs, no operations."""
    recorder = Recorder([2.0], [], [3.0])
    square = recorder.record(p.multiply, recorder.inputs[0][0], recorder.inputs[0][0])
    outputs = [square, 2, 0, square, recorder.constant(7.0)]
    u = p.input_node(Pool(), "u", (2,), np.float64)
    v = p.input_node(u.pool, "v", (2,), np.float64)
    z = replay(u, tape=recorder.tape(outputs))
    (dot,) = derive.jvp([z], [u], [v])
    found = target(Graph((u, v), (z, dot)), np.array([2.0, 3.0]), np.array([1.0, 5.0]))
    np.testing.assert_array_equal(found, [[4, 3, 0, 4, 7], [4, 5, 0, 4, 0]])
    empty = p.input_node(Pool(), "u", (0,), np.float64)
    for outputs in ([], [0]):
        z = replay(empty, tape=Recorder().tape(outputs))
        bars = derive.vjp([z], [empty], [z])
        found = target(Graph((empty,), (z, *bars)), np.zeros(0))
        np.testing.assert_array_equal(found[0], np.zeros(len(outputs)))
        assert found[1].shape == (0,)


@pytest.mark.parametrize("target", [interpret, plain, compiled])
def test_guards(target):
    recorder = Recorder(POINT)
    (xs,) = recorder.inputs
    product = recorder.record(p.multiply, xs[0], xs[1])
    assert recorder.guard(p.less, product, xs[2])
    assert recorder.guard(p.floor, recorder.record(p.add, xs[2], recorder.constant(3.0))) == 3
    tape = recorder.tape([product])
    u = p.input_node(Pool(), "u", POINT.shape, np.float64)
    graph = Graph((u,), (tape_guards(u, tape=tape), 2 * u))
    for at, holds in (((0.7, 0.4, 0.9, 0), True), ((2, 0.5, 0.9, 0), False), ((0, 0, 1, 0), False)):
        assert target(graph, np.array(at, float))[0] == holds
