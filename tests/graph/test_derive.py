"""Derivatives of graphs: closed forms, the three exact modes, and what `check` finds."""

from dataclasses import replace

import mpmath
import numpy as np
import pytest

from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, Node, Pool

RNG = np.random.default_rng(5)
POINT, DIRECTION = RNG.normal(size=7), RNG.normal(size=7)


def inputs(n=7, dtype=np.float64):
    pool = Pool()
    return p.input_node(pool, "x", (n,), dtype), p.input_node(pool, "v", (n,), dtype)


def total(node):
    return p.sum_(node, axes=tuple(range(node.ndim)))


def part(x, start, size, step=1):
    return p.slice_(x, start=(start,), step=(step,), size=(size,))


def rosenbrock(x):
    low, high = part(x, 0, x.size - 1), part(x, 1, x.size - 1)
    return total(100 * (high - low * low) * (high - low * low) + (1 - low) * (1 - low))


def shared(x):
    """One node used in many places, both ends of a slice, and a product of sums."""
    y = p.tanh(x) * x
    return total(y * part(y, 6, 7, -1)) * total(y) + p.gather(y, p.argmax(x, axis=0), axis=0)


def through_complex(x):
    """|F x|^4 for a complex matrix F."""
    matrix = RNG.normal(size=(4, 7)) + 1j * np.arange(28).reshape(4, 7) / 28
    f = p.constant(x.pool, matrix)
    z = p.contract(f, p.cast(x, dtype=np.dtype(complex)), subscripts="ij,j->i")
    size = p.real(p.conjugate(z) * z)
    return total(size * size) + total(p.imag(p.exp(z * z)))


def bilinear(x):
    m = p.contract(x, p.sin(x), subscripts="i,j->ij")
    return total(p.contract(m, m, subscripts="ij,jk->ik")) + total(
        p.cumsum(x, axis=0, reverse=True)
    )


def piecewise(x):
    return total(p.where(p.greater(x, 0), x * x * x, p.exp(x)) + p.maximum(x, 0.3) * p.floor(3 * x))


def beside_a_constant(x):
    """Quotients joined to a constant, from which they are cut again."""
    quotients = part(x, 0, 2) / p.reshape(part(x, 4, 1), shape=())
    joined = p.concatenate(p.constant(x.pool, np.ones(1)), quotients, axis=0)
    return total(part(joined, 1, 2)) + p.reshape(part(joined, 0, 1), shape=()) * total(
        part(x, 3, 3)
    )


FUNCTIONS = [rosenbrock, shared, through_complex, bilinear, piecewise, beside_a_constant]


@pytest.fixture(params=FUNCTIONS, ids=lambda f: f.__name__)
def problem(request):
    global RNG
    RNG = np.random.default_rng(5)
    x, v = inputs()
    return request.param(x), x, v


def test_gradient_is_the_slope(problem):
    value, x, v = problem
    graph = derive.check(Graph((x,), (value, derive.gradient(value, x))))
    slope = interpret(graph, POINT)[1] @ DIRECTION
    step = 1e-6
    values = [interpret(graph, POINT + s * step * DIRECTION)[0] for s in (1, -1)]
    assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-6)


def test_tangent_is_the_slope_too(problem):
    value, x, v = problem
    outputs = (derive.jvp([value], [x], [v])[0], derive.gradient(value, x))
    graph = derive.check(Graph((x, v), outputs))
    tangent, grad = interpret(graph, POINT, DIRECTION)
    assert tangent == pytest.approx(grad @ DIRECTION, rel=1e-13)


def test_modes_agree_and_are_linear(problem):
    value, x, v = problem
    products = tuple(derive.hvp(value, x, v, mode) for mode in derive.EXACT_MODES)
    graph = derive.check(Graph((x, v), products), linear_in=v)
    first, *others = interpret(graph, POINT, DIRECTION)
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-11, atol=1e-11 * abs(first).max())
    grad = Graph((x,), (derive.gradient(value, x),))
    ends = [interpret(grad, POINT + s * 1e-6 * DIRECTION)[0] for s in (1, -1)]
    np.testing.assert_allclose(first, (ends[0] - ends[1]) / 2e-6, 1e-5, 1e-6 * abs(first).max())


def test_hessian_is_symmetric(problem):
    value, x, v = problem
    graph = Graph((x, v), (derive.hvp(value, x, v),))
    hessian = np.array([interpret(graph, POINT, e)[0] for e in np.eye(7)])
    np.testing.assert_allclose(hessian, hessian.T, 1e-12, 1e-12 * abs(hessian).max())


def test_product_against_mpmath():
    x, v = inputs()
    graph = Graph((x, v), (derive.hvp(rosenbrock(x), x, v),))
    given = interpret(graph, POINT, DIRECTION)[0]

    def fun(*x):
        pairs = zip(x[:-1], x[1:], strict=True)
        return sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in pairs)

    def entry(j, k):
        orders = [0] * 7
        orders[j] += 1
        orders[k] += 1
        return mpmath.diff(fun, tuple(map(mpmath.mpf, POINT)), tuple(orders))

    with mpmath.workdps(30):
        hessian = np.array([[float(entry(j, k)) for k in range(7)] for j in range(7)])
    np.testing.assert_allclose(given, hessian @ DIRECTION, rtol=1e-12)


def test_unknown_mode_is_an_error():
    x, v = inputs()
    with pytest.raises(ValueError, match="forward-over-reverse"):
        derive.hvp(rosenbrock(x), x, v, "sideways")


def test_what_does_not_depend_on_x_has_zero_derivatives():
    x, v = inputs()
    value = total(v * v)
    outputs = (derive.gradient(value, x), derive.hvp(value, x, v))
    assert all(not out.any() for out in interpret(Graph((x, v), outputs), POINT, DIRECTION))


def test_adjoints_of_repeated_and_of_input_outputs_add():
    x, v = inputs()
    (bar,) = derive.vjp([x, x, 2 * x], [x], [v, v, v])
    np.testing.assert_allclose(interpret(Graph((x, v), (bar,)), POINT, DIRECTION)[0], 4 * DIRECTION)


def test_check_finds_a_foreign_input():
    x, v = inputs()
    with pytest.raises(AssertionError, match="depends on v"):
        derive.check(Graph((x,), (x * v,)))


@pytest.mark.parametrize(("shape", "dtype"), [((3,), np.float64), ((7,), np.float32)])
def test_check_finds_a_wrong_shape_or_dtype(shape, dtype):
    x, _ = inputs()
    wrong = Node(x.pool, p.exp, (x,), {}, shape, np.dtype(dtype), 10**6)
    with pytest.raises(AssertionError, match="recorded"):
        derive.check(Graph((x,), (wrong,)))


@pytest.mark.parametrize(
    "fun",
    [
        lambda x, v: v * v,
        lambda x, v: p.exp(v),
        lambda x, v: v + x,
        lambda x, v: x / v,
        lambda x, v: v + 1,
    ],
    ids=["square", "exp", "affine", "quotient", "shift"],
)
def test_check_finds_what_is_not_linear(fun):
    x, v = inputs()
    with pytest.raises(AssertionError, match="linear|affine"):
        derive.check(Graph((x, v), (fun(x, v),)), linear_in=v)


@pytest.mark.parametrize(
    "fun",
    [
        lambda x, v: v * p.exp(x),
        lambda x, v: -v / x + p.where(p.greater(x, 0), v, 0),
        lambda x, v: p.cumsum(v, axis=0, reverse=False) - p.contract(v, x, subscripts="i,i->") * x,
    ],
    ids=["product", "choice", "sums"],
)
def test_check_accepts_what_is_linear(fun):
    x, v = inputs()
    derive.check(Graph((x, v), (fun(x, v),)), linear_in=v)


def test_substitute_replaces_wherever_it_is_used():
    x, v = inputs()
    (moved,) = derive.substitute([rosenbrock(x)], {x: x + v})
    given = interpret(Graph((x, v), (moved,)), POINT, DIRECTION)[0]
    needed = interpret(Graph((x,), (rosenbrock(x),)), POINT + DIRECTION)[0]
    assert given == needed


def made_primitive(**fields):
    """A primitive that is in no table."""
    shape_of_first = lambda *args: (args[-1].shape, args[-1].dtype)
    return p.Primitive("made", evaluate=None, infer=shape_of_first, **fields)


def made_scale():
    """(x, y) -> x^2 y, linear in y, with a tangent for x alone."""
    evaluate = lambda x, y: x * x * y
    rule = lambda z_bar, z, x, y: (None, scale(x, z_bar))
    tangent = lambda z, dots, x, y: 2 * x * y * dots[0]
    scale = replace(
        made_primitive(kind="linear", linear=((1,),), rule=rule, tangent=tangent), evaluate=evaluate
    )
    return scale


def made_cube():
    """x -> x^3 by its tangent alone."""
    cube = made_primitive(kind="general", tangent=lambda z, dots, x: 3 * x * x * dots[0])
    return replace(cube, evaluate=lambda x: x**3)


@pytest.mark.parametrize("mode", derive.EXACT_MODES)
def test_a_tangent_is_transposed(mode):
    x, v = inputs()
    scale, cube = made_scale(), made_cube()
    value = total(scale(p.sin(x), cube(x)) + scale(x, x))
    needed = total(p.sin(x) * p.sin(x) * (x * x * x) + x * x * x)
    for make in (lambda f: derive.gradient(f, x), lambda f: derive.hvp(f, x, v, mode)):
        graph = derive.check(Graph((x, v), (make(value), make(needed))))
        given, plain = interpret(graph, POINT, DIRECTION)
        np.testing.assert_allclose(given, plain, rtol=1e-13)


def test_a_tangent_that_is_not_linear_is_found():
    x, v = inputs()
    square = replace(made_cube(), tangent=lambda z, dots, x: dots[0] * dots[0])
    with pytest.raises(AssertionError, match="not linear"):
        derive.gradient(total(square(x)), x)


def test_a_general_primitive_without_a_tangent_is_no_primitive():
    with pytest.raises(AssertionError, match="lose its derivative"):
        made_primitive(kind="general")
