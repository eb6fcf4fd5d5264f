"""One point: the known results of a function there, and products ready to run.

Invariant: a point is immutable, so threads share it without a lock; further results make a new point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nbhvp.graph.linear_map import Product
from nbhvp.graph.node import Node
from nbhvp.runtime.blocks import in_blocks
from nbhvp.runtime.calls.call import copied
from nbhvp.runtime.recorded import Linearized, Recorded

__all__ = ["Point", "new_point"]


@dataclass(eq=False, slots=True)
class Point:
    """The arguments of a trace, with results that are known there, and products bound to it."""

    recorded: Recorded
    x: np.ndarray
    leaves: Sequence[np.ndarray]
    """The arrays among the other arguments."""
    inputs: tuple[np.ndarray, ...]
    """What programs take: x, and the same arrays in C order."""
    known: dict[Node, np.ndarray]
    products: dict[Product, Any]

    def value(self) -> Any:
        """The value, a number or a copy; None if it is not known."""
        value = self.known.get(self.recorded.output)
        if value is None:
            return None
        return value.copy() if value.ndim else value[()]

    def value_and_gradient(self) -> tuple[Any, np.ndarray] | None:
        """Both, the gradient as a copy; None if the gradient is not known."""
        gradient = self.known.get(self.recorded.gradient)
        return None if gradient is None else (self.value(), copied(gradient))

    def extended(self, product: Product, complete: bool = False) -> Point:
        """The point with one more product ready, and with its results if `complete`."""
        linearized = self.recorded.linearized(product)
        missing = complete and any(node not in self.known for node in linearized.results)
        if product in self.products and not missing:
            return self
        outputs = self.recorded.point_at(product, self.inputs, missing)[len(self.recorded.guards) :]
        known, products = _shared_out(linearized, self.inputs, product, outputs)
        return replace(self, known=self.known | known, products=self.products | products)

    def without(self, node: Node) -> Point:
        """The point, where a result is not known any more."""
        known = {other: value for other, value in self.known.items() if other is not node}
        return replace(self, known=known)

    def times(self, product: Product, v: np.ndarray) -> np.ndarray:
        """The product with a direction, or with each along one more, last axis of v."""
        linearized, bound = self.recorded.linearized(product), self.products[product]
        if v.ndim == linearized.direction.ndim:
            return bound(v)
        several = linearized.several(v.shape[-1])
        if (together := getattr(bound, "together", None)) is not None:
            return together(v, several)
        result = linearized.product.graph.outputs[-1]
        return in_blocks(bound, several, bound.stored, v, result.shape, result.dtype)


def new_point(
    recorded: Recorded,
    inputs: tuple[np.ndarray, ...],
    leaves: Sequence[np.ndarray],
    product: Product,
    outputs: Sequence[np.ndarray],
) -> Point:
    """The point at inputs and arguments that are kept, with what a point program gave."""
    known, products = _shared_out(recorded.linearized(product), inputs, product, outputs)
    return Point(recorded, inputs[0], leaves, inputs, known, products)


def _shared_out(
    linearized: Linearized,
    inputs: tuple[np.ndarray, ...],
    product: Product,
    outputs: Sequence[np.ndarray],
) -> tuple[dict[Node, np.ndarray], dict[Product, Any]]:
    """Results that are known, and the product, from state and results if any were needed."""
    count = len(linearized.state)
    results = outputs[count:]
    known = dict(zip(linearized.results, results, strict=True)) if results else {}
    return known, {product: linearized.product.bind(*outputs[:count], *inputs)}
