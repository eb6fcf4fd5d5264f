"""Points at which the cases are tested, and constants and functions that several of them share."""

import numpy as np

RNG = np.random.default_rng(20240607)
VECTOR = RNG.normal(size=6)
MATRIX = RNG.normal(size=(3, 4))
SQUARE = RNG.normal(size=(3, 3))
CUBE = RNG.normal(size=(2, 3, 4))
HUNDREDTHS = np.array([0.12, -0.43, 1.31, -1.68, 0.07, 2.24])
POSITIVE = RNG.uniform(0.4, 2.0, 6)
A43, A34, A6 = RNG.normal(size=(4, 3)), RNG.normal(size=(3, 4)), RNG.normal(size=6)
MASK, MASK34 = np.array([1, 0, 1, 1, 0, 1], bool), RNG.normal(size=(3, 4)) > -0.5


def written_by(method):
    """A function that lets `method` write into a copy of x, with x beside it."""

    def fun(x):
        y = x * x
        method(y, x)
        return y

    return fun
