"""Interpolants of scipy.interpolate, evaluated at traced points through their coefficients.

Splines in one variable become pieces: on [x_i, x_{i+1}), with s = t - x_i,

    S(t) = sum_m c[m, i] s^(k - m),

where i is an integer node (a search, no guard) and the coefficients are gathered, so that points may
move between pieces without a new trace. Derivatives and antiderivatives are other coefficients. At
a breakpoint the piece to the right counts, at the last one the piece to the left.

Knots and points of data are constants. Values may depend on x where the interpolant is linear in
them (CubicSpline, make_interp_spline, BSpline, PPoly, interp1d, RegularGridInterpolator): then the
coefficients of unit vectors are the matrix that gives those of any values.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.interpolate as interpolate

from nbhvp.trace.answers import answers, refuses
from nbhvp.trace.arrays import Traced, is_constant, lift, trace_error
from nbhvp.trace.kinds import LibraryObject
from nbhvp.trace.numpy.elementwise import floating, where
from nbhvp.trace.numpy.manipulation.selections import gather
from nbhvp.trace.numpy.manipulation.shapes import concatenate, moveaxis, part, reshape
from nbhvp.trace.numpy.products import tensordot
from nbhvp.trace.numpy.reductions import any_
from nbhvp.trace.numpy.sequences import cumsum, searchsorted

__all__: list[str] = []


@dataclass(frozen=True, eq=False)
class Pieces:
    """A piecewise polynomial: breakpoints, and rows of coefficients, the highest power first."""

    breaks: np.ndarray
    rows: list
    """One per power, of shape (pieces, ...): the axes of the values come after the first."""
    axis: int = 0
    """Where the axes of the points stand among those of the values."""
    extrapolate: bool | str = True

    def __call__(self, points, extrapolate=None):
        points = floating(lift(points))
        mode = self.extrapolate if extrapolate is None else extrapolate
        first, last = self.breaks[0], self.breaks[-1]
        if mode == "periodic":
            points = first + (points - first) % (last - first)
        count = self.breaks.size - 1
        piece = np.clip(searchsorted(self.breaks, points, "right") - 1, 0, count - 1)
        rows = [gather(row, piece) for row in self.rows]
        trailing = rows[0].ndim - points.ndim
        offset = points - gather(lift(self.breaks), piece)
        offset = reshape(offset, offset.shape + (1,) * trailing)
        result = rows[0] + 0 * offset
        for row in rows[1:]:
            result = result * offset + row
        if mode is False or mode is np.False_:
            outside = (points < first) | (points > last)
            result = where(reshape(outside, offset.shape), math.nan, result)
        to = range(self.axis, self.axis + points.ndim)
        return moveaxis(result, range(points.ndim), to)

    def derivative(self, nu: int) -> Pieces:
        """The nu-th derivative; a negative nu means an antiderivative."""
        pieces = self
        for _ in range(nu):
            powers = range(len(pieces.rows) - 1, 0, -1)
            rows = [k * row for k, row in zip(powers, pieces.rows[:-1], strict=True)]
            pieces = replace(pieces, rows=rows or [0 * pieces.rows[0]])
        for _ in range(-nu):
            pieces = pieces._antiderivative()
        return pieces

    def _antiderivative(self) -> Pieces:
        """Continuous, and 0 at the first breakpoint."""
        powers = range(len(self.rows), 0, -1)
        rows = [lift(row) / k for k, row in zip(powers, self.rows, strict=True)]
        steps = np.diff(self.breaks).reshape(-1, *(1,) * (rows[0].ndim - 1))
        whole = sum(row * steps**k for k, row in zip(powers, rows, strict=True))
        starts = concatenate([0 * part(whole, 0, 0, 1), cumsum(part(whole, 0, 0, -1), 0)], 0)
        extrapolate = False if self.extrapolate == "periodic" else self.extrapolate
        return replace(self, rows=[*rows, starts], extrapolate=extrapolate)

    def transformed(self, values) -> Pieces:
        """Pieces for unit vectors as values, turned into those of values (their axis first)."""
        return replace(self, rows=[tensordot(row, values, 1) for row in self.rows])


@answers(
    interpolate.PPoly,
    interpolate.BSpline,
    interpolate.UnivariateSpline,
    note="traced points of evaluation; so also `PchipInterpolator`, `Akima1DInterpolator`, "
    "`CubicHermiteSpline`, and the results of `make_lsq_spline` and similar functions",
)
class Spline(LibraryObject):
    """The stand-in of a spline in one variable; with `pieces`, of one whose values are traced."""

    def __init__(self, original, standin: Callable, pieces: Pieces | None = None):
        super().__init__(original, standin)
        self._is_traced = pieces is not None
        self._pieces = pieces or pieces_of(original, standin)

    def __call__(self, x, nu=0, extrapolate=None, ext=None):
        pieces = self._pieces.derivative(nu)
        if isinstance(self.original, interpolate.UnivariateSpline):
            return _extended(pieces, x, self.original.ext if ext is None else ext)
        return pieces(x, extrapolate)

    def derivative(self, nu=1, n=None) -> Spline:
        nu = nu if n is None else n
        return Spline(self.original, self._standin, self._pieces.derivative(nu))

    def antiderivative(self, nu=1, n=None) -> Spline:
        return self.derivative(-(nu if n is None else n))

    def integrate(self, a, b, extrapolate=None):
        if (extrapolate or self._pieces.extrapolate) == "periodic":
            raise trace_error("the integral of a periodic spline", "subtract its antiderivatives")
        whole = self._pieces.derivative(-1)
        return whole(b, extrapolate) - whole(a, extrapolate)

    def __getattr__(self, name: str):
        if not name.startswith("_") and self._is_traced:
            raise trace_error(
                f"the attribute .{name} of a spline that was made while tracing",
                "call it, or take its derivative, antiderivative or integral",
            )
        return super().__getattr__(name)


def pieces_of(spline, standin=lift) -> Pieces:
    """The pieces of a spline of SciPy."""
    if isinstance(spline, interpolate.UnivariateSpline):
        knots, coefficients = spline.get_knots(), spline.get_coeffs()
        k = coefficients.size - knots.size + 1
        t = np.concatenate([[knots[0]] * k, knots, [knots[-1]] * k])
        spline = interpolate.BSpline(t, coefficients, k)
    if isinstance(spline, interpolate.BSpline):
        breaks, rows = _in_powers(spline)
    else:
        breaks, rows = np.asarray(spline.x), spline.c
    if breaks[0] > breaks[-1]:
        raise trace_error("a piecewise polynomial with decreasing breakpoints", "reverse them")
    return Pieces(breaks, [standin(row) for row in rows], spline.axis, spline.extrapolate)


def _in_powers(spline: interpolate.BSpline) -> tuple[np.ndarray, list]:
    """The breakpoints of a B-spline, and the coefficients of its Taylor polynomials there."""
    k = spline.k
    breaks = np.unique(spline.t[k : spline.c.shape[0] + 1])
    plain = interpolate.BSpline(spline.t, spline.c, k)
    powers = range(k, -1, -1)
    return breaks, [plain(breaks[:-1], nu=power) / math.factorial(power) for power in powers]


def _extended(pieces: Pieces, x, ext):
    """FITPACK's ways beyond the ends: extrapolate, zeros, an error, the value at the end."""
    x = floating(lift(x))
    first, last = pieces.breaks[0], pieces.breaks[-1]
    if ext in (3, "const"):
        return pieces(np.clip(x, first, last), True)
    inside = pieces(x, True)
    if ext in (1, "zeros"):
        return where((x < first) | (x > last), 0.0, inside)
    if ext in (2, "raise"):
        _check_within(x, first, last)
    return inside


def _check_within(x, first, last) -> None:
    """SciPy's error where a point is outside; a guard where it is not."""
    if bool(any_((x < first) | (x > last))):
        raise ValueError("a point is outside of the interpolation range")


@answers(interpolate.splev, note="traced points of evaluation")
def splev(x, tck, der=0, ext=0):
    tck = tck if isinstance(tck, tuple | list) else (tck.t, tck.c, tck.k)
    pieces = pieces_of(interpolate.BSpline(*_constants(*tck)))
    return _extended(pieces.derivative(der), x, ext)


def _constants(*values) -> list:
    """Plain values of what must not depend on x."""
    for value in values:
        if isinstance(value, Traced) and not is_constant(value):
            raise trace_error(
                "the knots of an interpolant depend on x or an argument",
                "only values and the points of evaluation may",
            )
    return [value.value if isinstance(value, Traced) else value for value in values]


# Interpolants of traced values.


def _of_values(build: Callable, y, axis: int) -> Spline:
    """The spline that `build` makes of values along an axis; it is linear in them."""
    y = moveaxis(floating(lift(y)), axis, 0)
    units = build(np.eye(y.shape[0]))
    pieces = replace(pieces_of(units).transformed(y), axis=axis)
    return Spline(units, lift, pieces)


@answers(interpolate.CubicSpline, note='traced values; `bc_type=` by name, except `"periodic"`')
def cubic_spline(x, y, axis=0, bc_type="not-a-knot", extrapolate=None):
    (x,) = _constants(x)
    if not isinstance(bc_type, str) or bc_type == "periodic":
        raise trace_error(
            f"CubicSpline of traced values with {bc_type=}",
            "use 'not-a-knot', 'natural' or 'clamped'",
        )
    build = lambda units: interpolate.CubicSpline(x, units, 0, bc_type, extrapolate)
    return _of_values(build, y, axis)


@answers(interpolate.make_interp_spline, note="traced values; `bc_type=` by name, or none")
def make_interp_spline(x, y, k=3, t=None, bc_type=None, axis=0, check_finite=True):
    x, t = _constants(x, t)
    if not (bc_type is None or isinstance(bc_type, str)) or bc_type == "periodic":
        raise trace_error(
            f"make_interp_spline of traced values with {bc_type=}",
            "use 'not-a-knot', 'natural', 'clamped' or None",
        )
    build = lambda units: interpolate.make_interp_spline(x, units, k, t, bc_type, 0, check_finite)
    return _of_values(build, y, axis)


@answers(interpolate.BSpline)
def b_spline(t, c, k, extrapolate=True, axis=0):
    (t,) = _constants(t)
    build = lambda units: interpolate.BSpline(t, units, k, extrapolate)
    return _of_values(build, c, axis)


@answers(interpolate.PPoly)
def piecewise_polynomial(c, x, extrapolate=None, axis=0):
    (x,) = _constants(x)
    c = floating(lift(c))
    original = interpolate.PPoly(c.value, x, extrapolate, axis)
    rows = [moveaxis(c[m], axis, 0) for m in range(c.shape[0])]
    return Spline(original, lift, Pieces(original.x, rows, axis, original.extrapolate))


# Interpolation of one variable by kinds.


@answers(interpolate.interp1d, note="traced points of evaluation, every `kind=`")
class Interpolant(LibraryObject):
    """The stand-in of `interp1d`; with `values`, of one whose values are traced, their axis first."""

    def __init__(self, original, standin: Callable, values=None):
        super().__init__(original, standin)
        moved = np.moveaxis(np.asarray(original.y), original.axis, 0)
        self._values = standin(moved) if values is None else values

    def __call__(self, x):
        original, x = self.original, floating(lift(x))
        inside = self._pieces()(x, True) if original._kind not in _STEPS else self._step(x)
        if not original._extrapolate:
            first, last = original.x[0], original.x[-1]
            if original.bounds_error:
                _check_within(x, first, last)
            trailing = (1,) * (inside.ndim - x.ndim)
            low, high = (reshape(q, x.shape + trailing) for q in (x < first, x > last))
            below, above = original._fill_value_below, original._fill_value_above
            inside = where(low, below, where(high, above, inside))
        to = range(original.axis, original.axis + x.ndim)
        return moveaxis(inside, range(x.ndim), to)

    def _pieces(self) -> Pieces:
        x, y = self.original.x, lift(self._values)
        if self.original._kind != "linear":
            pieces = pieces_of(self.original._spline)
            rows = [reshape(row, (row.shape[0], *y.shape[1:])) for row in pieces.rows]
            return replace(pieces, rows=rows, axis=0)
        steps = np.diff(x).reshape(-1, *(1,) * (y.ndim - 1))
        low, high = part(y, 0, 0, -1), part(y, 0, 1)
        return Pieces(x, [(high - low) / steps, low])

    def _step(self, x):
        knots, side = _STEPS[self.original._kind](self.original.x)
        index = searchsorted(knots, x, side)
        index = index - 1 if self.original._kind == "previous" else index
        return gather(lift(self._values), np.clip(index, 0, self.original.x.size - 1))


_STEPS = {
    "nearest": lambda x: ((x[1:] + x[:-1]) / 2, "left"),
    "nearest-up": lambda x: ((x[1:] + x[:-1]) / 2, "right"),
    "previous": lambda x: (x, "right"),
    "next": lambda x: (x, "left"),
}
"""For each kind of step function, where it steps, and on which side of the step a knot is."""


@answers(interpolate.interp1d, note="traced values: linear and piecewise constant kinds")
def interp1d(
    x,
    y,
    kind="linear",
    axis=-1,
    copy=True,
    bounds_error=None,
    fill_value=math.nan,
    assume_sorted=False,
):
    (x,) = _constants(x)
    x, y = np.asarray(x), lift(y)
    if kind not in ("linear", *_STEPS):
        raise trace_error(f"interp1d of traced values with {kind=}", "use make_interp_spline")
    original = interpolate.interp1d(
        x, y.value, kind, axis, True, bounds_error, fill_value, assume_sorted
    )
    values = moveaxis(y, axis, 0)
    if not assume_sorted:
        values = gather(values, np.argsort(x, kind="mergesort"))
    return Interpolant(original, lift, values)


# Polynomials through points.


@answers(
    interpolate.KroghInterpolator,
    interpolate.BarycentricInterpolator,
    note="traced points of evaluation",
)
class NewtonForm(LibraryObject):
    """The stand-in of a polynomial through points: sum_k c_k prod_{j<k} (t - x_j)."""

    def __call__(self, x):
        original, x = self.original, floating(lift(x))
        if isinstance(original, interpolate.BarycentricInterpolator):
            values = original.yi.reshape(original.xi.size, -1)
            krogh = interpolate.KroghInterpolator(original.xi, values)
        else:
            krogh = original
        flat = reshape(x, (-1, 1))
        result, product = lift(krogh.c[0]) + 0 * flat, 1.0
        for node, row in zip(krogh.xi[:-1], krogh.c[1:], strict=False):
            product = product * (flat - node)
            result = result + product * row
        return original._finish_y(result, x.shape)


# Grids.


@answers(
    interpolate.RegularGridInterpolator,
    note='traced points of evaluation: `"linear"` and `"nearest"`',
)
class Grid(LibraryObject):
    """The stand-in of an interpolant on a grid, linear or nearest in each variable."""

    def __init__(self, original, standin: Callable, values=None):
        super().__init__(original, standin)
        self._values = standin(np.asarray(original.values)) if values is None else values

    def __call__(self, xi, method=None, *, nu=None):
        original = self.original
        method = original.method if method is None else method
        if method not in ("linear", "nearest") or nu is not None:
            raise trace_error(
                f"RegularGridInterpolator with {method=} at traced points",
                "use method='linear', or a tensor product of splines",
            )
        grid = original.grid
        columns = _columns(xi, len(grid))
        result = _on_grid(grid, lift(self._values), columns, method)
        return _bounded(result, grid, columns, original.bounds_error, original.fill_value)


@answers(interpolate.RegularGridInterpolator, note="traced values")
def regular_grid_interpolator(
    points, values, method="linear", bounds_error=True, fill_value=math.nan, **options
):
    points, values = tuple(_constants(*points)), lift(values)
    if any(knots[0] > knots[-1] for knots in points):
        raise trace_error("a grid with decreasing points and traced values", "reverse both")
    original = interpolate.RegularGridInterpolator(
        points, values.value, method, bounds_error, fill_value, **options
    )
    return Grid(original, lift, values)


@answers(interpolate.interpn, note='`"linear"` and `"nearest"`')
def interpn(points, values, xi, method="linear", bounds_error=True, fill_value=math.nan):
    grid = regular_grid_interpolator(points, values, method, bounds_error, fill_value)
    return grid(xi)


def _columns(xi, count: int) -> list:
    """One array of coordinates per variable."""
    if isinstance(xi, tuple):
        return [floating(q) for q in np.broadcast_arrays(*map(lift, xi))]
    xi = floating(lift(xi))
    xi = reshape(xi, (-1, count)) if xi.ndim == 1 else xi
    if xi.shape[-1] != count:
        raise ValueError(
            f"The requested sample points xi have dimension {xi.shape[-1]} "
            f"but this RegularGridInterpolator has dimension {count}"
        )
    return [xi[..., k] for k in range(count)]


def _on_grid(grid, values, columns, method):
    cells = []
    for axis, (knots, t) in enumerate(zip(grid, columns, strict=True)):
        index = np.clip(searchsorted(knots, t, "right") - 1, 0, knots.size - 2)
        low = gather(lift(knots), index)
        share = (t - low) / (gather(lift(knots), index + 1) - low)
        cells.append((index * math.prod(values.shape[axis + 1 : len(grid)]), share))
    strides = [math.prod(values.shape[k + 1 : len(grid)]) for k in range(len(grid))]
    flat = reshape(values, (-1, *values.shape[len(grid) :]))
    trailing = (1,) * (flat.ndim - 1)
    if method == "nearest":
        place = sum(
            index + where(share <= 0.5, 0, stride)
            for (index, share), stride in zip(cells, strides, strict=True)
        )
        return gather(flat, place)
    total = 0.0
    for corner in itertools.product((0, 1), repeat=len(grid)):
        place, weight = 0, 1.0
        for (index, share), stride, side in zip(cells, strides, corner, strict=True):
            place = place + index + side * stride
            weight = weight * (share if side else 1 - share)
        total = total + reshape(weight, weight.shape + trailing) * gather(flat, place)
    return total


def _bounded(result, grid, columns, bounds_error, fill_value):
    outside = False
    for knots, t in zip(grid, columns, strict=True):
        if bounds_error:
            _check_within(t, knots[0], knots[-1])
        outside = outside | (t < knots[0]) | (t > knots[-1])
    if bounds_error or fill_value is None:
        return result
    outside = reshape(outside, outside.shape + (1,) * (result.ndim - outside.ndim))
    return where(outside, fill_value, result)


refuses(
    "PchipInterpolator",
    "Akima1DInterpolator",
    within="scipy.interpolate",
    why="its slopes are nonlinear functions of the values, computed in C",
    instead="use CubicSpline, which takes traced values",
)
refuses(
    "RectBivariateSpline",
    "SmoothBivariateSpline",
    "griddata",
    "RBFInterpolator",
    within="scipy.interpolate",
    why="it cannot be evaluated from piecewise polynomial coefficients",
    instead="use a tensor product of splines in one variable",
)
