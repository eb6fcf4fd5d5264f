"""Cases of the functions that are answered: rows of a name, a function and a point.

`tests/cases/numpy/reductions.py` holds those of `nbhvp/trace/numpy/reductions.py`, and so on. From
each row the value, the gradient and products are tested, see `tests.checks.assert_composition`.
Functions that mpmath has are in `tests/cases/mpmath`, where a row has that function as well.
"""

import importlib
from pathlib import Path

import pytest

__all__ = ["PARAMETERS"]

HERE = Path(__file__).parent
PATHS = [*HERE.glob("numpy/*.py"), *HERE.glob("scipy/*.py")]
CHAPTERS = sorted(path.relative_to(HERE).with_suffix("").parts for path in PATHS)


def _rows():
    for library, chapter in CHAPTERS:
        module = importlib.import_module(f"{__name__}.{library}.{chapter}")
        for name, fun, x in module.CASES:
            yield pytest.param(fun, x, id=f"{library}.{chapter}: {name}")


PARAMETERS = list(_rows())
"""A function and a point each, with the chapter and the name of the case."""
