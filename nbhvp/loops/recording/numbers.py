"""Numbers of Python that record: those of one run of a function whose source Python runs.

A `Real` is a float with its record on a tape; record 0 is that of a constant, whose operations with
constants are computed without a record. A `Complex` is a pair of reals, a `Whole` an integer of 64 bits.
Arrays of reals are arrays of objects, so NumPy's own indices, views and loops serve.

Invariant: where Python or NumPy would go another way than compiled code, the run is given up by an
exception: at an overflow of an integer, at a division by zero, where the domain of a function ends.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.table.tape import CONSTANT, INPUT, Guards, Marks, Tape
from nbhvp.loops.overloads.table import CODES, OPERATORS, PRIMITIVES

__all__ = ["Numbers", "Refused"]


_PLAIN = (int, float, np.integer)


class Refused(Exception):
    """A run that Python cannot do as compiled code would, or not in the time."""


class Numbers:
    """The kinds of numbers of one run, and the tape that they write.

    `most` bounds the records, and the comparisons and steps of loops.
    """

    def __init__(self, inputs: np.ndarray, most: int):
        self.most, self._spent = most, 0
        self.records, self._guards, self._marks = _Rows(), _Rows(), _Rows()
        self.records.add(CONSTANT, 0, 0, 0.0)
        for value in inputs.tolist():
            self.records.add(INPUT, 0, 0, value)
        self._constants: dict[Any, int] = {}
        self.Real, self.Whole = _real(self), _whole(self)
        self.Complex = type("Complex", (_Pair,), {"__slots__": ()})
        self.Array, self.Integers = _arrays(self)

    def spend(self) -> None:
        """Count a step of a loop or a comparison: what does not end soon is better compiled."""
        self._spent += 1
        if self._spent > self.most or self.records.count > self.most:
            raise Refused

    def constant(self, value: float) -> int:
        """The record of a constant: 0 for 0.0."""
        if value == 0.0:
            if math.copysign(1.0, value) > 0.0:
                return 0
            key: Any = "-0"
        else:
            key = value
        found = self._constants.get(key)
        if found is None:
            found = self._constants[key] = self.records.add(CONSTANT, 0, 0, value)
        return found

    def real(self, x) -> Any:
        """A number as a real one; None of anything else."""
        if x.__class__ is self.Real:
            return x
        return self.Real(float(x)) if isinstance(x, _PLAIN) else None

    def position(self, x) -> int:
        """The record of a number; a constant becomes one."""
        x = self.real(x)
        if x is None:
            raise Refused
        return x.record or self.constant(x.value)

    def applied(self, code: int, compute: Callable, *numbers):
        """A function of numbers: a real is recorded, what is whole or a truth is guarded."""
        reals = [self.real(x) for x in numbers]
        if any(x is None for x in reals):
            raise Refused
        value = compute(*(x.value for x in reals))
        is_real = isinstance(value, float)
        if not is_real:
            value = bool(value) if isinstance(value, bool | np.bool_) else self.Whole(value)
        if any(x.record for x in reals):
            first, second = (*(x.record or self.constant(x.value) for x in reals), 0)[:2]
            if is_real:
                value = float(value)
                return self.Real(value, self.records.add(code, first, second, value))
            self.guard(code, first, second, float(value))
        return self.Real(float(value)) if is_real else value

    def guard(self, code: int, first: int, second: int, outcome: float) -> None:
        self.spend()
        self._guards.add(code, first, second, outcome)

    def mark(self, loop: int, is_end: bool = False) -> None:
        """Note that a loop begins a step, or ends."""
        self._marks.add(int(is_end), self.records.count, self._guards.count, loop)

    def elementwise(self, code: int, compute: Callable, *args):
        """The same of numbers or arrays that broadcast."""
        if not any(isinstance(x, np.ndarray) for x in args):
            return self.applied(code, compute, *args)
        args = np.broadcast_arrays(*(np.asarray(x, object) for x in args))
        found = [
            self.applied(code, compute, *row) for row in zip(*(x.flat for x in args), strict=True)
        ]
        if not all(x.__class__ is self.Real for x in found):
            raise Refused
        return self.array(found, args[0].shape)

    def array(self, numbers, shape) -> np.ndarray:
        """An array of reals: of these, or of copies of one."""
        made = np.empty(shape, object).view(self.Array)
        if made.size:
            made.reshape(-1)[...] = numbers
        return made

    def numbers_of(self, value: np.ndarray) -> np.ndarray:
        """Floats from outside as constants; integers as they are."""
        if value.dtype == np.int64:
            return value.view(self.Integers)
        if value.dtype != np.float64:
            raise Refused
        return self.array([self.Real(x) for x in value.ravel().tolist()], value.shape)

    def tape(self, sizes: tuple[int, ...], outputs: np.ndarray) -> Tape:
        """What was recorded."""
        guards, marks = Guards(*self._guards.columns()), Marks(*self._marks.columns())
        return Tape(PRIMITIVES, *self.records.columns(), sizes, outputs, guards, marks=marks)


class _Pair:
    """A complex number; whoever runs functions gives it its operations."""

    __slots__ = ("imag", "real")

    def __init__(self, real, imag):
        self.real, self.imag = real, imag


class _Rows:
    """Codes, operands and values, column by column: a tuple for each row is work for the collector."""

    def __init__(self):
        self.count, self._columns = 0, ([], [], [], [])
        self._append = tuple(column.append for column in self._columns)

    def add(self, code: int, first: int, second: int, value: float) -> int:
        """Add a row, and give its number."""
        codes, firsts, seconds, values = self._append
        codes(code)
        firsts(first)
        seconds(second)
        values(value)
        self.count = count = self.count + 1
        return count - 1

    def columns(self) -> Iterator[np.ndarray]:
        kinds = np.uint8, np.uint32, np.uint32, np.float64
        for column, kind in zip(self._columns, kinds, strict=True):
            array = np.array(column, kind)
            array.flags.writeable = False
            yield array


def _power(x: float, y: float) -> float:
    """By products, as compiled code computes a whole power."""
    if y != math.floor(y) or abs(y) > 64:
        return math.pow(x, y)
    power, base, rest = 1.0, x, abs(int(y))
    while rest:
        if rest & 1:
            power *= base
        rest >>= 1
        base = base * base if rest else base
    return power if y >= 0 else 1.0 / power


def _real(numbers: Numbers) -> type:
    """The class of reals of a run."""

    class Real:
        __slots__ = ("record", "value")

        def __init__(self, value: float, record: int = 0):
            self.value, self.record = value, record

        def __bool__(self):
            return numbers.applied(CODES[p.not_equal], lambda x: x != 0.0, self)

        def __pos__(self):
            return self

        real = property(__pos__)
        imag = property(lambda self: Real(0.0))

    add, constant = numbers.records.add, numbers.constant

    def recorded(code, compute, a, b):
        value = compute(a.value, b.value)
        if not (a.record or b.record):
            return Real(value)
        first, second = a.record or constant(a.value), b.record or constant(b.value)
        return Real(value, add(code, first, second, value))

    def guarded(code, compute, a, b):
        truth = compute(a.value, b.value)
        if a.record or b.record:
            first, second = a.record or constant(a.value), b.record or constant(b.value)
            numbers.guard(code, first, second, float(truth))
        else:
            numbers.spend()
        return truth

    def binary(apply, code, compute, is_reflected=False):
        def operate(a, b):
            if b.__class__ is not Real and (b := numbers.real(b)) is None:
                return NotImplemented
            return apply(code, compute, b, a) if is_reflected else apply(code, compute, a, b)

        return operate

    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
        function = getattr(operator, name)
        code = CODES[p.primitive_of(OPERATORS[function])]
        compute = _power if name == "pow" else function
        setattr(Real, f"__{name}__", binary(recorded, code, compute))
        setattr(Real, f"__r{name}__", binary(recorded, code, compute, is_reflected=True))
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        function = getattr(operator, name)
        code = CODES[p.primitive_of(OPERATORS[function])]
        setattr(Real, f"__{name}__", binary(guarded, code, function))
    Real.__neg__ = lambda x: numbers.applied(CODES[p.negative], operator.neg, x)
    Real.__abs__ = lambda x: numbers.applied(CODES[p.absolute], abs, x)
    return Real


def _whole(numbers: Numbers) -> type:
    """The class of integers of a run: an overflow ends it."""

    class Whole(int):
        __slots__ = ()

        def __truediv__(self, other):
            return (
                numbers.Real(int(self) / int(other)) if isinstance(other, int) else NotImplemented
            )

        def __rtruediv__(self, other):
            return (
                numbers.Real(int(other) / int(self)) if isinstance(other, int) else NotImplemented
            )

        def __pow__(self, other):
            if not isinstance(other, int):
                return NotImplemented
            if other < 0 or self.bit_length() * other > 64:
                raise Refused
            return checked(int(self) ** int(other))

        def __lshift__(self, other):
            raise Refused

        __rlshift__ = __lshift__

        def __rpow__(self, other):
            return Whole(other) ** self if isinstance(other, int) else NotImplemented

    def checked(value):
        if value is NotImplemented:
            return value
        if not -(2**63) <= value < 2**63:
            raise Refused
        numbers.spend()
        return Whole(value)

    def operation(name):
        plain = getattr(int, name)
        return lambda *args: checked(plain(*args))

    for name in ("add", "sub", "mul", "floordiv", "mod", "and", "or", "xor"):
        setattr(Whole, f"__{name}__", operation(f"__{name}__"))
        setattr(Whole, f"__r{name}__", operation(f"__r{name}__"))
    for name in ("neg", "abs", "invert", "rshift"):
        setattr(Whole, f"__{name}__", operation(f"__{name}__"))
    return Whole


def _arrays(numbers: Numbers) -> tuple[type, type]:
    """The classes of arrays of a run: of reals, and of integers."""
    whole = numbers.Whole

    class Array(np.ndarray):
        @property
        def shape(self):
            return tuple(map(whole, np.shape(self.view(np.ndarray))))

        @property
        def size(self):
            return whole(self.view(np.ndarray).size)

        @property
        def ndim(self):
            return whole(self.view(np.ndarray).ndim)

        @property
        def real(self):
            raise Refused

        imag = real

    class Integers(Array):
        def __getitem__(self, index):
            found = super().__getitem__(index)
            return whole(found) if isinstance(found, np.integer) else found

    return Array, Integers
