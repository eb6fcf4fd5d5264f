"""Short runs of compiled functions, recorded by Python: they are those of the compiled recorder.

`test_loops` holds both to the functions themselves. Here is what Python must leave to the compiler.
"""

import cmath
import math

import numpy as np
import pytest
from numba import njit

from nbhvp.loops.recording import interpreted as module
from nbhvp.loops.recording.interpreted import interpreted
from nbhvp.loops.recording.record import DEFAULT_LIMIT

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


def complex_arithmetic(x, k):
    c = 0.3 * x[0] + 1j * x[1]
    z, total = 0j, 0.0
    for i in range(k):
        z = z * z + c
        w = (1.0 + 2j) / (z + 2.0) - x[i] / (z - 3j) - (3.0 - z) + 2j * i
        w *= c + 1
        for power in (z**2, z**-3, w**0.5, (2.0 + 0.1j) ** z, z**w, -w, w.conjugate(), 2.0**w):
            total += power.real * power.imag
        if z != w and z != c + 1.0:
            total += abs(w) + np.abs(z) + complex(x[i], 0.5).imag + complex(w).real
    return total


def complex_functions(x, k):
    total = 0.0
    for i in range(k):
        z = complex(x[i], 0.4) * 0.8
        for w in (
            cmath.exp(z), cmath.log(z), cmath.sqrt(z), cmath.sqrt(-z), cmath.sin(z), cmath.cos(z),
            cmath.tan(z), cmath.sinh(z), cmath.cosh(z), cmath.tanh(z), np.arcsin(z), np.arccos(z),
            np.arctan(z), np.arcsinh(z), np.arccosh(z), np.arctanh(z), np.log10(z), np.conj(z),
            cmath.sqrt(x[i]),
        ):  # fmt: skip
            total += w.real * w.imag + cmath.phase(w)
    return total


def vectors(x, k):
    d = x - np.array([1.0, 2.0, 3.0])
    n = np.cross(d, x)
    d[1:] *= 2.0
    return np.dot(n, d) + d @ x + x.sum() + np.exp(-d).mean() + np.std(d) + max(d[0], 0.0, n[1])


MEANINGS = [counted, summed, complex_arithmetic, complex_functions, vectors]


@pytest.mark.parametrize("function", MEANINGS, ids=lambda f: f.__name__)
def test_numbers_mean_what_they_do_compiled(function):
    given = x if function is vectors else x.tolist()
    run = interpreted(njit(function), (x, 3), DEFAULT_LIMIT)
    found = run.tape.values[run.result.positions]
    np.testing.assert_allclose(found, [function(given, 3)], rtol=1e-13)


def test_a_function_that_runs_again_and_again_is_compiled(monkeypatch):
    monkeypatch.setattr(module, "ALL_RUNS", 20)
    function = njit(summed)
    found = [interpreted(function, (x, 3), DEFAULT_LIMIT) is not None for _ in range(6)]
    assert found == [True] * found.count(True) + [False] * found.count(False)
    assert 1 < found.count(True) < 6


def test_a_tight_limit_is_left_to_the_compiler():
    assert interpreted(njit(summed), (x, 3), 1000) is None
