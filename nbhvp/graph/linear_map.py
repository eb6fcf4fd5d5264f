"""Products as values: graphs that are linear in a direction, each made by one function.

A `Product` maps a function that was traced, as a `Primal`, to a `LinearMap`: the graph of H v, J v,
J^T w or of any other matrix times a vector, with what else is known at its point. All else is the
same for each of them and knows none by name: what does not depend on the direction is computed once
per point, blocks of directions are taken together, operators apply the map. So another curvature is
another function here, such as that of Gauss and Newton, J^T (J v).

The invariant: `product` is linear in `direction`, which is checked when programs are made of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node

__all__ = [
    "HESSIANS",
    "LinearMap",
    "Primal",
    "Product",
    "hessian",
    "jacobian",
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
