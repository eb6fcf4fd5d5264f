"""The roll: tapes of loops as graphs of arrays.

A rolled graph gives what the tape recorded, its gradient and products what the sweep over the same
tape gives. Loops have as many classes as the array form has operations, whatever their trip counts;
another size, other indices and other outcomes of branches are the same kernels.
"""

from dataclasses import astuple, dataclass, replace
from itertools import product as product_of

import numpy as np
import pytest

from nbhvp.graph import primitives as p
from nbhvp.graph.derive import check, gradient, hvp
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, Pool
from nbhvp.graph.table.tape import Guards, replay
from nbhvp.loops.roll.costs import CPU
from nbhvp.loops.roll.graph import roll
from tests.checks import THOROUGH, assert_close, kernels
from tests.tapes import Number, apply, random_tape, taped

pytestmark = pytest.mark.filterwarnings("error")


def sin(x):
    return apply(p.sin, x)


def exp(x):
    return apply(p.exp, x)


# Loops.


def rosenbrock(x):
    s = 0.0
    for i in range(len(x) - 1):
        s += 100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1.0 - x[i]) ** 2
    return s


def from_a_value(x):
    s = x[0] * x[0] + x[0]
    for i in range(1, len(x)):
        s = s + (x[i] * x[i] + x[i])
    return s


def on_the_right(x):
    s = 0.0
    for i in range(len(x)):
        s = sin(x[i]) - s
    return s


def with_signs(x):
    s = 1.5
    for i in range(len(x) - 1):
        s -= x[i] * x[i + 1]
        s = -s + exp(x[i]) - 0.25
    return -s


def backwards(x):
    s = 0.0
    for i in range(len(x) - 1, -1, -1):
        s += sin(x[i]) * x[len(x) - 1 - i]
    return s


def by_steps(x):
    s = 0.0
    for i in range(0, len(x) - 2, 3):
        s += x[i] * exp(x[i + 2])
    return s


def ring(x):
    s, n = 0.0, len(x)
    for i in range(n):
        s += sin(x[i] - x[(i + 1) % n]) * x[(i - 2) % n]
    return s


def surface(z):
    m, n = z.shape
    s = 0.0
    for i in range(m - 1):
        for j in range(n - 1):
            a = z[i + 1, j + 1] - z[i, j]
            b = z[i + 1, j] - z[i, j + 1]
            s += apply(p.sqrt, 1.0 + 3.0 * (a * a + b * b))
    return s


def framed_surface(x):
    m, n = x.shape
    z = np.zeros((m + 2, n + 2), object)
    z[0], z[-1] = np.linspace(0.1, 0.8, n + 2).tolist(), np.linspace(0.3, 0.9, n + 2).tolist()
    z[1:-1, 1:-1] = x
    return surface(z)


def torus(x):
    m, n = x.shape
    s = 0.0
    for i in range(m):
        for j in range(n):
            s += x[i, j] * (x[(i + 1) % m, j] + x[i, (j + 1) % n]) + sin(x[i, j])
    return s


def lattice(x):
    """Links to both neighbours, by positions in one vector."""
    s, n = 0.0, len(x) // 3
    for i in range(3):
        for j in range(n):
            here = x[i * n + j]
            s += sin(x[i * n + (j + 1) % n] - here) + sin(x[(i + 2) % 3 * n + j] - here)
    return s


def two_directions(u):
    """One structure in two loops over other grids."""
    m, n = u.shape
    s = 0.0
    for i in range(m - 1):
        for j in range(n):
            s += (u[i + 1, j] - u[i, j]) * (u[i + 1, j] + 0.3)
    for i in range(m):
        for j in range(n - 1):
            s += (u[i, j + 1] - u[i, j]) * (u[i, j + 1] + 0.3)
    return s


def edges(u):
    """A quadratic with fewer neighbours at edges and corners."""
    m, n = u.shape
    s = 0.0
    for i in range(m):
        for j in range(n):
            a = 4.0 * u[i, j]
            if i > 0:
                a -= u[i - 1, j]
            if i < m - 1:
                a -= u[i + 1, j]
            if j > 0:
                a -= u[i, j - 1]
            if j < n - 1:
                a -= u[i, j + 1]
            s += u[i, j] * a
    return s


def loops_in_turn(x):
    """A map in three loops, a stencil over its results, and a sum of some of them."""
    n = len(x)
    y = np.zeros(n + 4, object)
    for i in range(n // 2):
        y[i] = sin(x[i])
    for i in range(n - 1, n // 2 - 1, -1):
        y[i] = sin(x[i])
    for i in range(4):
        y[n + i] = sin(x[2 * i])
    s = 0.0
    for i in range(n + 3):
        s += y[i] * y[i + 1]
    for i in range(3, n):
        s += exp(y[i])
    return s


def laplacian(u):
    m, n = u.shape
    out = np.zeros((m, n), object)
    for i in range(1, m - 1):
        for j in range(1, n - 1):
            flow = u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1] - 4.0 * u[i, j]
            out[i, j] = sin(flow)
    return out


def filtered(u):
    """A map, then a stencil over its results."""
    m, n = u.shape
    w = np.zeros((m, n), object)
    for i in range(m):
        for j in range(n):
            w[i, j] = exp(0.5 * u[i, j])
    s = 0.0
    for i in range(1, m - 1):
        for j in range(1, n - 1):
            s += (w[i - 1, j] - w[i + 1, j]) * (w[i, j - 1] - w[i, j + 1])
    return s


def box(u):
    """Three axes, and a sum over a window in an inner loop."""
    a, b, c = u.shape
    s = 0.0
    for i in range(a - 1):
        for j in range(1, b):
            for k in range(c - 1):
                r = 0.0
                for d in range(2):
                    r += u[i + d, j - d, k] * u[i, j, k + d]
                s += sin(r)
    return s


def nested_sums(x):
    """Sums from zero as terms of a sum from zero, on either side."""
    s = t = 0.0
    for i in range(len(x)):
        r = q = 0.0
        for j in range(len(x)):
            r += sin(x[i] + (j + 1))
            q += exp(0.1 * x[j] * i)
        s += r
        t = q + t
    return s * t


def short_chains(x):
    """A sum from zero of chains that are longer than it is in the first rounds."""
    s = 0.0
    for i in range(len(x) - 1):
        s += x[i] * x[i + 1] + sin(x[i]) + exp(x[i + 1]) - x[i] ** 2
    return s


def matrix_vector(x):
    n = len(x)
    A = np.cos(np.arange(n * (n + 2))).reshape(n + 2, n)
    y = [0.0] * (n + 2)
    for i in range(n + 2):
        for j in range(n):
            y[i] += A[i, j] * x[j]
    return [sin(one) for one in y]


def matrix_matrix(x):
    n = len(x)
    s = 0.0
    for i in range(n):
        for j in range(n):
            r = 0.0
            for k in range(n):
                r += x[i, k] * x[k, j]
            s += r * r
    return s


def quadratic(x):
    s = 0.0
    for i in range(len(x)):
        for j in range(len(x)):
            s += x[i] * np.cos(i + 2.0 * j) * x[j]
    return s


def triangle(x):
    s = 0.0
    for i in range(len(x)):
        for j in range(i):
            s += exp(-((x[i] - x[j]) ** 2))
    return s


def bonds(u):
    """Roots of sums of squares of differences to the neighbours that exist."""
    t = []
    for i in range(u.shape[0]):
        for j in range(u.shape[1]):
            s = 0.0
            for a, b in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
                if 0 <= a < u.shape[0] and 0 <= b < u.shape[1]:
                    d = u[i, j] - u[a, b]
                    s += d * d
            t.append(apply(p.sqrt, 0.5 + s))
    return t


def blurred(u):
    """Products with means of up to 27 neighbours."""
    t = []
    for at in np.ndindex(u.shape):
        s = 0.0
        for step in np.ndindex(3, 3, 3):
            near = tuple(k + d - 1 for k, d in zip(at, step, strict=True))
            if all(0 <= k < n for k, n in zip(near, u.shape, strict=True)):
                s += u[near]
        t.append(s * u[at])
    return t


def chain_of_bonds(x):
    """Fewer terms at the ends of a line, from a value."""
    t, n = [], len(x)
    for i in range(n):
        s = 2.0 * x[i] * x[i]
        if i > 0:
            s = s - x[i - 1] * x[i]
        if i < n - 2:
            s = s + x[i + 2] * x[i]
        t.append(exp(s))
    return t


def lower_rows(x):
    """Rows of a triangular factor, its diagonal by itself, times several vectors."""
    d, t = 10, []
    for k in range((len(x) - 65) // d):
        for i in range(d):
            s = exp(x[55 + i]) * x[65 + k * d + i]
            for j in range(i):
                s += x[i * (i - 1) // 2 + j] * (x[65 + k * d + j] - 0.5)
            t.append(s * s)
    return t


def row_sums(x):
    """Rows of different lengths, each sum through a function."""
    out = []
    for i in range(len(x)):
        r = 0.0
        for j in range(i + 1):
            r += x[i] * x[j]
        out.append(sin(r))
    return out


def softmax(x):
    m, n = x.shape
    s = 0.0
    for i in range(m):
        total = 0.0
        for j in range(n):
            total += exp(x[i, j])
        for j in range(n):
            s += j * exp(x[i, j]) / total
    return s


def pairs(n, seed=0):
    """A neighbour list with varying numbers of neighbours."""
    rng = np.random.default_rng(seed)
    found = rng.permutation([(i, j) for i in range(n) for j in range(i)])[: 3 * n]
    return found[np.lexsort((found[:, 1], found[:, 0]))].tolist()


def lennard_jones(x):
    s = 0.0
    for i, j in pairs(len(x) // 3):
        u = 0.0
        for k in range(3):
            d = x[3 * i + k] - x[3 * j + k]
            u += d * d
        w = 1.0 / (u * u * u + 0.5)
        s += 4.0 * (w * w - w)
    return s


def coordinates_by_hand(x):
    s = 0.0
    for i, j in pairs(len(x)):
        a, b, c = x[i, 0] - x[j, 0], x[i, 1] - x[j, 1], x[i, 2] - x[j, 2]
        u = a * a + b * b + c * c
        if u < 4.0:
            s += exp(-u)
    return s


def packed(n):
    """Numbers of cameras of 4, points of 3 and weights."""
    return 4 * (n // 2 + 5) + 3 * n + 2 * n


def products_of_columns(x):
    """Products by one index, which are computed once for all edges from one point, and by two."""
    n = len(x)
    rng = np.random.default_rng(0)
    s = 0.0
    for i, j in zip(rng.integers(0, n, 5 * n), rng.integers(0, n, 5 * n), strict=True):
        s += x[int(i), 1] * x[int(i), 0] - x[int(i), 2] * x[int(j), 3]
    return s


def projections(x):
    """Each point is seen by two cameras; what depends on a camera alone is computed for each point."""
    n = next(n for n in range(len(x)) if packed(n) == len(x))
    cameras = n // 2 + 5
    rng = np.random.default_rng(0)
    first, on = rng.permutation(n), rng.integers(1, cameras, n)
    both = (np.concatenate((first, first + on)) % cameras).tolist()
    seen = sorted(zip(both, 2 * [*range(n)], strict=True))
    s = 0.0
    for k, (camera, j) in enumerate(seen):
        c, at = 4 * camera, 4 * cameras + 3 * j
        cosine, sine = apply(p.cos, x[c] * x[c + 1]), sin(x[c] * x[c + 1])
        u = cosine * x[at] - sine * x[at + 1] + x[c + 2]
        v = sine * x[at] + cosine * x[at + 1] + x[c + 3]
        r = x[4 * cameras + 3 * n + k] * (u * x[at + 2] - v)
        s += r * r
    return s


def embedded_atoms(x):
    """Sums into an array, complete in an order of their own."""
    n = len(x)
    rho = np.zeros(n, object)
    for i, j in pairs(n):
        f = exp(-((x[i] - x[j]) ** 2))
        rho[i] += f
        rho[j] += f
    s = 0.0
    for i in range(n):
        s += apply(p.sqrt, 1.0 + rho[i])
    return s


def forces(x):
    n = len(x)
    out = np.zeros((n, 3), object)
    for i, j in pairs(n):
        for k in range(3):
            f = sin(x[i, k] - x[j, k])
            out[i, k] += f
            out[j, k] -= f
    return out


def huber(x):
    s = 0.0
    for i in range(len(x) - 1):
        r = x[i + 1] - x[i]
        s += r * r if abs(r) < 1.0 else 2.0 * abs(r) - 1.0
    return s


def rounded(x):
    s = 0.0
    for i in range(len(x)):
        s += x[i] * x[int(4.0 * x[i]) % len(x)]
    return s


def constants_per_element(x):
    s = 0.0
    for i in range(len(x)):
        s += (0.5 + i * i) * x[i] ** 2 + np.cos(i) ** 2
    return s


def exponents(x):
    s = 0.0
    for i in range(len(x)):
        s += abs(x[i]) ** (i % 3) + (1.0 + x[i] * x[i]) ** (0.3 * i + 0.13)
    return s


def unused(x):
    s = 0.0
    for i in range(len(x)):
        exp(x[i]) * x[0]
        s += sin(x[i])
    return s


def several(x):
    n = len(x)
    return [x[2], 3.0, sin(x[0]), sin(x[n - 1]), x[1] * x[2], 0.0, x[2], x[2] + 1.0]


def two_steps(x):
    """A field stepped in time, with its ends held."""
    u = list(x)
    for _ in range(3):
        u = [
            u[0],
            *(u[i] + 0.1 * (u[i - 1] - 2.0 * u[i] + u[i + 1]) for i in range(1, len(u) - 1)),
            u[-1],
        ]
    s = 0.0
    for one in u:
        s += one * one
    return s


def polynomial(x):
    """Short chains, which are expressions."""
    s = 0.0
    for i in range(len(x) - 1):
        s += x[i] - x[i + 1] + x[i] * x[i] - 2.0 + sin(x[i] + x[i + 1] + x[i + 1])
    return s


SHAPES = {
    "vector": lambda n: (n,),
    "coordinates": lambda n: (n, 3),
    "rows": lambda n: (n, 4),
    "flat coordinates": lambda n: (3 * n,),
    "blocks": lambda n: (65 + 10 * n,),
    "packed": lambda n: (packed(n),),
    "matrix": lambda n: (n, n + 1),
    "square": lambda n: (n // 2, n // 2),
    "cube": lambda n: (n // 3, n // 3 + 1, n // 3 + 2),
}


@dataclass(frozen=True)
class Case:
    """A loop, the shape of its x, and how its graph should look at any size."""

    fun: object
    shape: str = "vector"
    gathers: int = 0
    most: int = 20
    same_text: bool = True


CASES = [
    Case(rosenbrock),
    Case(from_a_value),
    Case(on_the_right),
    Case(with_signs),
    Case(backwards),
    Case(by_steps),
    Case(ring),
    Case(surface, "matrix"),
    Case(framed_surface, "matrix", gathers=3, most=100),
    Case(torus, "matrix"),
    Case(lattice, "flat coordinates"),
    Case(two_directions, "matrix"),
    Case(edges, "matrix", most=30),
    Case(loops_in_turn, gathers=2, same_text=False),
    Case(laplacian, "matrix", same_text=False),
    Case(filtered, "matrix"),
    Case(box, "cube"),
    Case(nested_sums, most=10),
    Case(short_chains, most=8),
    Case(matrix_vector),
    Case(matrix_matrix, "square"),
    Case(quadratic),
    Case(triangle, gathers=2),
    Case(row_sums, gathers=2),
    Case(bonds, "matrix", most=8),
    Case(blurred, "cube", most=4),
    Case(chain_of_bonds, most=12),
    Case(lower_rows, "blocks", gathers=2, most=10),
    Case(softmax, "matrix"),
    Case(lennard_jones, "flat coordinates", gathers=2),
    Case(coordinates_by_hand, "coordinates", gathers=4, most=40),
    Case(projections, "packed", gathers=12, most=30, same_text=False),
    Case(products_of_columns, "rows", gathers=12, most=60, same_text=False),
    Case(embedded_atoms, gathers=4),
    Case(forces, "coordinates", gathers=4),
    Case(huber, gathers=6),
    Case(rounded, gathers=2),
    Case(constants_per_element),
    Case(exponents, gathers=8, most=40),
    Case(unused),
    Case(several),
    Case(two_steps, most=60),
    Case(polynomial),
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.fun.__name__)


def point(case, n, seed=0):
    shape = SHAPES[case.shape](n)
    return np.random.default_rng(seed + n).normal(size=shape)


def rolled(case, x):
    tape = taped(case.fun, x)
    node = p.input_node(Pool(), "x", x.shape, x.dtype)
    return tape, node, roll(tape, [node])


@each_case
def test_it_gives_what_the_tape_recorded(case):
    x = point(case, 14)
    tape, node, found = rolled(case, x)
    nodes, expected = zip(*found.guards, strict=True) if found.guards else ((), ())
    graph = check(Graph((node,), (found.outputs, *nodes)))
    outputs, *guards = interpret(graph, x)
    assert_close(outputs, tape.values[tape.outputs], 1e-12)
    assert all(map(np.array_equal, guards, expected))
    assert found.classes <= case.most
    assert found.gathers <= case.gathers


@each_case
def test_its_derivatives_are_those_of_the_sweep(case):
    x = point(case, 13)
    tape, node, found = rolled(case, x)
    weights = p.constant(node.pool, np.cos(np.arange(float(tape.outputs.size))))
    v = p.constant(node.pool, np.sin(np.arange(float(x.size))).reshape(x.shape))
    flat = p.reshape(node, shape=(x.size,))
    values = [
        p.sum_(weights * outputs * (outputs + 1.0), axes=(0,))
        for outputs in (found.outputs, replay(flat, tape))
    ]
    derivatives = [one for f in values for one in (gradient(f, node), hvp(f, node, v))]
    g, h, g_sweep, h_sweep = interpret(Graph((node,), tuple(derivatives)), x)
    assert_close(g, g_sweep, 1e-11)
    assert_close(h, h_sweep, 1e-11)


def texts(case, n, seed=0):
    x = point(case, n, seed)
    _, node, found = rolled(case, x)
    v = p.input_node(node.pool, "v", x.shape, x.dtype)
    value = p.sum_(found.outputs, axes=(0,))
    return kernels(
        Graph((node,), (value, gradient(value, node), *(guard for guard, _ in found.guards))),
        Graph((node, v), (hvp(value, node, v),)),
    )


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.same_text], ids=lambda case: case.fun.__name__
)
def test_another_size_is_the_same_text(case):
    assert texts(case, 34) == texts(case, 40)


def test_another_neighbour_list_is_the_same_text(monkeypatch):
    case = next(case for case in CASES if case.fun is embedded_atoms)
    given = texts(case, 30)
    monkeypatch.setattr(f"{__name__}.pairs", lambda n, find=pairs: find(n, seed=1))
    assert texts(case, 30) == given


def test_other_outcomes_of_branches_are_the_same_text():
    case = next(case for case in CASES if case.fun is coordinates_by_hand)
    tapes = [rolled(case, point(case, 30, seed))[0] for seed in (0, 1)]
    counts = {int(tape.guards.outcomes.sum()) for tape in tapes}
    assert len(counts) == 2
    assert texts(case, 30, 0) == texts(case, 30, 1)


def sums_over(outputs, node):
    value = p.sum_(outputs, axes=(0,))
    return outputs, gradient(value, node), hvp(value, node, node)


@pytest.mark.parametrize("keeps_guards", [True, False])
def test_random_loops_give_what_their_sweeps_give(keeps_guards):
    """Where these are finite: a part that is needed nowhere may be NaN in the sweep alone. Without their
    guards too, which keep classes whole."""
    # In the last one, a power of zero that nothing needs would complete a class.
    for seed in (*range(600 if THOROUGH else 40), 2809):
        tape = random_tape(np.random.default_rng(seed))
        if not keeps_guards:
            none = Guards(*(column[:0] for column in astuple(tape.guards)))
            tape = replace(tape, guards=none)
        x, ends = tape.values[1 : tape.start], np.cumsum(tape.sizes).tolist()
        node = p.input_node(Pool(), "x", x.shape, x.dtype)
        parts = [
            p.slice_(node, start=(end - size,), step=(1,), size=(size,))
            for size, end in zip(tape.sizes, ends, strict=True)
        ]
        found = roll(tape, parts, most_classes=1000)
        ways = sums_over(found.outputs, node), sums_over(replay(node, tape), node)
        with np.errstate(all="ignore"):
            ours, swept = (interpret(Graph((node,), way), x) for way in ways)
        if all(np.isfinite(one).all() for one in swept):
            for one, other in zip(ours, swept, strict=True):
                assert_close(one, other, 1e-9)
        for one, other in zip(ours, swept, strict=True):
            assert not (np.isnan(one) & np.isfinite(other)).any(), seed


def recurrence(x):
    s = x[0]
    for i in range(1, len(x)):
        s = s * x[i] + sin(s)
    return s


def largest(x):
    s = x[0]
    for i in range(1, len(x)):
        s = apply(p.maximum, s, x[i])
    return s


def product(x):
    s = 1.0
    for i in range(len(x)):
        s = s * x[i]
    return s


def stepped(x):
    u = list(x)
    for _ in range(60):
        u = [u[0], *(0.5 * u[i - 1] * u[i + 1] for i in range(1, len(u) - 1)), u[-1]]
    return u


@pytest.mark.parametrize("fun", [recurrence, largest, product, stepped], ids=lambda f: f.__name__)
def test_what_has_a_class_per_operation_is_not_rolled(fun):
    """And what stays below the bound is right."""
    x = np.random.default_rng(0).normal(size=400 if fun is not stepped else 12)
    node = p.input_node(Pool(), "x", x.shape, x.dtype)
    assert roll(taped(fun, x), [node]) is None
    tape = taped(fun, x[:12])
    node = p.input_node(Pool(), "x", (12,), x.dtype)
    found = roll(tape, [node], most_classes=10_000)
    (outputs,) = interpret(Graph((node,), (found.outputs,)), x[:12])
    assert_close(outputs, tape.values[tape.outputs], 1e-12)


def test_classes_do_not_depend_on_the_order_of_a_run():
    def texts_of(fun):
        x = np.linspace(0.1, 1.0, 30)
        node = p.input_node(Pool(), "x", x.shape, x.dtype)
        found = roll(taped(fun, x), [node])
        value = p.reshape(found.outputs, shape=())
        return str(Graph((node,), (gradient(value, node),)))

    def one_way(x):
        s = t = 0.0
        for i in range(len(x)):
            s += sin(x[i])
        for i in range(len(x)):
            t += exp(x[i]) * x[i]
        return s * t

    def the_other(x):
        s = t = 0.0
        for i in range(len(x)):
            t += exp(x[i]) * x[i]
        for i in range(len(x)):
            s += sin(x[i])
        return s * t

    assert texts_of(one_way) == texts_of(the_other)


def test_inputs_of_several_ranks_and_precisions():
    def fun(x, weights, shift):
        s = 0.0
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                s += weights[j] * (x[i, j] - shift[0]) ** 2
        return [s, shift[0]]

    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 4)), rng.normal(size=4).astype("f4"), np.array([0.5])
    tape = taped(fun, *values)
    pool = Pool()
    nodes = [p.input_node(pool, f"x{k}", one.shape, one.dtype) for k, one in enumerate(values[:2])]
    nodes.append(p.input_node(pool, "shift", (), np.float64))
    found = roll(tape, nodes)
    (outputs,) = interpret(Graph(tuple(nodes), (found.outputs,)), *values[:2], values[2][0])
    assert_close(outputs, tape.values[tape.outputs], 1e-12)
    assert (found.gathers, found.outputs.dtype) == (0, np.float64)


def pivots(x):
    """Of a Cholesky factorisation in loops: nearly every operation is of a structure of its own."""
    a = [[(x[i] - x[j]) ** 2 + 9.0 * (i == j) for j in range(len(x))] for i in range(len(x))]
    total = 0.0
    for k in range(len(x)):
        total = total + a[k][k] * a[k][k]
        for i in range(k + 1, len(x)):
            factor = a[i][k] / a[k][k]
            for j in range(k + 1, len(x)):
                a[i][j] = a[i][j] - factor * a[k][j]
    return total


@pytest.mark.parametrize(
    ("fun", "size", "is_rolled"),
    [
        (recurrence, 30, False),
        (recurrence, 4, True),
        (rosenbrock, 10, True),
        (rosenbrock, 1000, True),
        (pivots, 6, False),
        (coordinates_by_hand, 300, True),
    ],
)
def test_the_cheaper_way_is_taken(fun, size, is_rolled):
    """Small tapes of many structures are swept, and large ones are arrays."""
    case = next((case for case in CASES if case.fun is fun), Case(fun))
    x = point(case, size)
    node = p.input_node(Pool(), "x", x.shape, x.dtype)
    assert (roll(taped(fun, x), [node], costs=CPU) is not None) == is_rolled


def test_the_corners_of_a_field_belong_to_it():
    """Nothing needs them, but without them the field would be no grid."""
    case = next(case for case in CASES if case.fun is filtered)
    x = point(case, 14)
    _, node, found = rolled(case, x)
    fields = [one for one in Graph((node,), (found.outputs,)).nodes if one.primitive is p.exp]
    assert [one.shape for one in fields] == [x.shape]


def test_a_sum_of_products_is_a_contraction():
    case = next(case for case in CASES if case.fun is matrix_matrix)
    _, node, found = rolled(case, point(case, 14))
    kinds = [one.primitive.kind for one in Graph((node,), (found.outputs,)).nodes]
    assert kinds.count("bilinear") == 1


ROWS = {
    "lower": lambda i, d: range(i + 1),
    "upper": lambda i, d: range(i, d),
    "strict": lambda i, d: range(i),
    "band": lambda i, d: range(max(0, i - 3), min(d, i + 4)),
    "arrow": lambda i, d: sorted({0, i, d - 1} | {min(i + 1, d - 1)}),
}


def triangular(rows, d, start, is_packed, sign, is_turned):
    """Sums of products over a part of a matrix, for several vectors."""

    def fun(matrix, y, more):
        t = []
        for k in range(len(y) // d):
            p = 0
            for i in range(d):
                s = (0.0, more[i] * y[k * d + i], more[i])[start]
                for j in rows(i, d):
                    a = matrix[p] if is_packed else matrix[i * d + j]
                    term = y[k * d + j] * a if is_turned else a * y[k * d + j]
                    s = s + term if sign > 0 else s - term
                    p += 1
                t.append(sin(s) if isinstance(s, Number) else s)
        return t

    return fun


@pytest.mark.no_cover
@pytest.mark.parametrize("d", [4, 9, 12] if THOROUGH else [4, 9])
@pytest.mark.parametrize("rows", ROWS)
def test_ragged_sums_of_products_are_contractions(rows, d):
    """Of long rows with all that starts them; and their derivatives are those of the sweep."""
    rng = np.random.default_rng(d)
    values = rng.normal(size=d * d), rng.normal(size=6 * d), rng.normal(size=d)
    for start, is_packed, sign, is_turned in product_of((0, 1, 2), *[(False, True)] * 3):
        if not THOROUGH and (start + is_packed + sign + is_turned) % 2:
            continue  # the others have all pairs
        tape = taped(triangular(ROWS[rows], d, start, is_packed, 1 - 2 * sign, is_turned), *values)
        x, ends = tape.values[1 : tape.start], np.cumsum(tape.sizes).tolist()
        node = p.input_node(Pool(), "x", x.shape, x.dtype)
        parts = [
            p.slice_(node, start=(end - size,), step=(1,), size=(size,))
            for size, end in zip(tape.sizes, ends, strict=True)
        ]
        found = roll(tape, parts)
        ways = sums_over(found.outputs, node), sums_over(replay(node, tape), node)
        for one, other in zip(*(interpret(Graph((node,), way), x) for way in ways), strict=True):
            assert_close(one, other, 1e-11)
        nodes = Graph((node,), (found.outputs,)).nodes
        if d > 8 and (rows in ("lower", "upper", "strict") or (rows == "band" and not start)):
            assert not any(one.primitive is p.segment_sum for one in nodes)
            assert [one.primitive.kind for one in nodes].count("bilinear") == 1
        guards = Graph((node,), tuple(one for one, _ in found.guards))
        x[tape.sizes[0] + 1] = np.inf  # times zero is NaN
        assert not found.guards or not all(interpret(guards, x))


def test_what_depends_on_few_instances_is_computed_for_these():
    """And inputs have grids of their own for each index through which they are read."""
    case = next(case for case in CASES if case.fun is projections)
    _, node, found = rolled(case, point(case, 40))
    nodes = Graph((node,), (found.outputs,)).nodes
    assert [one.shape for one in nodes if one.primitive in (p.cos, p.sin)] == [(25,)] * 2
    views = [one.shape for one in nodes if one.primitive is p.reshape]
    assert {(25, 4), (40, 3)} <= {*views}
    indices = [one for one in nodes if one.dtype.kind == "i"]
    assert len(indices) == 2


def test_guards_fail_where_outcomes_change():
    case = next(case for case in CASES if case.fun is huber)
    x = np.linspace(0.0, 1.0, 14)
    _, node, found = rolled(case, x)
    guards = Graph((node,), tuple(guard for guard, _ in found.guards))
    assert all(interpret(guards, x))
    x[3] += 10.0
    assert not all(interpret(guards, x))
