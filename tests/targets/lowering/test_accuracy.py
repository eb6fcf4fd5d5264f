"""Elementary functions of kernels in units in the last place, against mpmath.

Points cover all exponents, the ranges in which a function is mostly used, the neighbourhoods of its
zeros and poles, and where it overflows or sinks below the normal numbers. At special points (zeros
of both signs, subnormals, infinities, NaN, the last arguments before an overflow) NumPy and SciPy
tell the value. Every loop is compiled as kernels are.
"""

import math

import mpmath
import numpy as np
import pytest
import scipy.special
from mpmath import mpf
from numba import njit

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Pool
from nbhvp.targets.lowering import scalars as elementary
from tests import checks, minimax

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.no_cover]

COUNT = 600
PI_2 = math.pi / 2


def rng():
    return np.random.default_rng(7)


def uniform(a, b):
    return lambda: rng().uniform(a, b, 3 * COUNT)


def octaves(a, b, sign=0):
    """Numbers of both signs (or one) with an exponent between a and b."""

    def draw():
        source = rng()
        signs = source.choice([-1, 1], COUNT) if sign == 0 else sign
        return signs * 2.0 ** source.uniform(a, b, COUNT)

    return draw


def around(*centers):
    """Relative distances of all sizes."""
    return lambda: np.concatenate([c * (1 + octaves(-53, -2)()) for c in centers])


def quarters():
    """What is nearest to multiples of pi / 2."""
    return np.rint(rng().uniform(-6e5, 6e5, 3 * COUNT)) * PI_2


ALL, POSITIVE = octaves(-1074, 1023), octaves(-1074, 1023, 1)
TRIG = (uniform(-1, 1), uniform(-10, 10), uniform(-(2**20), 2**20), octaves(-1074, 20), around(PI_2, 2 * PI_2), quarters)  # fmt: skip
HYPERBOLIC = (uniform(-1, 1), uniform(-25, 25), uniform(-710, 710), octaves(-1074, 9))
LOGS = (POSITIVE, uniform(0.5, 2), around(1.0, 2**-0.5, 2**0.5), octaves(-1074, -1000, 1))
ARC = (uniform(-1, 1), octaves(-1074, 0), around(0.5, -0.5), lambda: 1 - octaves(-53, -1, 1)(), lambda: octaves(-53, -1, 1)() - 1)  # fmt: skip

CASES = {  # the exact function, the bound, where
    "exp": (mpmath.exp, 1, (uniform(-1, 1), uniform(-700, 709), uniform(-745, -700), octaves(-1074, 9))),
    "exp2": (lambda x: mpf(2) ** x, 2, (uniform(-1, 1), uniform(-1000, 1023), uniform(-1074, -1000))),
    "expm1": (mpmath.expm1, 2, (uniform(-3, 3), uniform(-40, 700), octaves(-1074, 9))),
    "log": (mpmath.log, 1, LOGS),
    "log2": (lambda x: mpmath.log(x) / mpmath.ln(2), 2, LOGS),
    "log10": (mpmath.log10, 2, LOGS),
    "log1p": (mpmath.log1p, 2, (POSITIVE, uniform(-0.9, 2), octaves(-1074, -1), ARC[4])),
    "tanh": (mpmath.tanh, 2, HYPERBOLIC),
    "sinh": (mpmath.sinh, 2, HYPERBOLIC),
    "cosh": (mpmath.cosh, 2, HYPERBOLIC),
    "expit": (lambda x: 1 / (1 + mpmath.exp(-x)), 2, (*HYPERBOLIC, uniform(-745, -700))),
    "log_expit": (lambda x: -mpmath.log1p(mpmath.exp(-x)), 2, HYPERBOLIC),
    "logit": (lambda x: mpmath.log(x / (1 - x)), 2, (uniform(0, 1), octaves(-1000, 0, 1), lambda: 0.5 + octaves(-53, -2)(), around(0.25, 0.75))),
    "sin": (mpmath.sin, 2, TRIG),
    "cos": (mpmath.cos, 2, TRIG),
    "tan": (mpmath.tan, 2, TRIG),
    "cbrt": (lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)), 2, (ALL, uniform(-8, 8), around(1, 2**1.5))),
    "arctan": (mpmath.atan, 2, (ALL, uniform(-5, 5), around(1, 2**0.5 - 1, 2**0.5 + 1))),
    "arcsin": (mpmath.asin, 2, ARC),
    "arccos": (mpmath.acos, 2, ARC),
    "arcsinh": (mpmath.asinh, 2, (ALL, uniform(-3, 3), around(2.0**30, -1))),
    "arccosh": (mpmath.acosh, 2, (octaves(0, 1023, 1), uniform(1, 4), lambda: 1 + octaves(-52, 3, 1)(), around(2.0**30))),
    "arctanh": (mpmath.atanh, 2, ARC),
    "erf": (mpmath.erf, 2, (uniform(-1.5, 1.5), uniform(-6.5, 6.5), octaves(-1074, 3), around(1))),
}  # fmt: skip


def both(*draws):
    return lambda: tuple(draw() for draw in draws)


def turned(draw):
    """The same numbers in another order."""
    return lambda: rng().permutation(draw())


CASES_OF_TWO = {
    "arctan2": (mpmath.atan2, 2, (both(ALL, turned(ALL)), both(uniform(-3, 3), turned(uniform(-3, 3))), both(octaves(-1074, -1000), turned(octaves(-1074, -1000))), both(octaves(1000, 1023), turned(octaves(1000, 1023))))),
    "power": (mpmath.power, 2, (both(octaves(-2, 2, 1), turned(octaves(-1, 5))), both(POSITIVE, lambda: turned(uniform(-0.9, 0.9))()[:COUNT]), both(lambda: 1 + octaves(-52, -2)(), octaves(0, 10)), both(octaves(-3, 3, -1), lambda: np.rint(turned(octaves(0, 5))())), both(octaves(0, 1, 1), lambda: turned(uniform(-1020, 1020))()[:COUNT]))),
}  # fmt: skip


def compiled(name, count):
    """The function along arrays, in one vector loop."""
    f = getattr(elementary, name)
    options = dict(error_model="numpy", fastmath={"contract"})
    if count == 1:

        @njit(**options)
        def loop(z, x):
            for i in range(z.size):
                z[i] = f(x[i])
    else:

        @njit(**options)
        def loop(z, x, y):
            for i in range(z.size):
                z[i] = f(x[i], y[i])

    def applied(*xs):
        z = np.empty(xs[0].size)
        loop(z, *xs)
        return z

    return applied


def ulps(given: float, exact) -> float:
    """The error in units in the last place of the exact value."""
    rounded = float(exact)
    if not (math.isfinite(rounded) and math.isfinite(given)):
        return 0.0 if rounded == given else math.inf
    exponent = mpmath.frexp(exact)[1] if exact else -1074
    return float(abs(mpf(given) - exact) / mpf(2) ** max(exponent - 53, -1074))


def worst(applied, exact, *xs):
    """The largest error, and where."""
    rows = zip(applied(*xs), *xs, strict=True)
    with mpmath.workdps(50):
        return max((ulps(z, exact(*map(mpf, map(float, x)))), *map(float, x)) for z, *x in rows)


@pytest.mark.compiles
@pytest.mark.parametrize("name", CASES)
def test_accuracy(name):
    exact, bound, draws = CASES[name]
    error, x = worst(compiled(name, 1), exact, np.concatenate([draw() for draw in draws]))
    assert error <= bound, f"{error:.2f} ulp at {x!r}"


@pytest.mark.compiles
@pytest.mark.parametrize("name", CASES_OF_TWO)
def test_accuracy_of_two_arguments(name):
    exact, bound, draws = CASES_OF_TWO[name]
    xs = [np.concatenate(parts) for parts in zip(*(draw() for draw in draws), strict=True)]
    error, *at = worst(compiled(name, 2), exact, *xs)
    assert error <= bound, f"{error:.2f} ulp at {at}"


def test_the_measure_sees_an_error():
    exact = mpf("1.1")
    assert ulps(1.1, exact) < 0.5
    assert 2 < ulps(np.nextafter(np.nextafter(np.nextafter(1.1, 2), 2), 2), exact) < 4
    assert ulps(math.inf, exact) == ulps(math.nan, exact) == math.inf


EDGES = [
    0.0, 5e-324, 1e-310, 2.2250738585072014e-308, 0.5, 1.0, 2.0, 3.0, 36.7, 709.782712893384,
    709.7827128933841, 710.475860073944, 745.1332191019411, 745.1332191019412, 1024.0, 1074.0, 1075.5,
    2.0**20, 1e22, 2.0**52 + 1, 2.0**53, 1.7976931348623157e308, math.inf,
]  # fmt: skip
EDGES = np.array([*EDGES, *(-x for x in EDGES), math.nan])
TOLERANCE = 3e-16
VANISHES = {"expit": -709.7}  # SciPy's, below the normal numbers
LIBRARY = {"expit": scipy.special.expit, "log_expit": scipy.special.log_expit, "logit": scipy.special.logit, "erf": scipy.special.erf}  # fmt: skip


@pytest.mark.compiles
@pytest.mark.parametrize("name", [*CASES, *CASES_OF_TWO])
def test_edges(name):
    """Values and signs; the bodies as plain Python too."""
    count = 1 if name in CASES else 2
    xs = [m.ravel() for m in np.meshgrid(*[EDGES] * count)]
    xs = [x[~(x < VANISHES.get(name, -math.inf))] for x in xs]
    with np.errstate(all="ignore"):
        needed = LIBRARY.get(name, getattr(np, name, None))(*xs)
    body = getattr(elementary, name)
    plain = np.array([body(*x) for x in zip(*xs, strict=True)])
    for given in (compiled(name, count)(*xs), plain):
        np.testing.assert_allclose(given, needed, TOLERANCE, 5e-324)
        signs = np.isnan(needed) | (np.signbit(given) == np.signbit(needed))
        assert signs.all(), [x[~signs] for x in xs]


@pytest.mark.parametrize("name", minimax.FITS)
def test_polynomials(name):
    with mpmath.workdps(50):
        assert minimax.error(name) < -minimax.FITS[name][-1]


def test_the_fit_finds_what_is_in_use():
    with mpmath.workdps(50):
        np.testing.assert_allclose(
            minimax.fit(*minimax.FITS["_CBRT"]), minimax.in_use("_CBRT"), 1e-3
        )


@pytest.mark.compiles
def test_powers_that_are_square_roots():
    """Within 1.5 units in the last place of NumPy's, and where these are none or infinite."""
    rng = np.random.default_rng(0)
    x = np.concatenate([10.0 ** rng.uniform(-200, 200, 500), [0.0, np.inf, np.nan, -1.0, 1.0]])
    pool = Pool()
    node = p.input_node(pool, "x", x.shape, "f8")
    exponents = (1.5, -0.5, -1.5)
    graph = Graph((node,), tuple(p.power(node, e) for e in exponents))
    for found, exponent in zip(checks.compiled(graph, x), exponents, strict=True):
        with np.errstate(all="ignore"):
            needed = np.power(x, exponent)
        np.testing.assert_allclose(found, needed, rtol=1.5 * np.finfo(float).eps)
