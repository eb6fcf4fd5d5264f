"""Cases for `nbhvp/trace/scipy/interpolate.py`: name, function, point."""

import numpy as np
import scipy.interpolate as interpolate

KNOTS = np.array([0.0, 0.4, 1.1, 1.5, 2.3, 3.0])
RNG = np.random.default_rng(20250111)
VALUES = RNG.normal(size=6)
TABLE = RNG.normal(size=(2, 6, 3))
POINTS = np.array([0.17, 2.71, 1.27, 1.43, 0.93])
OUTSIDE = np.array([-0.37, 0.2, 1.3, 3.6])
PLANE = np.array([[0.13, 0.3], [1.27, 1.7], [2.71, 1.1], [1.43, 0.6]])
Y = RNG.uniform(0.5, 2.0, 6)
GRID = (KNOTS, np.array([0.0, 0.5, 1.2, 2.0]))
HEIGHTS = RNG.normal(size=(6, 4))
PERIODIC = np.append(VALUES[:-1], VALUES[0])

CUBIC = interpolate.CubicSpline(KNOTS, VALUES)
NATURAL = interpolate.CubicSpline(KNOTS, TABLE, axis=1, bc_type="natural")
TURNING = interpolate.CubicSpline(KNOTS, PERIODIC, bc_type="periodic")
BOUNDED = interpolate.CubicSpline(KNOTS, VALUES, extrapolate=False)
PCHIP = interpolate.PchipInterpolator(KNOTS, VALUES)
AKIMA = interpolate.Akima1DInterpolator(KNOTS, TABLE, axis=1, extrapolate=True)
HERMITE = interpolate.CubicHermiteSpline(KNOTS, VALUES, VALUES[::-1])
QUINTIC = interpolate.make_interp_spline(KNOTS, VALUES, k=5)
SMOOTHING = interpolate.make_smoothing_spline(KNOTS, VALUES, lam=0.01)
LEAST_SQUARES = interpolate.make_lsq_spline(KNOTS, TABLE, [0, 0, 0, 1, 3, 3, 3], k=2, axis=1)
STEPPED = interpolate.PPoly(np.array([[1.0, -2], [3, 4]]), [0, 1, 3.0])
FITTED = interpolate.UnivariateSpline(KNOTS, VALUES, s=0.1)
EXTENDED = [interpolate.UnivariateSpline(KNOTS, VALUES, k=2, ext=ext) for ext in (0, 1, 3)]
TCK = interpolate.splrep(KNOTS, VALUES)
KROGH = interpolate.KroghInterpolator(KNOTS, TABLE, axis=1)
BARYCENTRIC = interpolate.BarycentricInterpolator(KNOTS, VALUES)
LINEAR = interpolate.interp1d(KNOTS, TABLE, axis=1, fill_value="extrapolate")
FILLED = interpolate.interp1d(KNOTS, VALUES, bounds_error=False, fill_value=(-1.0, 2.0))
SURFACE = interpolate.RegularGridInterpolator(GRID, HEIGHTS)
OPEN = interpolate.RegularGridInterpolator(GRID, HEIGHTS, bounds_error=False, fill_value=None)
VECTORS = interpolate.RegularGridInterpolator(GRID, np.stack([HEIGHTS, HEIGHTS**2], -1))
NEAREST = interpolate.RegularGridInterpolator(GRID, HEIGHTS, method="nearest")


def kind(name, **options):
    options = {"fill_value": "extrapolate"} | options
    return interpolate.interp1d(KNOTS, VALUES, kind=name, **options)


KINDS = {
    name: kind(name)
    for name in (
        "zero",
        "slinear",
        "quadratic",
        "cubic",
        "nearest",
        "nearest-up",
        "previous",
        "next",
    )
}

# fmt: off
CASES = [
    ("CubicSpline", lambda x: CUBIC(x) ** 2, POINTS),
    ("CubicSpline of a matrix", lambda x: CUBIC(np.outer(x, [0.3, 1])) ** 2, POINTS),
    ("CubicSpline of a number", lambda x: CUBIC(x[0]) ** 2, POINTS),
    ("CubicSpline outside", lambda x: CUBIC(x) ** 2 + CUBIC(x, 1), OUTSIDE),
    *((f"CubicSpline derivative {nu}", lambda x, nu=nu: CUBIC(x, nu) * x**2, POINTS) for nu in (1, 2, 3, 4)),
    ("CubicSpline axis", lambda x: NATURAL(x) ** 2, POINTS),
    ("CubicSpline axis, matrix", lambda x: NATURAL(np.outer(x, [0.3, 1])) ** 2, POINTS[:2]),
    ("CubicSpline periodic", lambda x: TURNING(x) ** 2, OUTSIDE),
    ("CubicSpline bounded", lambda x: np.nan_to_num(BOUNDED(x)) ** 2, OUTSIDE),
    ("extrapolate", lambda x: BOUNDED(x, extrapolate=True) ** 2, OUTSIDE),
    ("derivative", lambda x: CUBIC.derivative()(x) ** 2 + CUBIC.derivative(2)(x), POINTS),
    ("antiderivative", lambda x: CUBIC.antiderivative()(x) ** 2 + NATURAL.antiderivative(2)(x)[0, :, 0], POINTS),
    ("integrate", lambda x: CUBIC.integrate(x[0], x[1] * 1.2) ** 2, POINTS),
    ("PchipInterpolator", lambda x: PCHIP(x) ** 2, POINTS),
    ("Akima1DInterpolator", lambda x: AKIMA(x) ** 2, POINTS),
    ("CubicHermiteSpline", lambda x: HERMITE(x) ** 2, OUTSIDE),
    ("PPoly", lambda x: STEPPED(x) ** 2, POINTS),
    ("BSpline", lambda x: QUINTIC(x) ** 2 + QUINTIC(x, nu=2), POINTS),
    ("BSpline outside", lambda x: QUINTIC(x) ** 2, OUTSIDE),
    ("BSpline derivative", lambda x: QUINTIC.derivative()(x) ** 2, POINTS),
    ("make_smoothing_spline", lambda x: SMOOTHING(x) ** 2, POINTS),
    ("make_lsq_spline", lambda x: LEAST_SQUARES(x) ** 2, POINTS),
    ("splev", lambda x: interpolate.splev(x, TCK) ** 2 + interpolate.splev(x, TCK, der=1), POINTS),
    ("UnivariateSpline", lambda x: FITTED(x) ** 2 + FITTED(x, nu=1), POINTS),
    ("UnivariateSpline.derivative", lambda x: FITTED.derivative()(x) ** 2, POINTS),
    *((f"UnivariateSpline ext {s.ext}", lambda x, s=s: s(x) ** 2, OUTSIDE) for s in EXTENDED),
    ("KroghInterpolator", lambda x: KROGH(x) ** 2, POINTS),
    ("BarycentricInterpolator", lambda x: BARYCENTRIC(x) ** 2, POINTS),
    ("interp1d", lambda x: LINEAR(x) ** 2, POINTS),
    ("interp1d outside", lambda x: LINEAR(x) ** 2, OUTSIDE),
    ("interp1d filled", lambda x: FILLED(x) ** 2, OUTSIDE),
    *((f"interp1d {name}", lambda x, s=s: s(x) * x**2, POINTS) for name, s in KINDS.items()),
    ("RegularGridInterpolator", lambda x: SURFACE(x) ** 2, PLANE),
    ("RegularGridInterpolator of a tuple", lambda x: SURFACE((x[:, :1], x[:, 1])) ** 2, PLANE),
    ("RegularGridInterpolator outside", lambda x: OPEN(3 * x - 2) ** 2, PLANE),
    ("RegularGridInterpolator of vectors", lambda x: VECTORS(x) ** 2, PLANE),
    ("RegularGridInterpolator nearest", lambda x: NEAREST(x) * x[:, 0] ** 2, PLANE),
    ("interpn", lambda x: interpolate.interpn(GRID, HEIGHTS, x) ** 2, PLANE),
    # Values that depend on x.
    ("CubicSpline of values", lambda x: interpolate.CubicSpline(KNOTS, x)(POINTS) ** 2, Y),
    ("CubicSpline of all", lambda x: interpolate.CubicSpline(KNOTS, x, bc_type="clamped")(x) ** 2, Y),
    ("CubicSpline of columns", lambda x: interpolate.CubicSpline(KNOTS[:4], x.reshape(1, 4, 2), axis=1)(POINTS, 1) ** 2, PLANE),
    ("integral of values", lambda x: interpolate.CubicSpline(KNOTS, x).integrate(0.2, x[0]) ** 2, Y),
    ("make_interp_spline of values", lambda x: interpolate.make_interp_spline(KNOTS, x, 2)(POINTS) ** 2, Y),
    ("BSpline of coefficients", lambda x: interpolate.BSpline([0, 0, 0, 1, 2, 2.5, 3, 3, 3], x, 2)(POINTS) ** 2, Y),
    ("derivative of coefficients", lambda x: interpolate.BSpline([0, 0, 0, 1, 2, 2.5, 3, 3, 3], x, 2).derivative()(x) ** 2, Y),
    ("PPoly of coefficients", lambda x: interpolate.PPoly(x.reshape(3, 2), [0, 1, 3.0])(POINTS) ** 2, Y),
    ("interp1d of values", lambda x: interpolate.interp1d(KNOTS[::-1], x)(POINTS) ** 2, Y),
    ("interp1d steps of values", lambda x: interpolate.interp1d(KNOTS, x, "previous")(POINTS) ** 2, Y),
    ("RegularGridInterpolator of values", lambda x: interpolate.RegularGridInterpolator((KNOTS[:4], [0, 2.0]), x)(PLANE[:2]) ** 2, PLANE),
]
# fmt: on
