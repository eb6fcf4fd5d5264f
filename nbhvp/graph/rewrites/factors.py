"""Products of a few factors, in the order in which NumPy multiplies them.

What overflows on the way depends on the order. So the value has NumPy's, and so has each derivative,
the product of all other factors: the adjoints of a chain of products come from its end, and overflow
where this product does not. It takes n^2 / 2 multiplications.
"""

from __future__ import annotations

from functools import reduce
from operator import mul

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node

__all__ = ["MOST", "prod"]

MOST = 8
"""Factors of which each derivative is a product of its own."""


def _parts(a: Node) -> list[Node]:
    """What stands at each position of the last axis."""
    step, size = (1,) * a.ndim, (*a.shape[:-1], 1)
    starts = [(*(0,) * (a.ndim - 1), k) for k in range(a.shape[-1])]
    parts = [p.slice_(a, start=start, step=step, size=size) for start in starts]
    return [p.reshape(part, shape=a.shape[:-1]) for part in parts]


def _partials(a: Node) -> list[Node]:
    parts = _parts(a)
    return [reduce(mul, parts[:k] + parts[k + 1 :]) for k in range(len(parts))]


def _tangent(z, dots, a):
    return reduce(lambda x, y: x + y, map(mul, _partials(a), _parts(dots[0])))


def _rule(z_bar, z, a):
    bars = [p.conjugate(partial) * z_bar for partial in _partials(a)]
    return (p.concatenate(*(p.reshape(bar, shape=(*z.shape, 1)) for bar in bars), axis=z.ndim),)


prod = p.enter(
    p.Primitive(
        "prod",
        "general",
        lambda a: np.multiply.reduce(a, axis=-1, dtype=np.asarray(a).dtype),
        lambda a: (a.shape[:-1], a.dtype),
        rule=_rule,
        tangent=_tangent,
        lowered=lambda a: reduce(mul, _parts(a)),
    )
)
