"""A recorder of tapes in plain Python, for tests of what is made of them.

`taped(fun, *inputs)` runs a function of arrays of numbers, loops and all, on numbers that write down
what is done with them, by the same rules as the recorder of compiled functions: record 0 is the
constant 0.0, equal constants share a record, operations of plain numbers leave none, comparisons and
conversions to integers are guards.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.primitives import Primitive
from nbhvp.graph.table.tape import CONSTANT, FIRST, INPUT, Guards, Tape

__all__ = ["Number", "Recorder", "apply", "random_tape", "taped"]


class Recorder:
    """The records of one run."""

    def __init__(self) -> None:
        self.columns: tuple[list, ...] = ([CONSTANT], [0], [0], [0.0])
        self.conditions: tuple[list, ...] = ([], [], [], [])
        self.primitives: dict[Primitive, int] = {}
        self.sizes: list[int] = []
        self.constants = {0.0: 0}

    def input(self, values: np.ndarray) -> np.ndarray:
        """An array of numbers: all inputs come before the first operation."""
        self.sizes.append(values.size)
        numbers = np.empty(values.size, object)
        numbers[:] = [Number(self, self.append(INPUT, 0, 0, v)) for v in values.ravel().tolist()]
        return numbers.reshape(values.shape)

    def append(self, *record) -> int:
        for column, entry in zip(self.columns, record, strict=True):
            column.append(entry)
        return len(self.columns[0]) - 1

    def place(self, value) -> int:
        """The record of a number, or of a constant."""
        if isinstance(value, Number):
            return value.record
        value = float(value)
        if value not in self.constants:
            self.constants[value] = self.append(CONSTANT, 0, 0, value)
        return self.constants[value]

    def operation(self, entry: Primitive, args) -> tuple[int, int, int, float]:
        code = self.primitives.setdefault(entry, FIRST + len(self.primitives))
        places = [self.place(arg) for arg in args]
        value = float(entry.evaluate(*(np.float64(self.columns[3][k]) for k in places)))
        return code, *(*places, 0)[:2], value

    def guard(self, entry: Primitive, *args) -> float:
        condition = self.operation(entry, args)
        for column, one in zip(self.conditions, condition, strict=True):
            column.append(one)
        return condition[-1]

    def tape(self, outputs) -> Tape:
        types = (np.uint8, np.uint32, np.uint32, np.float64)
        records, guards = (
            [np.array(column, kind) for column, kind in zip(columns, types, strict=True)]
            for columns in (self.columns, self.conditions)
        )
        places = np.array([self.place(one) for one in outputs], np.int64)
        # A constant that is a result is a record of its own, behind all others.
        while len(self.columns[0]) > records[0].size:
            records = [
                np.array(column, kind) for column, kind in zip(self.columns, types, strict=True)
            ]
        return Tape(tuple(self.primitives), *records, tuple(self.sizes), places, Guards(*guards))


class Number:
    """A number that records what is done with it."""

    __array_ufunc__ = None

    def __init__(self, recorder: Recorder, record: int):
        self.recorder, self.record = recorder, record

    def __bool__(self):
        return bool(self.recorder.guard(p.not_equal, self, 0.0))

    def __int__(self):
        return int(self.recorder.guard(p.trunc, self))

    def __neg__(self):
        return apply(p.negative, self)

    def __abs__(self):
        return apply(p.absolute, self)


def apply(entry: Primitive, *args) -> Number:
    """A primitive of numbers, at least one of them recorded."""
    recorder = next(arg.recorder for arg in args if isinstance(arg, Number))
    return Number(recorder, recorder.append(*recorder.operation(entry, args)))


def _operator(entry):
    return lambda x, y: apply(entry, x, y), lambda x, y: apply(entry, y, x)


for _name, _entry in {
    "add": p.add, "sub": p.subtract, "mul": p.multiply, "truediv": p.divide, "pow": p.power,
    "mod": p.remainder,
}.items():  # fmt: skip
    _forward, _reflected = _operator(_entry)
    setattr(Number, f"__{_name}__", _forward)
    setattr(Number, f"__r{_name}__", _reflected)
for _name, _entry in {
    "lt": p.less, "le": p.less_equal, "gt": p.greater, "ge": p.greater_equal,
}.items():  # fmt: skip
    setattr(Number, f"__{_name}__", lambda x, y, entry=_entry: bool(x.recorder.guard(entry, x, y)))


@np.errstate(all="ignore")
def taped(fun: Callable, *inputs: np.ndarray) -> Tape:
    """The tape of `fun(*arrays)`, which returns a number or an array or list of numbers."""
    recorder = Recorder()
    arrays = [recorder.input(np.asarray(values, float)) for values in inputs]
    result = fun(*arrays)
    outputs = [result] if isinstance(result, Number | float | int) else np.ravel(result).tolist()
    return recorder.tape(outputs)


# Random loops.

RANDOM = (p.add, p.subtract, p.negative, p.multiply, p.sin, p.power, p.less)
ODDS = (0.3, 0.15, 0.1, 0.2, 0.1, 0.1, 0.05), (0.7, 0.1, 0.1, 0.0, 0.1, 0.0, 0.0)
"""Of all primitives, and of long chains of additions."""
CONSTANTS = (0.0, 0.0, 1.0, 2.0, -0.5, 0.3, 9.5)


@np.errstate(all="ignore")
def random_tape(rng) -> Tape:
    """Some loops: their bodies read inputs, constants, results of this round and of earlier ones."""
    sizes = tuple(rng.integers(1, 7, rng.integers(1, 3)).tolist())
    start = 1 + sum(sizes)
    rows = [(CONSTANT, 0, 0, 0.0), *((INPUT, 0, 0, 0.5 + 0.1 * k) for k in range(start - 1))]
    rows += [(CONSTANT, 0, 0, value) for value in CONSTANTS]
    guards, operations = [], [0]
    for _ in range(rng.integers(1, 4)):
        length = int(rng.integers(1, 7))
        codes = rng.choice(len(RANDOM), length, p=ODDS[rng.integers(2)])
        ways = rng.choice(6, (length, 2), p=(0.2, 0.2, 0.2, 0.1, 0.2, 0.1))
        shifts, steps = rng.integers(0, 40, (length, 2)), rng.integers(0, 3, (length, 2))
        begin = len(operations)
        for turn in range(rng.integers(1, 12)):
            for code, *operands in zip(codes, ways, shifts, steps, strict=True):
                a, b = (
                    (
                        operations[-1],
                        operations[-1 - shift % min(3, len(operations))],
                        1 + (shift + turn * step) % (start - 1),
                        start + shift % len(CONSTANTS),
                        operations[max(0, len(operations) - length)],
                        operations[shift % begin],
                    )[way]
                    for way, shift, step in zip(*operands, strict=True)
                )
                entry = RANDOM[code]
                operands = (a, b)[: entry.arity]
                value = float(entry.evaluate(*(np.float64(rows[k][3]) for k in operands)))
                row = (FIRST + code, *(*operands, 0)[:2], value)
                if entry is p.less:
                    guards.append(row)
                else:
                    operations.append(len(rows))
                    rows.append(row)
    outputs = rng.choice(operations, rng.integers(1, 4)).astype(np.int64)
    outputs[0] = operations[-1]
    kinds = (np.uint8, np.uint32, np.uint32, np.float64)
    columns, conditions = (
        [
            np.array(column, kind)
            for column, kind in zip(zip(*table, strict=True), kinds, strict=True)
        ]
        if table
        else [np.empty(0, kind) for kind in kinds]
        for table in (rows, guards)
    )
    return Tape(RANDOM, *columns, sizes, outputs, Guards(*conditions))
