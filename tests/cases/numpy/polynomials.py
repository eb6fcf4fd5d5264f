"""Cases for `nbhvp/trace/numpy/polynomials.py`: name, function, point."""

import numpy as np
import numpy.polynomial as npp

from tests.cases.points import (
    A34,
    POSITIVE,
    VECTOR,
)

CHEBYSHEV = npp.Chebyshev([1, 2, 3.0], domain=[-3, 3])

# fmt: off
CASES = [
    ("polyval", lambda x: np.polyval([1, -2, 0.5], x) + np.polyval(x, 0.3), VECTOR),
    ("polymul", lambda x: np.polymul(x, [1, 2.0])[1:] ** 2 + np.polyder(x, 2)[0], VECTOR),
    ("polyval of matrix", lambda x: np.polyval(x[:3], x[None] ** 2), VECTOR),
    ("polyadd", lambda x: np.polyadd(x, x[:3] ** 2) * np.polysub(x[:2], x**2), VECTOR),
    ("polyint", lambda x: np.polyint(x**2, 2, k=[1, 2])[1:] * np.polyint(x), VECTOR),
    ("polyfit", lambda x: np.polyfit(np.arange(6.0), x**2, 2, w=POSITIVE), VECTOR),
    ("poly1d", lambda x: np.poly1d([1, 2, 3.0])(x) ** 2, VECTOR),
    ("poly", lambda x: np.poly(x), VECTOR),
    ("polynomial", lambda x: npp.polynomial.polyval(x, [1, 2, 3.0]) * npp.polynomial.polyval(0.3, x), VECTOR),
    ("polynomial 2d", lambda x: npp.polynomial.polyval2d(x, x**2, A34) + npp.polynomial.polyvander(x, 3).sum(1), VECTOR),
    ("polynomial algebra", lambda x: npp.polynomial.polymul(x, x)[:5] * npp.polynomial.polyder(x) + npp.polynomial.polyint(x)[:5] ** 2, VECTOR),
    ("chebyshev", lambda x: npp.chebyshev.chebval(x, [1, 2, 3.0, 4]) + npp.chebyshev.chebval(x**2, x), VECTOR),
    ("legendre", lambda x: npp.legendre.legval(x, [1, 2, 3.0, 4]) + npp.legendre.legvander(x, 3)[:, 3] ** 2, VECTOR),
    ("hermite", lambda x: npp.hermite.hermval(x, [1, 2, 3.0, 4]) + npp.hermite_e.hermeval(x, [1, 2, 3.0]), VECTOR),
    ("laguerre", lambda x: npp.laguerre.lagval(x, [1, 2, 3.0, 4]), VECTOR),
    ("Polynomial", lambda x: npp.Polynomial([1, 2, 3.0])(x) + CHEBYSHEV(x) ** 2, VECTOR),
    ("Polynomial of x", lambda x: npp.Polynomial(x)(0.3) * npp.Chebyshev(x[:3], domain=[0, 3])(x), VECTOR),
    ("Legendre", lambda x: npp.Legendre(x).deriv()(0.3) * npp.Legendre([1, 2, 3.0]).integ()(x), VECTOR),
]
# fmt: on
