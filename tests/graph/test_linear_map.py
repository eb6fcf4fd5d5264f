"""Products as values: each is linear in its direction, and the matrix that it stands for."""

import numpy as np
import pytest

from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.linear_map import (
    HESSIANS,
    Primal,
    gauss_newton,
    jacobian,
    loss_of,
    squared_scores,
    transposed_jacobian,
    weighted_hessian,
)
from nbhvp.graph.node import Graph, Pool

X, A, W = np.array([1.0, -0.5, 2.0]), np.array([2.0, 0.5]), np.array([3.0, -1.0])


def of_array():
    """(a_0 x_0^2 x_1, a_1 x_2^3)"""
    pool = Pool()
    x, a = (p.input_node(pool, name, z.shape, z.dtype) for name, z in (("x", X), ("a", A)))
    u, v, w = (p.slice_(x, start=(k,), step=(1,), size=(1,)) for k in range(3))
    return Primal((x, a), a * p.concatenate(u * u * v, w * w * w, axis=0), "f (file.py:1)")


def of_scalar():
    f = of_array()
    return Primal(f.inputs, p.sum_(f.output, axes=(0,)), f.source)


def of_loss():
    """sum z^3 / 6 of these."""
    f = of_array()
    z = p.variable(f.output, level=0)
    return Primal(f.inputs, p.sum_(z * z * z / 6.0, axes=(0,)), f.source)


JACOBIAN = np.array([[2 * A[0] * X[0] * X[1], A[0] * X[0] ** 2, 0], [0, 0, 3 * A[1] * X[2] ** 2]])
FIRST = A[0] * np.array([[2 * X[1], 2 * X[0], 0], [2 * X[0], 0, 0], [0, 0, 0]])
SECOND = np.diag([0, 0, 6 * A[1] * X[2]])
VALUES = np.array([A[0] * X[0] ** 2 * X[1], A[1] * X[2] ** 3])
SCORES = np.array([[1.0, -2.0], [0.5, 3.0]])
MAPS = {
    "jacobian": (of_array, jacobian, (), JACOBIAN, (VALUES,)),
    "transposed": (of_array, transposed_jacobian, (), JACOBIAN.T, (VALUES,)),
    "weighted": (
        of_array, weighted_hessian, (W,), W[0] * FIRST + W[1] * SECOND, (W @ VALUES, W @ JACOBIAN)
    ),
    "Gauss-Newton": (
        of_array, gauss_newton, (), JACOBIAN.T @ JACOBIAN, (VALUES @ VALUES / 2, VALUES @ JACOBIAN)
    ),
    "loss": (
        of_loss, loss_of, (), JACOBIAN.T @ np.diag(VALUES) @ JACOBIAN,
        (np.sum(VALUES**3) / 6, VALUES**2 / 2 @ JACOBIAN),
    ),
    "scores": (
        of_array, squared_scores(2, False), (SCORES,),
        JACOBIAN.T @ np.diag(np.mean(SCORES**2, axis=0)) @ JACOBIAN, (VALUES,),
    ),
    "scores of one": (
        of_array, squared_scores(2, True), (SCORES,),
        JACOBIAN.T @ SCORES.T @ SCORES / 2 @ JACOBIAN, (VALUES,),
    ),
    **{
        mode: (of_scalar, hessian, (), FIRST + SECOND, (VALUES.sum(), JACOBIAN.sum(axis=0)))
        for mode, hessian in HESSIANS.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("name", MAPS)
def test_products(name):
    make, product, more, matrix, results = MAPS[name]
    f = make()
    linear = product(f)
    assert linear.inputs[: len(f.inputs)] == f.inputs
    derive.check(linear.graph, linear_in=linear.direction)
    columns = [
        interpret(linear.graph, X, A, *more, e)[0] for e in np.eye(linear.direction.shape[0])
    ]
    np.testing.assert_allclose(np.transpose(columns), matrix, rtol=1e-14, atol=1e-14)
    found = interpret(Graph(linear.inputs, linear.results), X, A, *more)
    for a, b in zip(found, results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)


def test_a_hessian_of_an_array_names_the_function():
    with pytest.raises(TypeError, match=r"f \(file.py:1\).*\(2,\).*\.jacobian"):
        HESSIANS["forward-over-reverse"](of_array())


def test_the_gradient_is_one_node():
    """Also of a function whose derivative has constants, which are others each time."""
    f = of_scalar()
    g = Primal(f.inputs, p.sum_(f.x * p.constant(f.x.pool, X), axes=(0,)), f.source)
    assert g.gradient is g.gradient
    results = [hessian(g).results for hessian in HESSIANS.values()]
    assert all(gradient is g.gradient for _, gradient in results)


def test_a_direction_is_named_apart_from_the_inputs():
    pool = Pool()
    v = p.input_node(pool, "v", (3,), np.dtype(float))
    f = Primal((v,), p.sum_(v * v * v, axes=(0,)), "f")
    linear = HESSIANS["forward-over-reverse"](f)
    assert linear.direction is not v
    np.testing.assert_allclose(interpret(linear.graph, X, X)[0], 6 * X**2)
