"""Products of several directions at once: the transformed graphs, and the ways to ask for them."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import nbhvp
from benchmarks import problems
from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.batch import batched
from nbhvp.graph.interpret import interpret
from nbhvp.graph.linear_map import HESSIANS
from nbhvp.graph.node import Graph, Pool
from nbhvp.runtime import recorded
from nbhvp.runtime.blocks import choose
from tests.checks import assert_close
from tests.graph.test_primitives import LINEAR, arguments
from tests.graphs import STRUCTURE, Inputs, build, random_graph

COUNT = 3
HESSIAN = HESSIANS["forward-over-reverse"]


def linear_graph(graph: Graph, x, kind: str = "jvp") -> tuple[Graph, object] | None:
    """The tangents of all outputs in a direction of an input, or its adjoints; None if there are none."""
    outputs = [z for z in graph.outputs if z.dtype.kind in "fc"]
    like = [x] if kind == "jvp" else [p.real(z) if z.is_complex else z for z in outputs]
    size = sum(node.size for node in like)
    direction = p.input_node(x.pool, "direction", (size,), like[0].dtype)
    parts, at = [], 0
    for node in like:
        part = p.slice_(direction, start=(at,), step=(1,), size=(node.size,))
        parts.append(p.cast(p.reshape(part, shape=node.shape), dtype=node.dtype))
        at += node.size
    products = derive.jvp(outputs, [x], parts) if kind == "jvp" else derive.vjp(like, [x], parts)
    return derive.check(Graph((*graph.inputs, direction), tuple(products)), linear_in=direction)


def assert_batched(graph: Graph, values, tolerance: float = 1e-12, run=interpret):
    """The product of several directions is that of each."""
    direction = graph.inputs[-1]
    many = batched(graph, direction, COUNT)
    assert many is not None
    rng = np.random.default_rng(1)
    v = rng.normal(size=(COUNT, *direction.shape)).astype(direction.dtype)
    given = run(many, *values, np.ascontiguousarray(np.moveaxis(v, 0, -1)))
    columns = [interpret(graph, *values, one) for one in v]
    for a, *needed in zip(given, *columns, strict=True):
        b = np.stack(needed, -1)
        assert_close(a, b, tolerance * max(1.0, np.abs(b).max(initial=0)))


def products_of(graph, values):
    """The tangents and adjoints of a case, from each input that it may be differentiated in."""
    for x in graph.inputs:
        if x.dtype.kind == "f" and any(z.dtype.kind in "fc" for z in graph.outputs):
            for kind in ("jvp", "vjp"):
                yield linear_graph(graph, x, kind)


@pytest.mark.parametrize("name", STRUCTURE)
def test_structure(name):
    single = "single" in name or name == "casts"
    graph, values = build(STRUCTURE[name], derive=False)
    for product in products_of(graph, values):
        assert_batched(product, values, 1e-4 if single else 1e-12)


@pytest.mark.no_cover
@pytest.mark.parametrize("seed", range(8))
def test_random_graphs(seed):
    graph, values = random_graph(seed)
    for product in products_of(graph, values):
        assert_batched(product, values, 1e-9)


@pytest.mark.parametrize(
    ("name", "shapes", "params"), LINEAR, ids=[f"{k}-{c[0]}" for k, c in enumerate(LINEAR)]
)
def test_every_linear_primitive(name, shapes, params):
    """Or it says that it does not go along a further axis."""
    entry = p.TABLE[name]
    xs, params = arguments(shapes, params, np.dtype(float))
    for positions in entry.linear or (range(len(xs)),):
        if max(positions) >= len(xs):
            continue  # of more arguments than the example has
        pool = Pool()
        args = [p.input_node(pool, f"x{k}", x.shape, x.dtype) for k, x in enumerate(xs)]
        fixed = [k for k in range(len(xs)) if k not in positions]
        (v, *more) = (args[k] for k in positions)
        # The others go along too, as multiples of one direction.
        like = [
            p.sum_(v, axes=tuple(range(v.ndim))) + p.zeros(pool, m.shape, m.dtype) for m in more
        ]
        mixed = dict(zip(positions, [v, *like], strict=True))
        z = entry(*(mixed.get(k, arg) for k, arg in enumerate(args)), **params)
        graph = Graph((*(args[k] for k in fixed), v), (z,))
        values = [xs[k] for k in fixed]
        if entry.batches:
            assert_batched(graph, values, 1e-5 if z.dtype == np.float32 else 1e-12)
        else:
            assert batched(graph, v, COUNT) is None


def test_a_quotient():
    i = Inputs()
    x, v = i(4, 1), p.input_node(i.pool, "v", (6,), np.float64)
    assert_batched(Graph((x, v), (v / x, p.sum_(v / x, axes=(1,)))), i.values.values())


def test_a_product_that_is_zero_is_so_for_each():
    i = Inputs()
    v = p.input_node(i.pool, "v", (4,), np.float64)
    graph = Graph((i(3), v), (p.zeros(i.pool, (3,), np.float64),))
    assert [z.shape for z in batched(graph, v, 5).outputs] == [(3, 5)]


def test_a_primitive_that_takes_no_further_axis(monkeypatch):
    f = nbhvp.differentiable(lambda x: np.sum(np.cumsum(x) ** 3), target="interpret")
    x, v = np.arange(1.0, 5.0), np.eye(4)
    expected = f.hvp(x, v)
    monkeypatch.setitem(p.cumsum.__dict__, "batches", False)
    monkeypatch.setattr(recorded, "choose", lambda graph, costs: 2)
    again = nbhvp.differentiable(lambda x: np.sum(np.cumsum(x) ** 3), target="interpret")
    np.testing.assert_array_equal(again.hvp(x, v), expected)
    assert again._memory.point.recorded.linearized(HESSIAN).several(2) is None


# The ways to ask for them.

PROBLEMS = problems.small()
by_problem = pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
every_way = pytest.mark.parametrize("way", [None, 8], ids=["alone", "together"])


def directions(problem, k: int) -> np.ndarray:
    return np.random.default_rng(k).normal(size=(*problem.x0.shape, k))


def assert_columns(given, product, v, tolerance=1e-12):
    needed = np.stack([product(v[..., j].copy()) for j in range(v.shape[-1])], axis=-1)
    assert_close(given, needed, tolerance * max(1.0, np.abs(needed).max()))


@pytest.mark.no_cover
@every_way
@by_problem
def test_problems(problem, way, monkeypatch):
    monkeypatch.setattr(recorded, "choose", lambda graph, costs: way)
    f = nbhvp.differentiable(problem.fun, target="interpret")
    x, args = problem.x0, problem.args
    for k in (1, 2, 3, 8, 33):
        v = directions(problem, k)
        assert_columns(f.hvp(x, v, *args), lambda one: f.hvp(x, one, *args), v)
    assert f.hvp(x, directions(problem, 0), *args).shape == (*x.shape, 0)
    assert f.report().traces == 1


@pytest.mark.compiles
@pytest.mark.no_cover
@every_way
@pytest.mark.parametrize("name", ["logistic", "mlp", "surface"])
def test_compiled_problems(name, way, monkeypatch):
    monkeypatch.setattr(recorded, "choose", lambda graph, costs: way)
    (problem,) = [one for one in PROBLEMS if one.name == name]
    f = nbhvp.differentiable(problem.fun)
    H = f.hessian(problem.x0, *problem.args)
    for k in (1, 2, 3, 8, 33):
        v = directions(problem, k)
        assert_columns(H @ v, H.matvec, v)
        wide = np.repeat(v, 2, axis=-1)
        np.testing.assert_array_equal(H @ wide[:, ::2], H @ v)
        np.testing.assert_array_equal(H @ np.asfortranarray(v), H @ v)
    close = np.abs(H.toarray()).max() * 1e-12
    np.testing.assert_allclose(H.toarray() @ problem.v, H @ problem.v, rtol=0, atol=100 * close)
    np.testing.assert_allclose(H.diagonal(), np.diag(H.toarray()), rtol=0, atol=close)


@pytest.mark.compiles
def test_results_are_fresh_and_threads_share_nothing(monkeypatch):
    monkeypatch.setattr(recorded, "choose", lambda graph, costs: 8)
    problem = PROBLEMS[1]
    H = nbhvp.differentiable(problem.fun).hessian(problem.x0, *problem.args)
    many = [directions(problem, k) for k in (8, 8, 33, 5, 16, 8)]
    before = [v.copy() for v in many]
    alone = [H @ v for v in many]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            found = list(pool.map(lambda v: H @ v, many))
            assert all(np.array_equal(a, b) for a, b in zip(found, alone, strict=True))
    assert not any(np.shares_memory(a, b) for a in found for b in (*alone, *many))
    assert all(np.array_equal(a, b) for a, b in zip(many, before, strict=True))


@every_way
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_shapes_and_precisions(way, dtype, monkeypatch):
    monkeypatch.setattr(recorded, "choose", lambda graph, costs: way)
    matrix = np.random.default_rng(0).normal(size=(6, 4)).astype(dtype)
    r = nbhvp.differentiable(lambda x: np.tanh(matrix @ x) * x[0], target="interpret")
    x = np.random.default_rng(1).normal(size=(4, 3)).astype(dtype)
    tolerance = 1e-12 if dtype is np.float64 else 1e-5
    v = np.random.default_rng(2).normal(size=(4, 3, 9)).astype(dtype)
    w = np.random.default_rng(3).normal(size=(6, 3, 9)).astype(dtype)
    assert_columns(r.jvp(x, v), lambda one: r.jvp(x, one), v, tolerance)
    assert_columns(r.vjp(x, w), lambda one: r.vjp(x, one), w, tolerance)
    J, H = r.jacobian(x), r.weighted_hessian(x, w[..., 0])
    assert J.dtype == H.dtype == dtype
    for operator, rows in ((J, v), (J.T, w), (H, v)):
        flat = rows.reshape(-1, 9)
        assert_columns(operator @ flat, lambda one, o=operator: o @ one, flat, tolerance)
        complex_ = flat + 2j * flat
        expected = (1 + 2j) * (operator @ flat)
        np.testing.assert_allclose(operator @ complex_, expected, rtol=0, atol=1e3 * tolerance)
    assert_close(J.toarray().T, J.T @ np.eye(18, dtype=dtype), 10 * tolerance)


@pytest.mark.parametrize(
    ("name", "size", "way"),
    [
        ("logistic", (2000, 50), 32),
        ("mlp", ((40, 30, 20, 10), 200), None),
        ("rosenbrock", 100_000, None),
        ("surface", (100, 100), None),
        ("logistic", (60, 7), None),
    ],
)
def test_the_way_is_that_of_the_dearest_work(name, size, way):
    problem = problems.MAKERS[name](size)
    f = nbhvp.differentiable(problem.fun, target="interpret")
    point = f.hessian(problem.x0, *problem.args)._point
    assert choose(point.recorded.linearized(HESSIAN).product.graph) == way


def test_a_few_directions_make_no_program():
    problem = problems.make_logistic((2000, 50))
    f = nbhvp.differentiable(problem.fun, target="interpret")
    linearized = f.hessian(problem.x0)._point.recorded.linearized(HESSIAN)
    for k, programs in ((1, 0), (8, 0), (9, 1), (40, 1), (100, 1)):
        v = directions(problem, k)
        assert_columns(f.hvp(problem.x0, v), lambda one: f.hvp(problem.x0, one), v)
        assert len(linearized._several) == programs


def test_a_large_block_is_made_smaller():
    pool = Pool()
    x = p.input_node(pool, "x", (100, 2_000_000), np.float64)
    v = p.input_node(pool, "v", (2_000_000,), np.float64)
    graph = Graph((x, v), (p.contract(x, v, subscripts="ij,j->i") * 2, v * 2))
    assert choose(graph) == 16
