"""Products as values: graphs that are linear in a direction, each made by one function.

A `Product` maps a function that was traced, as a `Primal`, to a `LinearMap`: the graph of H v, J v,
J^T w or of any other matrix times a vector, with what else is known at its point. All else is the
same for each of them and knows none by name: what does not depend on the direction is computed once
per point, blocks of directions are taken together, operators apply the map. So another curvature is
another function here.

The invariant: `product` is linear in `direction`, which is checked when programs are made of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node, reachable

__all__ = [
    "HESSIANS",
    "LinearMap",
    "Primal",
    "Product",
    "gauss_newton",
    "hessian",
    "jacobian",
    "loss_of",
    "squared_scores",
    "transposed_jacobian",
    "weighted_hessian",
]


@dataclass(frozen=True, eq=False)
class Primal:
    """A function as a graph: its output at x and further inputs."""

    inputs: tuple[Node, ...]
    """x, then the arguments."""
    output: Node
    source: str
    """Its name with file and line, for errors."""

    @property
    def x(self) -> Node:
        return self.inputs[0]

    @property
    def value(self) -> Node:
        """The output as a scalar."""
        if self.output.shape != ():
            raise TypeError(
                f"{self.source} has a result of shape {self.output.shape}, and a gradient or "
                "Hessian needs a scalar: use .jacobian, .jvp, .vjp or .weighted_hessian, "
                "or return a sum"
            )
        return self.output

    @property
    def gradient(self) -> Node:
        return derive.gradient(self.value, self.x)

    def input(self, name: str, like: Node) -> Node:
        """One more input, of the shape and dtype of a node."""
        taken = {node.params.get("name") for node in self.inputs}
        while name in taken:
            name += "_"
        return p.input_node(like.pool, name, like.shape, like.dtype)


@dataclass(frozen=True, eq=False)
class LinearMap:
    """A product at a point, linear in a direction."""

    inputs: tuple[Node, ...]
    """What a point is given by: the inputs of the function, and perhaps more."""
    direction: Node
    results: tuple[Node, ...]
    """What the point gives besides."""
    product: Node

    @property
    def graph(self) -> Graph:
        return Graph((*self.inputs, self.direction), (self.product,))


Product = Callable[[Primal], LinearMap]


def hessian(f: Primal, hvp: Callable[[Node, Node, Node], Node]) -> LinearMap:
    """H v, and value and gradient, by one of the orders of differentiation."""
    v = f.input("v", f.x)
    results = f.value, f.gradient
    return LinearMap(f.inputs, v, results, hvp(f.value, f.x, v))


HESSIANS: dict[str, Product] = {
    mode: functools.partial(hessian, hvp=hvp) for mode, hvp in derive.HVPS.items()
}
"""By the names of their modes, the default first."""


def jacobian(f: Primal) -> LinearMap:
    """J v, and the output."""
    v = f.input("v", f.x)
    return LinearMap(f.inputs, v, (f.output,), derive.jvp([f.output], [f.x], [v])[0])


def transposed_jacobian(f: Primal) -> LinearMap:
    """J^T w, and the output."""
    w = f.input("w", f.output)
    return LinearMap(f.inputs, w, (f.output,), derive.vjp([f.output], [f.x], [w])[0])


def weighted_hessian(f: Primal) -> LinearMap:
    """sum_i w_i H_i v of the entries of the output, and w . f(x) with its gradient; w is an input."""
    v, w = f.input("v", f.x), f.input("w", f.output)
    value = derive.inner(w, f.output)
    results = value, derive.gradient(value, f.x)
    return LinearMap((*f.inputs, w), v, results, derive.hvp(value, f.x, v))


# Curvatures of models: of a loss of z, the outputs of a model z(x) with Jacobian J.


def gauss_newton(z: Primal) -> LinearMap:
    """J^T J v, and |z|^2 / 2 with its gradient J^T z."""
    square = p.multiply(derive.inner(z.output, z.output), 0.5)
    return _curvature(z.inputs, z.output, square, lambda z, t: t)


def loss_of(f: Primal) -> LinearMap:
    """J^T (d^2 f / dz^2) J v of a loss f in which outputs z of a model are a variable of level 0."""
    nodes = reachable([f.value])
    found = [node for node in nodes if node.primitive is p.variable and node.params["level"] == 0]
    if not found:  # a loss of nothing that x changes
        v = f.input("v", f.x)
        return LinearMap(f.inputs, v, (f.value, f.gradient), p.multiply(v, 0.0))
    (z,) = found
    return _curvature(f.inputs, z, f.value, lambda z, t: derive.hvp(f.value, z, t))


def _curvature(inputs: tuple, z: Node, value: Node, times: Callable) -> LinearMap:
    """J^T times(J v), and a value with its gradient."""
    x = inputs[0]
    v = Primal(inputs, value, "").input("v", x)
    (z_dot,) = derive.jvp([z], [x], [v])
    (product,) = derive.vjp([z], [x], [times(z, z_dot)])
    return LinearMap(inputs, v, (value, derive.gradient(value, x)), product)


@functools.cache
def squared_scores(samples: int, is_last: bool) -> Product:
    """The mean over samples of the sum over observations of g g^T v, with g = J^T e.

    The scores e are an input of the shape (samples,) + that of z. An observation is one place along all
    axes of z but the last, if `is_last`; else along the first.
    """

    def product(f: Primal) -> LinearMap:
        z, x = f.output, f.x
        v = f.input("v", x)
        shape = (samples, *z.shape)
        e = p.input_node(x.pool, "e", shape, z.dtype)
        (z_dot,) = derive.jvp([z], [x], [v])
        own = range(z.ndim, z.ndim + 1) if is_last else range(2, z.ndim + 1)
        along = p.sum_(p.multiply(e, z_dot), axes=tuple(own))
        kept = tuple(1 if k in own else extent for k, extent in enumerate(shape))
        projected = p.multiply(e, p.reshape(along, shape=kept))
        w = p.multiply(p.sum_(projected, axes=(0,)), 1.0 / samples)
        return LinearMap((*f.inputs, e), v, (z,), derive.vjp([z], [x], [w])[0])

    return product
