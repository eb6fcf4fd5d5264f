"""Cases for `nbhvp/trace/numpy/logic.py`: name, function, point."""

import numpy as np

from tests.cases.points import (
    VECTOR,
)

# fmt: off
CASES = [
    ("isclose", lambda x: np.isclose(x, x[0]) * x, VECTOR),
    ("isreal", lambda x: np.isreal(x) * x**2 + np.iscomplex(x + 1j * x) * x, VECTOR),
    ("truth values", lambda x: x**2 if np.allclose(x, x) and not (np.array_equal(x, x + 1) or np.array_equiv(x, x[:1])) else x, VECTOR),
]
# fmt: on
