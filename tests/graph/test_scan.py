"""Recurrences as one node, against the same steps written out."""

import functools

import numpy as np
import pytest

from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, Pool
from nbhvp.graph.table import lengths
from nbhvp.graph.table.scan import Body, before, collected, final, scan

STEPS = 5


def oscillator(inputs):
    """Two carried numbers, a slice of data, an invariant; one output."""
    a, w, s, h = inputs
    new = a + h * w, w - h * p.sin(a) * s
    return *new, new[0] * w


def logistic(inputs):
    z, rate, x = inputs
    return (z + rate * (x - z * z),)


def chain(inputs):
    """A matrix times a vector, several outputs, a carry that only sums."""
    u, total, s, a = inputs
    new = p.tanh(p.contract(a, u, subscripts="ij,j->i") + s)
    return new, total + p.sum_(new * new, axes=(0,)), p.exp(-total) * s, total


INNER = 3


def relaxation(inputs):
    """A loop in each step: its length is another one, and it takes rows of the step's slice."""
    u, w, rows, s, a = inputs
    pool = Pool()
    names = (("x", ()), ("y", ()), ("r", ()), ("a", ()))
    x, y, r, b = (p.input_node(pool, name, shape, u.dtype) for name, shape in names)
    inner = Body(Graph((x, y, r, b), (x + 0.1 * p.sin(y * r), y * b + 0.1 * x, x * y)), 2, 1)
    z = scan(inner, INNER, u, w, rows, a)
    new, other = final(z)
    return new * s, other, p.sum_(collected(z, 0) * before(z, 1), axes=(0,))


# A step, the shapes of its inputs, the numbers of carried arrays and of slices.
STEPS_OF = {
    "oscillator": (oscillator, [(), (), (), ()], 2, 1),
    "logistic": (logistic, [(2,), (2,), (2,)], 1, 1),
    "chain": (chain, [(3,), (), (3,), (3, 3)], 2, 1),
    "relaxation": (relaxation, [(), (), (INNER,), (), ()], 2, 2),
}
CASES = [
    pytest.param(name, reverse, dtype, id=f"{name}{' backwards' * reverse} {dtype}")
    for name in STEPS_OF
    for reverse in (False, True)
    for dtype in ("f8", "f4")
]


def body_of(name: str, reverse: bool, dtype: str) -> Body:
    step, shapes, carries, slices = STEPS_OF[name]
    pool = Pool()
    inputs = tuple(p.input_node(pool, f"i{k}", shape, dtype) for k, shape in enumerate(shapes))
    return Body(Graph(inputs, tuple(step(inputs))), carries, slices, reverse)


def arguments(body: Body, x):
    """What a scan is applied to, all of it from one vector."""
    start = 0
    for k, node in enumerate(body.graph.inputs):
        shape = (STEPS, *node.shape) if body.carries <= k < body.rest else node.shape
        size = int(np.prod(shape))
        part = p.slice_(x, start=(start,), step=(1,), size=(size,))
        start += size
        yield p.reshape(part, shape=shape)


def size_of(body: Body) -> int:
    sizes = [node.size for node in body.graph.inputs]
    return sum(n * (STEPS if body.carries <= k < body.rest else 1) for k, n in enumerate(sizes))


def by_scan(body: Body, x):
    """A number that depends on all of a scan: its last carry, all carries, all outputs."""
    z = scan(body, STEPS, *arguments(body, x))
    parts = [*final(z), before(z, 0)]
    parts += [collected(z, k) for k in range(len(body.graph.outputs) - body.carries)]
    return functools.reduce(lambda a, b: a + b, map(_number, parts, range(len(parts))))


def _number(part, k: int):
    return p.sum_(p.sin(part * (k + 1.0)), axes=tuple(range(part.ndim)))


def written_out(body: Body, x):
    (*args,) = arguments(body, x)
    carry, rest = args[: body.carries], args[body.rest :]
    seen, outputs = [], []
    for k in reversed(range(STEPS)) if body.reverse else range(STEPS):
        seen.append(carry[0])
        slices = [_item(arg, k) for arg in args[body.carries : body.rest]]
        given = dict(zip(body.graph.inputs, [*carry, *slices, *rest], strict=True))
        found = applied(x.pool, body.graph, given)
        carry, made = found[: body.carries], found[body.carries :]
        outputs.append(made)
    parts = [[one] for one in carry] + [seen] + [list(some) for some in zip(*outputs, strict=True)]
    return functools.reduce(
        lambda a, b: a + b, [_number(one, k) for k, some in enumerate(parts) for one in some]
    )


def applied(pool, graph, given):
    new = dict(given)
    for node in graph.nodes:
        if node.value is not None:
            new[node] = p.constant(pool, node.value)
        elif node not in new:
            new[node] = node.primitive(*(new[arg] for arg in node.args), **node.params)
    return [new[node] for node in graph.outputs]


def _item(array, k: int):
    size = (1, *array.shape[1:])
    part = p.slice_(array, start=(k, *(0,) * (array.ndim - 1)), step=(1,) * array.ndim, size=size)
    return p.reshape(part, shape=array.shape[1:])


def values(make, body: Body, dtype: str) -> list[np.ndarray]:
    """The value, the gradient, a product in each mode, and a third derivative."""
    n, pool = size_of(body), Pool()
    x, v = (p.input_node(pool, name, (n,), dtype) for name in "xv")
    value = make(body, x)
    products = [derive.hvp(value, x, v, mode) for mode in derive.EXACT_MODES]
    third = derive.jvp([products[0]], [x], [v])[0]
    graph = derive.check(Graph((x, v), (value, derive.gradient(value, x), *products, third)))
    for product in products:
        derive.check(Graph((x, v), (product,)), linear_in=v)
    r = np.random.default_rng(0)
    return interpret(graph, *(r.normal(size=n).astype(dtype) / 2 for _ in range(2)))


@pytest.mark.parametrize(("name", "reverse", "dtype"), CASES)
def test_a_scan_is_its_steps(name, reverse, dtype):
    body = body_of(name, reverse, dtype)
    found, right = (values(make, body, dtype) for make in (by_scan, written_out))
    rtol = 1e-12 if dtype == "f8" else 2e-4
    for one, other in zip(found, right, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name, reverse, dtype", CASES)
def test_steps_as_nodes_have_the_same_rows(name, reverse, dtype):
    body = body_of(name, reverse, dtype)
    x = p.input_node(Pool(), "x", (size_of(body),), dtype)
    (*args,) = arguments(body, x)
    rows = scan(body, STEPS, *args), body.written_out(*args, length=STEPS)
    assert rows[1].primitive.body is None and rows[1].shape == rows[0].shape
    point = np.random.default_rng(0).uniform(0.1, 1.0, x.size).astype(dtype)
    needed, found = interpret(Graph((x,), rows), point)
    np.testing.assert_array_equal(found, needed)


def test_no_part_of_an_adjoint_is_read_where_nothing_was_put():
    """An adjoint of the last carry alone makes no array of zeros."""
    body = body_of("oscillator", False, "f8")
    pool = Pool()
    x = p.input_node(pool, "x", (size_of(body),), "f8")
    z = scan(body, STEPS, *arguments(body, x))
    (gradient,) = derive.vjp([final(z)[0] * final(z)[1]], [x], [p.constant(pool, 1.0)])
    found = [
        node for node in Graph((x,), (gradient,)).nodes if node.primitive.name == "linear scan"
    ]
    assert len(found) == 1
    assert all(node.shape != z.shape for node in found[0].args)


def test_derived_bodies_are_made_once():
    body = body_of("logistic", False, "f8")
    assert body.derived(frozenset({0, 2})) is body.derived(frozenset({2, 0}))


@pytest.mark.parametrize("is_slice", [False, True])
def test_lengths_that_are_zero_in_a_step(is_slice):
    """Other functions of a length have no second derivative there, in any order of differentiation."""
    pool = Pool()
    carry, a, b = (p.input_node(pool, name, (), np.float64) for name in "uab")
    step = p.sin(carry) * p.cosh(lengths.root(a * a + b * b)) + carry * (a * a + b * b)
    body = Body(Graph((carry, a, b), (step,)), 1, 2 * is_slice)
    shape = (2, 3)[: 1 + is_slice]
    pool = Pool()
    x, v = (p.input_node(pool, name, shape, np.float64) for name in "xv")
    rows = [
        p.reshape(
            p.slice_(x, start=(k, 0)[: x.ndim], step=(1, 1)[: x.ndim], size=(1, *shape[1:])),
            shape=shape[1:],
        )
        for k in range(2)
    ]
    value = final(scan(body, 3, p.constant(pool, 0.3), *rows))[0]
    products = tuple(derive.hvp(value, x, v, mode) for mode in derive.EXACT_MODES)
    at = np.multiply.outer([1.0, 2.0], [1.0, 0.0, 3.0]) if is_slice else np.zeros(2)
    for found in interpret(Graph((x, v), products), at, np.ones(shape)):
        assert (np.isnan(found) == (at == 0)).all()
