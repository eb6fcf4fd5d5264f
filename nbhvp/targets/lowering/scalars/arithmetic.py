"""Arithmetic that operators of Python do not give, and numbers in two parts: a double and what its rounding lost."""

import math

import numpy as np

from nbhvp.targets.lowering.words import fma, muladd, select, written

ROUND = 1.5 * 2.0**52
"""The sum with it is a number rounded to an integer, which its low bits hold."""
EXPONENT = 0x3FF
"""That of 1, as the bits of a double have it above the lower 52."""


@written
def divide(x, y):
    """The quotient of complex numbers as NumPy computes it (Smith 1962): numba's own may raise."""
    if abs(y.real) >= abs(y.imag):
        if y == 0:
            return complex(x.real / abs(y.real), x.imag / abs(y.real))
        ratio = y.imag / y.real
        scale = 1.0 / (y.real + y.imag * ratio)
        return complex((x.real + x.imag * ratio) * scale, (x.imag - x.real * ratio) * scale)
    ratio = y.real / y.imag
    scale = 1.0 / (y.imag + y.real * ratio)
    return complex((x.real * ratio + x.imag) * scale, (x.imag * ratio - x.real) * scale)


@written
def maximum(x, y):
    """The larger, NaN if either is."""
    return x if (x >= y) | (x != x) else y


@written
def minimum(x, y):
    return x if (x <= y) | (x != x) else y


@written
def fmax(x, y):
    """The larger, the other one where one is NaN."""
    return x if (x >= y) | (y != y) else y


@written
def fmin(x, y):
    return x if (x <= y) | (y != y) else y


# What these are in a kernel depends on the dtypes of the arguments: `language` and `lower` say it.


def remainder(x, y):
    """The remainder with the sign of y."""
    return np.remainder(x, y)


def fmod(x, y):
    """The remainder with the sign of x."""
    return np.fmod(x, y)


def floor_divide(x, y):
    """The largest integer below the exact quotient, as NumPy rounds it."""
    return np.floor_divide(x, y)


@written
def remainder_of_floats(x, y):
    rest = np.fmod(x, y)
    return rest + (y if (rest != 0) & ((y < 0) != (rest < 0)) else 0.0)


@written
def floor_divide_floats(x, y):
    # numba's own is floor(x / y), where the quotient is rounded up to an integer at times.
    if y == 0:
        return x / y
    rest = np.fmod(x, y)
    quotient = (x - rest) / y
    if (rest != 0) & ((y < 0) != (rest < 0)):
        quotient -= 1
    floor = np.floor(quotient)
    if quotient - floor > 0.5:
        floor += 1
    return floor if quotient != 0 else math.copysign(0.0, x / y)


# Numbers in two parts.


def within(x, lowest, highest):
    """x between two bounds, NaN if it is."""
    x = select(x < lowest, lowest, x)
    return select(x > highest, highest, x)


def two_sum(x, y):
    """x + y and what its rounding lost, for |x| >= |y| or x = 0."""
    total = x + y
    return total, (x - total) + y


def quotient_in_parts(x, x_lost, y, y_lost):
    """(x + x_lost) / (y + y_lost) and what its rounding lost."""
    inverse = 1.0 / y
    z = x * inverse
    return z, (fma(-z, y, x) + muladd(-z, y_lost, x_lost)) * inverse


def quotient(x, x_lost, y, y_lost):
    """(x + x_lost) / (y + y_lost)."""
    z, lost = quotient_in_parts(x, x_lost, y, y_lost)
    return z + lost


def product_in_parts(x, x_lost, y, y_lost):
    """(x + x_lost) (y + y_lost) and what its rounding lost."""
    z = x * y
    return z, fma(x, y, -z) + muladd(x, y_lost, x_lost * y)
