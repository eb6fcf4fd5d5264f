"""Assertions of `numpy.testing`: NumPy's own checks of the plain values, and guards.

Whether an assertion holds is a branch: where it comes out otherwise the function is traced anew, and
NumPy raises its own error.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.trace.answers import answers
from nbhvp.trace.arrays import Traced, apply, guard, lift, map_traced
from nbhvp.trace.dispatch import frozen

__all__: list[str] = []


def _is_same(x: Traced, y: Traced):
    return (x == y) | (np.isnan(x) & np.isnan(y))


def _is_close(x: Traced, y: Traced, rtol=1e-07, atol=0, equal_nan=True):
    return np.isclose(x, y, rtol, atol, equal_nan)


def _is_almost(x: Traced, y: Traced, decimal: int):
    return (abs(y - x) < 1.5 * 10.0 ** (-decimal)) | _is_same(x, y)


def _is_about(x: Traced, y: Traced, significant: int = 7):
    scale = np.floor(np.log10(0.5 * (abs(x) + abs(y))))
    return (abs(x - y) < 10.0 ** (scale + 1 - significant)) | _is_same(x, y)


_CONDITIONS: dict[str, Callable] = {
    "assert_allclose": _is_close,
    "assert_array_equal": _is_same,
    "assert_equal": _is_same,
    "assert_array_less": lambda x, y: x < y,
    "assert_almost_equal": functools.partial(_is_almost, decimal=7),
    "assert_array_almost_equal": functools.partial(_is_almost, decimal=6),
    "assert_approx_equal": _is_about,
}
"""For each assertion on two arrays, the condition on their elements."""
_SETTINGS = ("rtol", "atol", "equal_nan", "decimal", "significant")
_THIRD = {"assert_allclose": "rtol", "assert_approx_equal": "significant"}


def _asserted(name: str, plain: Callable, condition: Callable, args: tuple, kwargs: dict):
    settings = {key: kwargs[key] for key in _SETTINGS if key in kwargs}
    if len(args) > 2 and name not in ("assert_array_equal", "assert_equal", "assert_array_less"):
        settings[_THIRD.get(name, "decimal")] = args[2]
    pair = [*args[:2], *(v for k, v in kwargs.items() if k in ("actual", "desired", "x", "y"))]
    x, y = map(lift, pair)
    if np.broadcast(x.value, y.value).size:
        holds = condition(x, y, **settings)
        guard(holds if lift(holds).ndim == 0 else apply(p.all_, holds))
    plain(*map_traced(frozen, args), **map_traced(frozen, kwargs))


def _handler(name: str, condition: Callable) -> Callable:
    def check(*args, **kwargs):
        _asserted(name, getattr(np.testing, name), condition, args, kwargs)

    return check


for _name, _condition in _CONDITIONS.items():
    answers(f"numpy.testing.{_name}")(_handler(_name, _condition))


@answers("numpy.testing.assert_")
def assert_(val, msg=""):
    np.testing.assert_(bool(val), msg)  # noqa: PT009
