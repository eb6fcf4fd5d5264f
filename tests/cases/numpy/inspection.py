"""Cases for `nbhvp/trace/numpy/inspection.py`: name, function, point."""

import numpy as np

from tests.cases.points import (
    SQUARE,
)

# fmt: off
CASES = [
    ("triu_indices", lambda x: x[np.triu_indices_from(x)] ** 2, SQUARE),
]
# fmt: on
