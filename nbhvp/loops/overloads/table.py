"""What a tape may hold, and the functions of real numbers that are recorded as such."""

from __future__ import annotations

import builtins
import functools
import math
import operator
from collections.abc import Callable

import numpy as np
import scipy.special

from nbhvp.graph import primitives as p
from nbhvp.graph.table.tape import FIRST
from nbhvp.trace.answers import ANSWERS

__all__ = ["CODES", "OPERATORS", "PRIMITIVES", "functions"]

PRIMITIVES = tuple(
    entry
    for entry in p.TABLE.values()
    if entry.kind == "elementwise"
    and entry.is_elementwise
    and not entry.params
    and entry.arity <= 2
)
"""Those that a tape may hold: of real numbers, with one or two arguments and no parameters."""

CODES = {entry: FIRST + k for k, entry in enumerate(PRIMITIVES)}

OPERATORS = {
    operator.add: np.add, operator.sub: np.subtract, operator.mul: np.multiply,
    operator.truediv: np.divide, operator.floordiv: np.floor_divide, operator.mod: np.remainder,
    operator.pow: np.power, operator.neg: np.negative, operator.eq: np.equal,
    operator.ne: np.not_equal, operator.lt: np.less, operator.le: np.less_equal,
    operator.gt: np.greater, operator.ge: np.greater_equal, builtins.abs: np.absolute,
    builtins.pow: np.power, math.fabs: np.absolute, math.hypot: np.hypot, math.log: np.log,
    math.floor: np.floor, math.ceil: np.ceil, math.trunc: np.trunc, np.float_power: np.power,
}  # fmt: skip
"""The function of the table that each one of these is."""


@functools.cache
def functions() -> dict[Callable, p.Primitive]:
    """All functions that are overloaded, with their entries.

    Those of scipy.special have values where numba knows them, as with numba-scipy.
    """
    members = [*vars(np).values(), *vars(scipy.special).values()]
    ufuncs = {f: f for f in members if isinstance(f, np.ufunc)}
    twins = {f: answer.twin for f, answer in ANSWERS.items() if answer.twin is not None}
    entries = {f: p.primitive_of(twin) for f, twin in {**ufuncs, **twins, **OPERATORS}.items()}
    return {f: entry for f, entry in entries.items() if entry in CODES}
