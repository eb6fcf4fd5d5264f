"""Cases for `nbhvp/trace/scipy/integrate.py`: name, function, point."""

import numpy as np
import scipy.integrate

from tests.cases.points import (
    A43,
    MATRIX,
    POSITIVE,
    VECTOR,
)

# fmt: off
CASES = [
    ("trapezoid of SciPy", lambda x: scipy.integrate.trapezoid(x**2, x, axis=0), MATRIX),
    ("cumulative_trapezoid", lambda x: scipy.integrate.cumulative_trapezoid(x**2, dx=0.3), VECTOR),
    ("cumulative_trapezoid x", lambda x: scipy.integrate.cumulative_trapezoid(x, np.cumsum(x**2, 0), axis=0, initial=0), MATRIX),
    *((f"simpson {n}", lambda x, n=n: scipy.integrate.simpson(x[:n] ** 2, dx=x[0]), POSITIVE) for n in (2, 3, 4, 5, 6)),
    *((f"simpson x {n}", lambda x, n=n: scipy.integrate.simpson(x[:n], np.cumsum(x[:n] ** 2)), POSITIVE) for n in (2, 3, 4, 5, 6)),
    ("simpson axis", lambda x: scipy.integrate.simpson(x**2, x=[0, 1, 3], axis=0), MATRIX),
    *((f"cumulative_simpson {n}", lambda x, n=n: scipy.integrate.cumulative_simpson(x[:n] ** 2, dx=0.3), POSITIVE) for n in (2, 3, 4, 5, 6)),
    ("cumulative_simpson x", lambda x: scipy.integrate.cumulative_simpson(x, x=np.cumsum(x**2, 0), axis=0, initial=1.0), A43),
    ("romb", lambda x: scipy.integrate.romb(x[:5] ** 2, dx=x[0]), POSITIVE),
    ("fixed_quad", lambda x: scipy.integrate.fixed_quad(lambda t: np.sin(t * x[0]) * x[1], 0, 1.0)[0], POSITIVE),
]
# fmt: on
