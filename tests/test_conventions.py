"""The tables of docs/conventions.md, row by row: derivatives at kinks, ties, and far out.

Interpreted one by one; compiled some at once, as one function of the points end to end.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.interpolate as interpolate
import scipy.special as special
import scipy.stats as stats

import nbhvp

pytestmark = pytest.mark.usefixtures("unsplit")

PAGE = Path(__file__).parents[1] / "docs" / "conventions.md"
NAMES = {
    "np": np, "math": math, "special": special, "stats": stats, "interpolate": interpolate,
    "nan": np.nan, "inf": np.inf,
}  # fmt: skip


def rows() -> list[tuple]:
    """The function, x, gradient and product of each row; an empty product is left open."""
    found = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("| ").split(" | ")]
        if line.startswith("| `"):
            expression, x, gradient, *product = cells
            fun = eval(f"lambda x: {expression}", dict(NAMES))
            x, gradient = (np.array(eval(cell, NAMES), float) for cell in (x, gradient))
            product = np.array(eval(product[0], NAMES), float) if product and product[0] else None
            found.append((f"{expression} at {cells[1]}", fun, x, gradient, product))
    return found


ROWS = rows()


def test_the_page_has_its_rows():
    assert len(ROWS) > 70


def assert_equal(given, needed):
    np.testing.assert_allclose(given, needed, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("fun", "x", "gradient", "product"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS]
)
def test_row(fun, x, gradient, product):
    f = nbhvp.differentiable(lambda x: np.sum(fun(x)), target="interpret")
    assert_equal(f.grad(x), gradient)
    if product is not None:
        for mode in ("forward-over-reverse", "reverse-over-forward", "reverse-over-reverse"):
            assert_equal(f.hvp(x, np.ones(x.shape), mode=mode), product)


@pytest.mark.compiles
@pytest.mark.no_cover
def test_rows_compiled():
    """Every sixth; rows with infinities or NaN are left out, for they would spoil the others."""
    finite = [row for row in ROWS if np.isfinite(row[3]).all() and not np.isnan(row[2]).any()]
    chosen = finite[::6]
    starts = np.cumsum([0, *(row[2].size for row in chosen)]).tolist()

    def joint(x):
        total = 0.0
        for (_, fun, at, *_), start in zip(chosen, starts, strict=False):
            total += np.sum(fun(x[start : start + at.size].reshape(at.shape)))
        return total

    f = nbhvp.differentiable(joint)
    x = np.concatenate([row[2].ravel() for row in chosen])
    grad, product = f.grad(x), f.hvp(x, np.ones(x.size))
    for (name, _, at, gradient, second), start in zip(chosen, starts, strict=False):
        part = slice(start, start + at.size)
        np.testing.assert_allclose(grad[part], gradient.ravel(), 1e-12, 1e-12, err_msg=name)
        if second is not None and np.isfinite(second).all():
            np.testing.assert_allclose(product[part], second.ravel(), 1e-12, 1e-12, err_msg=name)
