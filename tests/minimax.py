"""Where the coefficients in `nbhvp.targets.lowering.scalars` come from: `python tests/minimax.py`.

Each is the polynomial whose weighted error is least on an interval, found by Remez's exchange in 50
digits, then rounded. The weight makes the error relative to what the function returns, with a floor
where that would vanish. `FITS` tells degree, interval, function and weight; `error` measures what
rounding has left, as a test does.
"""

import mpmath
from mpmath import mpf

from nbhvp.targets.lowering.scalars import circular, exponentials, logarithms, powers, special

TINY = mpf("1e-9")


def series(term, count=60):
    return lambda x: mpmath.fsum(term(k) * x**k for k in range(count))


def _floor(power, least):
    return lambda x: abs(x) ** power + mpf(least)


def _erfc_weight(u):
    return mpmath.erfc(1 + u) / mpmath.erf(1 + u) + mpf("1e-18")


SMALL, SQUARE = mpmath.log(2) / 2, (3 - mpmath.sqrt(8)) ** 2
FITS = {  # name: degree, from, to, function, weight, bits that the error is below
    "_EXP": (10, -SMALL, SMALL, series(lambda k: 1 / mpmath.factorial(k + 2)), _floor(2, 1e-4), 57),
    "_LOG": (6, 0, SQUARE, series(lambda k: mpf(2) / (2 * k + 3)), _floor(1, 1e-5), 57),
    "_LOG_LONG": (6, 0, SQUARE, series(lambda k: mpf(2) / (2 * k + 5)), _floor(2, 1e-6), 64),
    "_SINH": (4, 0, SMALL**2, series(lambda k: 1 / mpmath.factorial(2 * k + 3)), _floor(1, 1e-4), 57),
    "_COSH": (4, 0, SMALL**2, series(lambda k: 1 / mpmath.factorial(2 * k + 4)), _floor(2, 1e-5), 57),
    "_SIN": (5, 0, mpmath.pi**2 / 16, series(lambda k: (-1) ** (k + 1) / mpmath.factorial(2 * k + 3)), _floor(1, 1e-4), 57),
    "_COS": (5, 0, mpmath.pi**2 / 16, series(lambda k: (-1) ** k / mpmath.factorial(2 * k + 4)), _floor(2, 1e-5), 57),
    "_ARCTAN": (10, 0, 3 - mpmath.sqrt(8), series(lambda k: mpf(-1) ** (k + 1) / (2 * k + 3), 90), _floor(1, 1e-4), 57),
    "_ARCSIN": (12, 0, mpf(1) / 4, series(lambda k: mpmath.binomial(2 * k + 2, k + 1) / 4 ** (k + 1) / (2 * k + 3), 130), _floor(1, 1e-4), 57),
    "_CBRT": (5, mpf(2) ** -1.5, mpf(2) ** 1.5, lambda x: 1 / mpmath.cbrt(x), mpmath.cbrt, 8),
    "_ERF_SMALL": (11, TINY, 1, lambda x: mpmath.erf(mpmath.sqrt(x)) / mpmath.sqrt(x) - 1, lambda x: mpf(1), 54),
    "_ERFC_LARGE": (17, 0, 5, lambda u: mpmath.log(mpmath.erfc(1 + u)), _erfc_weight, 53),
}  # fmt: skip


def points(a, b, count):
    """Chebyshev's, which lie densest at the ends."""
    return [
        (a + b) / 2 - (b - a) / 2 * mpmath.cos(mpmath.pi * (k + mpf(0.5)) / count)
        for k in range(count)
    ]


def in_use(name: str) -> tuple[float, ...]:
    """The coefficients of that name."""
    fields = (exponentials, logarithms, circular, powers, special)
    return next(vars(field)[name] for field in fields if name in vars(field))


def error(name: str, count: int = 101) -> float:
    """The largest weighted error of the coefficients in use, in bits."""
    _, a, b, function, weight, _ = FITS[name]
    coefficients = [mpf(c) for c in in_use(name)]
    errors = (
        weight(x) * abs(_polynomial(coefficients, x) - function(x)) for x in points(a, b, count)
    )
    return float(mpmath.log(max(errors), 2))


def fit(degree, a, b, function, weight, *_, dense=501, rounds=20) -> list[float]:
    """The coefficients of least weighted error, by exchanging extrema of the error."""
    middle, half, size = (a + b) / mpf(2), (b - a) / mpf(2), degree + 2
    grid = points(a, b, dense)
    values, weights = [function(x) for x in grid], [weight(x) for x in grid]
    chosen = [round((k + 0.5) * dense / size - 0.5) for k in range(size)]
    for _ in range(rounds):
        rows = [
            [((grid[j] - middle) / half) ** k for k in range(degree + 1)] + [(-1) ** i / weights[j]]
            for i, j in enumerate(chosen)
        ]
        scaled = list(mpmath.lu_solve(mpmath.matrix(rows), [values[j] for j in chosen]))[:-1]
        errors = [
            w * (_polynomial(scaled, (x - middle) / half) - y)
            for x, y, w in zip(grid, values, weights, strict=True)
        ]
        extrema = _extrema(errors)
        while len(extrema) > size:
            extrema.pop(0 if abs(errors[extrema[0]]) < abs(errors[extrema[-1]]) else -1)
        if extrema == chosen or len(extrema) < size:
            break
        chosen = extrema
    return [float(c) for c in mpmath.taylor(lambda x: _polynomial(scaled, (x - middle) / half), 0, degree)]  # fmt: skip


def _polynomial(coefficients, x):
    """The value at x, coefficients from that of 1 on: mpmath's order depends on its version."""
    total = mpf(0)
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total


def _extrema(errors) -> list[int]:
    """Where the error is largest, between one change of its sign and the next."""
    runs: list[list[int]] = []
    for k, e in enumerate(errors):
        if runs and (e > 0) == (errors[runs[-1][0]] > 0):
            runs[-1].append(k)
        else:
            runs.append([k])
    return [max(run, key=lambda k: abs(errors[k])) for run in runs]


if __name__ == "__main__":
    mpmath.mp.dps = 50
    for name, terms in FITS.items():
        print(f"{name}  # 2^{error(name):.1f}\n    {', '.join(map(repr, fit(*terms)))}")
