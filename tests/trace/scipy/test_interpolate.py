"""Interpolants of scipy.interpolate: SciPy's values, and the first two derivatives of these."""

import numpy as np
import pytest
import scipy.interpolate as interpolate

import nbhvp
from nbhvp.errors import TraceError
from nbhvp.trace.record import record
from tests.cases.scipy.interpolate import FILLED, KINDS, KNOTS, PLANE, POINTS, SURFACE, VALUES, Y

REFUSALS = [
    ("knots", lambda x: interpolate.CubicSpline(np.cumsum(x), VALUES)(0.5), "knots"),
    ("values of Pchip", lambda x: interpolate.PchipInterpolator(KNOTS, x)(0.5), "Pchip"),
    ("values of Akima", lambda x: interpolate.Akima1DInterpolator(KNOTS, x)(0.5), "Akima"),
    ("periodic", lambda x: interpolate.CubicSpline(KNOTS, x, bc_type="periodic"), "periodic"),
    ("grid method", lambda x: SURFACE(x[:2], method="cubic"), "cubic"),
    ("scattered", lambda x: interpolate.griddata(PLANE, PLANE[:, 0], x[:2]), "griddata"),
    ("RBF", lambda x: interpolate.RBFInterpolator(PLANE, PLANE[:, 0])(x[None, :2]), "RBF"),
    ("roots", lambda x: interpolate.CubicSpline(KNOTS, x).roots(), "roots"),
]


@pytest.mark.parametrize(("fun", "words"), [c[1:] for c in REFUSALS], ids=[c[0] for c in REFUSALS])
def test_what_is_refused_says_so(fun, words):
    with pytest.raises(TraceError, match=words) as error:
        record(fun, Y, (), {})
    assert "test_interpolate.py" in str(error.value)


@pytest.mark.parametrize("spline", [KINDS["quadratic"], FILLED], ids=["interp1d", "filled"])
def test_points_may_move_between_pieces_without_a_new_trace(spline):
    f = nbhvp.differentiable(lambda x: np.sum(spline(x)), target="interpret")
    f(np.array([0.1, 0.2]))
    assert f(np.array([2.7, 0.5])) == pytest.approx(spline([2.7, 0.5]).sum(), rel=1e-13)
    assert f.report().traces == 1


def test_bounds_are_guarded():
    f = nbhvp.differentiable(lambda x: SURFACE(x)[0], target="interpret")
    f(PLANE[:1])
    with pytest.raises(ValueError, match="outside"):
        f(PLANE[:1] + 9)


def test_a_changed_spline_is_traced_anew():
    spline = interpolate.CubicSpline(KNOTS, VALUES)
    f = nbhvp.differentiable(lambda x: spline(x[0]), target="interpret")
    assert f(POINTS) == pytest.approx(spline(POINTS[0]), rel=1e-13)
    spline.c[-1] += 1
    assert f(POINTS[::-1]) == pytest.approx(spline(POINTS[-1]), rel=1e-13)
