"""Short runs of compiled functions, recorded by Python: they are those of the compiled recorder.

`test_loops` holds both to the functions themselves. Here is what Python must leave to the compiler.
"""

import math

import numpy as np
import pytest
from numba import njit

from nbhvp.loops import interpreted as module
from nbhvp.loops.interpreted import interpreted
from nbhvp.loops.record import DEFAULT_LIMIT

x = np.array([0.5, -1.5, 2.0])


def product_of_integers(x, k):
    return x[0] * (k * 4_000_000_000_000)


def sum_of_integers(x, k):
    n = 9_000_000_000_000_000_000
    return x[0] * (n + n // 2)


def shift(x, k):
    return x[0] * (k << 62)


def integer_power(x, k):
    return x[0] * k**-1


def large_power(x, k):
    return x[0] * k**40


def hashed(x, k):
    h = x.size
    for _ in range(20):
        h = h * h + 1
    return x[0] * h


def quotient(x, k):
    return x[0] / (x[1] - x[1])


def root_of_negative(x, k):
    return math.sqrt(x[1])


def power_of_negative(x, k):
    return x[1] ** 0.5


def overflow(x, k):
    return np.exp(x[0] * 1e4)


def out_of_bounds(x, k):
    return x[k]


def float_into_integers(x, k):
    n = np.zeros(3, np.int64)
    n[0] = 1.5
    return x[0] * n[0]


def narrow(x, k):
    return x[0] * np.zeros(3, np.float32)[0]


def truths(x, k):
    return x[0] * np.zeros(3, np.bool_)[0]


def keys(x, k):
    return {0: x[0]}[0]


def comprehension(x, k):
    return np.array([v * v for v in x])[0]


def membership(x, k):
    return x[0] if k in (3, 4) else x[1]


def prints(x, k):
    print(x[0])
    return x[0]


def itself(x, k):
    return x[0] if k == 0 else itself(x, k - 1)


def raises(x, k):
    if x[0] > 0:
        raise ValueError("positive")
    return x[0]


def long(x, k):
    s = x[0]
    for i in range(100_000):
        s += x[i % k]
    return s


def long_without_records(x, k):
    n, s = 0, 1.0
    while s > 0.5:
        n += 1
        s = 1.0 - n * 1e-9
    return x[0] * n


REFUSED = [
    product_of_integers, sum_of_integers, shift, integer_power, large_power, hashed, quotient,
    root_of_negative, power_of_negative, overflow, out_of_bounds, float_into_integers, narrow, truths,
    keys, comprehension, membership, prints, itself, raises, long, long_without_records,
]  # fmt: skip


@pytest.mark.parametrize("function", REFUSED, ids=lambda f: f.__name__)
def test_other_meanings_are_left_to_the_compiler(function, capfd):
    """Whatever Python computes otherwise, or cannot, or not in the time."""
    arguments = x.copy(), 3_000_000
    assert interpreted(njit(function), arguments, DEFAULT_LIMIT) is None
    assert np.array_equal(arguments[0], x)
    assert capfd.readouterr().out == ""


def counted(x, k):
    i, j = 2, 3
    return x[0] * ((i < j) + (k > i)) + x[1] * (i // -j) + x[2] * (-7 % 3) + True * x[0]


def summed(x, k):
    s = 0
    for v in x:
        s += v
    return s / 2


MEANINGS = [counted, summed]


@pytest.mark.parametrize("function", MEANINGS, ids=lambda f: f.__name__)
def test_integers_and_truths_are_numbers(function):
    run = interpreted(njit(function), (x, 3), DEFAULT_LIMIT)
    found = run.tape.values[run.result.positions]
    np.testing.assert_allclose(found, [function(x.tolist(), 3)], rtol=1e-15)


def test_a_function_that_runs_again_and_again_is_compiled(monkeypatch):
    monkeypatch.setattr(module, "ALL_RUNS", 20)
    function = njit(summed)
    found = [interpreted(function, (x, 3), DEFAULT_LIMIT) is not None for _ in range(6)]
    assert found == [True] * found.count(True) + [False] * found.count(False)
    assert 1 < found.count(True) < 6


def test_a_tight_limit_is_left_to_the_compiler():
    assert interpreted(njit(summed), (x, 3), 1000) is None
