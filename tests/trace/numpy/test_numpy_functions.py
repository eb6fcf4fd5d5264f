"""Every composition against NumPy: its value at two points, its gradient and its products.

The graph is interpreted. `assert_composition` holds gradients to sixth-order differences of NumPy's
values, products by the three exact modes to those of the gradient and to one another.
"""

import math

import numpy as np
import numpy.polynomial as npp
import pytest
import scipy.integrate
import scipy.special as special
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from nbhvp.errors import TraceError
from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph
from nbhvp.trace import answers
from nbhvp.trace.record import record
from tests.checks import assert_composition, close, weighted

RNG = np.random.default_rng(20240607)
VECTOR = RNG.normal(size=6)
MATRIX = RNG.normal(size=(3, 4))
SQUARE = RNG.normal(size=(3, 3))
CUBE = RNG.normal(size=(2, 3, 4))
HUNDREDTHS = np.array([0.12, -0.43, 1.31, -1.68, 0.07, 2.24])
POSITIVE = RNG.uniform(0.4, 2.0, 6)
A43, A34, A6 = RNG.normal(size=(4, 3)), RNG.normal(size=(3, 4)), RNG.normal(size=6)
MASK, MASK34 = np.array([1, 0, 1, 1, 0, 1], bool), RNG.normal(size=(3, 4)) > -0.5

CHEBYSHEV = npp.Chebyshev([1, 2, 3.0], domain=[-3, 3])
QUANTILE_METHODS = (
    "inverted_cdf", "averaged_inverted_cdf", "closest_observation", "interpolated_inverted_cdf",
    "hazen", "weibull", "linear", "median_unbiased", "normal_unbiased", "lower", "higher",
    "midpoint", "nearest",
)  # fmt: skip


@np.vectorize
def leaky(a, rate):
    return a if a > 0 else rate * a * a


def _out(x):
    result = np.zeros(4)
    np.sum(x, axis=0, out=result)
    np.multiply(result, x[1], out=result)
    return result


def _filled_diagonal(x):
    y = x * x
    np.fill_diagonal(y, x[0])
    return y


def _put(x):
    y = x * x
    np.putmask(y, x > 0, x)
    np.putmask(y, A34 > 0.5, 3.0)
    np.put_along_axis(y, np.array([[1], [-1], [0]]), x[:, :1] ** 3, axis=1)
    return y


def _written_split(x):
    y = x.copy()
    a, b = np.split(y, 2)
    a += 2 * b
    b[...] = a * a
    return y


UFUNCS = [
    ("positive", lambda x: np.positive(x), VECTOR),
    ("square", lambda x: np.square(x), VECTOR),
    ("reciprocal", lambda x: np.reciprocal(x), VECTOR),
    ("float_power", lambda x: np.float_power(x, 3) + np.float_power(2.0, x), VECTOR),
    ("radians", lambda x: np.deg2rad(x) * x + np.radians(x) + np.degrees(x) * x, VECTOR),
    ("rad2deg", lambda x: np.rad2deg(x) * x, VECTOR),
    ("divmod", lambda x: np.divmod(x, 0.7)[1] * x + np.divmod(x, 0.7)[0], VECTOR),
    ("modf", lambda x: np.modf(3 * x)[0] * x + np.modf(3 * x)[1], VECTOR),
    ("ldexp", lambda x: np.ldexp(x, [1, 2, 3, 0, -1, -2]) * x, VECTOR),
    ("frexp", lambda x: np.frexp(x)[0] ** 2 + np.frexp(x)[1], 5 * VECTOR),
    ("heaviside", lambda x: np.heaviside(x, 0.5) * x, VECTOR),
    ("fabs", lambda x: np.fabs(x) * x + abs(x), VECTOR),
    ("sign", lambda x: np.sign(x) * x, VECTOR),
    ("complex abs", lambda x: np.abs(x + 1j * x[::-1] ** 2), VECTOR),
    ("complex sign", lambda x: np.sign(x + 2j * x**2).imag, VECTOR),
    (
        "angle",
        lambda x: np.angle(x + 1j * x[::-1]) + np.angle(x) + np.angle(1j * x, deg=True),
        VECTOR,
    ),
    ("real imag conj", lambda x: np.real(np.exp(1j * x)) + np.imag(np.conj((x + 1j) ** 3)), VECTOR),
    ("matvec", lambda x: np.matvec(x, A6[:4]) + np.vecmat(A6[:3], x[:, :3]), MATRIX),
    ("vecdot", lambda x: np.vecdot(x, A34) + np.vecdot(x, x), MATRIX),
    ("vecdot axis", lambda x: np.vecdot(x, A34, axis=0), MATRIX),
    ("outer ufunc", lambda x: np.multiply.outer(x, np.sin(x)), VECTOR),
    ("hypot where out", lambda x: _out(x), MATRIX),
]

ELEMENTWISE = [
    ("where", lambda x: np.where(x > 0, x**2, -x), VECTOR),
    ("where scalar", lambda x: np.where(x > 0, x**3, 1.5), VECTOR),
    ("where nonzero", lambda x: x[np.where(x > 0)] ** 2, VECTOR),
    ("nonzero", lambda x: x[np.nonzero(x > 0)] ** 2 + x[np.flatnonzero(x > 0)], VECTOR),
    ("clip", lambda x: np.clip(x, -0.5, 0.5) * x + np.clip(x, None, x[0]) + x.clip(0), VECTOR),
    ("clip keywords", lambda x: np.clip(x, min=-0.2, max=A6) * x, VECTOR),
    ("select", lambda x: np.select([x > 0.5, x > -0.5], [x**2, x**3], 2 * x), VECTOR),
    ("select default", lambda x: np.select([x > 0.5, x > -0.5], [x**2, 1]), VECTOR),
    ("piecewise", lambda x: np.piecewise(x, [x < 0, x >= 0], [lambda t: t**2, np.sqrt]), VECTOR),
    ("round", lambda x: np.round(x, 1) * x + np.around(x) * x + x.round(2), HUNDREDTHS),
    ("fix", lambda x: np.fix(x) * x, VECTOR),
    ("nan_to_num", lambda x: np.nan_to_num(np.where(MASK, x, np.nan), nan=0.5) * x, VECTOR),
    ("nan_to_num inf", lambda x: np.nan_to_num(np.where(MASK, x, -np.inf), neginf=2) * x, VECTOR),
    ("sinc", lambda x: np.sinc(np.concatenate([x, [0.0], 1e-3 * x, 0.1 * x])), VECTOR),
    ("isclose", lambda x: np.isclose(x, x[0]) * x, VECTOR),
    ("isposinf", lambda x: np.where(np.isposinf(x) | np.isneginf(x), 0, x**2), VECTOR),
]

REDUCTIONS = [
    ("sum", lambda x: np.sum(x**2), CUBE),
    ("sum axis", lambda x: np.sum(x**2, axis=1), CUBE),
    ("sum axes", lambda x: np.sum(x**2, axis=(0, -1), keepdims=True), CUBE),
    ("sum where", lambda x: np.sum(x**2, axis=0, where=MASK34, initial=3.0), MATRIX),
    ("sum of bool", lambda x: (x > 0).sum(axis=0) * x[0], MATRIX),
    ("sum dtype", lambda x: np.sum(x**2, dtype=np.float64), MATRIX),
    ("sum list", lambda x: np.sum([x[0] ** 2, x[1]], axis=0), MATRIX),
    ("builtin sum", lambda x: sum(row**2 for row in x), MATRIX),
    ("mean", lambda x: np.mean(x**2, axis=(0, 2)) + x.mean() ** 2, CUBE),
    ("mean where", lambda x: np.mean(x**2, axis=1, where=MASK34), MATRIX),
    ("mean where traced", lambda x: np.mean(x**2, axis=1, where=x < 1.5), MATRIX),
    ("average", lambda x: np.average(x**2, axis=0, weights=[1, 2, 3.0]), MATRIX),
    ("average weights", lambda x: np.average(A34, weights=x**2) + np.average(x), MATRIX),
    ("var", lambda x: np.var(x, axis=1, ddof=1) + x.var(), MATRIX),
    ("var of constant", lambda x: np.var(x[0] + 0 * A6), VECTOR),
    ("var where", lambda x: np.var(x, axis=0, where=MASK34 | (A34 > 0), keepdims=True), MATRIX),
    ("var complex", lambda x: np.var(x + 1j * x**2), MATRIX),
    ("std", lambda x: np.std(x, axis=0, ddof=1) + x.std(), MATRIX),
    ("prod", lambda x: np.prod(x, axis=1) + np.prod(x), MATRIX),
    ("prod axes", lambda x: np.prod(x, axis=(0, 2), keepdims=True) + x.prod(axis=1).sum(), CUBE),
    ("prod zeros", lambda x: np.prod(x * np.array([1, 0, 1, 1, 1]) + 0.0), VECTOR[:5]),
    ("prod where", lambda x: np.prod(x, where=MASK, initial=2.0), VECTOR),
    ("max", lambda x: np.max(x, axis=1) ** 2 + x.max(), MATRIX),
    ("max axes", lambda x: np.amax(x, axis=(0, 2), keepdims=True) * x, CUBE),
    ("max axis 0", lambda x: np.max(x, axis=0) * x, CUBE),
    ("max where", lambda x: np.max(x**2, axis=0, where=MASK34, initial=-1.0), MATRIX),
    ("min", lambda x: np.min(x, axis=1) ** 2 * x.min(), MATRIX),
    ("min initial", lambda x: np.amin(x, axis=(1,), initial=-0.2) ** 2, MATRIX),
    ("ufunc reduce", lambda x: np.maximum.reduce(x) * np.add.reduce(x, axis=0), MATRIX),
    ("ptp", lambda x: np.ptp(x, axis=0) ** 2, MATRIX),
    ("any all", lambda x: np.any(x > 1, axis=0) * x[0] + np.all(x < 1, axis=0) * x[1] ** 2, MATRIX),
    ("all any full", lambda x: np.where(np.all(x < 9) & np.any(x > 0), x**2, x), MATRIX),
    ("count_nonzero", lambda x: np.count_nonzero(x > 0, axis=0) * x, MATRIX),
    ("nan forms", lambda x: np.nansum(x**2) + np.nanmean(x, axis=0) * np.nanstd(x, axis=0), MATRIX),
    ("nanmax", lambda x: np.nanmax(x, axis=0) * np.nanmin(x) + np.nanprod(x), MATRIX),
    (
        "nan skipped",
        lambda x: np.nanvar(np.where(MASK, x, np.nan)) + np.nanmax(np.log(x)),
        POSITIVE,
    ),
    ("cumsum", lambda x: np.cumsum(x**2, axis=1), MATRIX),
    ("cumsum flat", lambda x: np.cumsum(x**2) * np.arange(12), MATRIX),
    ("cumprod", lambda x: np.cumprod(x, axis=1), MATRIX),
    ("cumprod zeros", lambda x: np.cumprod(x * np.array([1, 1, 0, 1, 0, 1])), VECTOR),
    ("cumulative", lambda x: np.cumulative_sum(x, axis=0, include_initial=True) ** 2, MATRIX),
    ("cumulative_prod", lambda x: np.cumulative_prod(x, axis=-1, include_initial=True), MATRIX),
    ("argmax", lambda x: x[np.argmax(x)] ** 2 + x[np.argmin(x)], VECTOR),
    (
        "argmax axis",
        lambda x: np.take_along_axis(x, np.argmax(x, 1, keepdims=True), 1) ** 2,
        MATRIX,
    ),
    ("sort", lambda x: np.sort(x) ** 2 * A6, VECTOR),
    ("sort axis", lambda x: np.sort(x, axis=0) ** 2 * np.sort(x, axis=None)[0], MATRIX),
    ("argsort", lambda x: x[np.argsort(x)] ** 2 * A6, VECTOR),
    ("searchsorted", lambda x: np.searchsorted([-1, 0, 0.5], x) * x**2, VECTOR),
    ("digitize", lambda x: np.digitize(x, [0.5, 0, -1]) * x**2, VECTOR),
    ("median", lambda x: np.median(x, axis=0) ** 2 + np.median(x), MATRIX),
    ("quantile", lambda x: np.quantile(x, [0.1, 0.6], axis=1) ** 2, MATRIX),
    ("percentile", lambda x: np.percentile(x, 30, axis=(0, 1), keepdims=True) ** 2, CUBE),
    ("diff", lambda x: np.diff(x, axis=0) ** 2, MATRIX),
    ("diff n", lambda x: np.diff(x, n=2, prepend=1.0, append=x[:, :1]) ** 2, MATRIX),
    ("ediff1d", lambda x: np.ediff1d(x, to_begin=x[0], to_end=[1, 2]) ** 2, VECTOR),
    ("gradient", lambda x: np.gradient(x) ** 2, VECTOR),
    ("gradient order 2", lambda x: np.gradient(x, 0.3, edge_order=2) ** 2, VECTOR),
    ("gradient axes", lambda x: np.gradient(x, axis=1) ** 2 + np.gradient(x)[0], MATRIX),
    ("gradient uneven", lambda x: np.gradient(x, [0, 1, 3, 4, 5.5, 6], edge_order=2) ** 2, VECTOR),
    ("bincount", lambda x: np.bincount([0, 3, 1, 1, 0, 5], weights=x**2), VECTOR),
    ("bincount traced", lambda x: np.bincount((x > 0).astype(int), x**2, minlength=4), VECTOR),
    ("apply_along_axis", lambda x: np.apply_along_axis(lambda r: r[1:] ** 2, 1, x), CUBE),
    ("apply_along_axis to number", lambda x: np.apply_along_axis(np.prod, 0, x), MATRIX),
    ("apply_over_axes", lambda x: np.apply_over_axes(np.sum, x**2, [0, 2]), CUBE),
    (
        "partition",
        lambda x: np.partition(x, 2)[:2].sum() + x[np.argpartition(x, 3)[4:]].prod(),
        VECTOR,
    ),
    ("nancumsum", lambda x: np.nancumsum(np.where(MASK, x, np.nan)) * np.nancumprod(x), VECTOR),
    ("nanargmax", lambda x: x[np.nanargmax(x)] ** 2 * x[np.nanargmin(x)], VECTOR),
    (
        "trapezoid",
        lambda x: np.trapezoid(x**2, dx=0.1).sum() + np.trapezoid(x, x**2, axis=0),
        MATRIX,
    ),
    ("trapezoid x", lambda x: np.trapezoid(x**2, [0, 1, 3], axis=0), MATRIX),
    ("interp", lambda x: np.interp(x, [-1, 0, 0.4, 1], [1, 3, -1, 2]) * x, VECTOR),
    (
        "interp values",
        lambda x: np.interp([-0.5, 0.2, 3], [-1, 0, 0.4], x[:3], left=0) ** 2,
        VECTOR,
    ),
    ("interp period", lambda x: np.interp(x, [0.1, 1.2, 2.0], [1, 4, 2], period=2.5) * x, VECTOR),
    ("unwrap", lambda x: np.unwrap(5 * x) ** 2, VECTOR),
]

SHAPES = [
    ("reshape", lambda x: np.reshape(x**2, (4, 3)) * A43, MATRIX),
    ("reshape F", lambda x: np.reshape(x**2, (-1, 3), order="F") * A43, MATRIX),
    ("ravel", lambda x: np.ravel(x) ** 2 + x.flatten() + x.ravel(order="F"), MATRIX),
    ("transpose", lambda x: np.transpose(x, (2, 0, 1)) ** 2, CUBE),
    ("T", lambda x: x.T @ x + np.transpose(x) @ A34, MATRIX),
    ("matrix_transpose", lambda x: np.matrix_transpose(x) ** 2 + x.mT, CUBE),
    ("swapaxes", lambda x: np.swapaxes(x, 0, -1) ** 2, CUBE),
    ("moveaxis", lambda x: np.moveaxis(x, [0, 1], [-1, 0]) ** 2, CUBE),
    ("rollaxis", lambda x: np.rollaxis(x, 2) ** 2 + np.rollaxis(x, 2, 0), CUBE),
    (
        "squeeze",
        lambda x: np.squeeze(x[:, :1, None], axis=(1, 2)) ** 2 * x[:1].squeeze()[0],
        MATRIX,
    ),
    ("expand_dims", lambda x: np.expand_dims(x, (0, -1)) ** 2, MATRIX),
    ("atleast", lambda x: np.atleast_2d(x) * np.atleast_3d(x), VECTOR),
    ("atleast_1d", lambda x: np.atleast_1d(x.sum() ** 2), VECTOR),
    ("broadcast_to", lambda x: np.broadcast_to(x, (3, 6)) ** 2, VECTOR),
    ("broadcast_arrays", lambda x: np.multiply(*np.broadcast_arrays(x[:, None], x**2)), VECTOR),
    ("concatenate", lambda x: np.concatenate([x, A34, x**2], axis=1), MATRIX),
    ("concatenate None", lambda x: np.concatenate([x, A6, x[0] ** 2], axis=None), MATRIX),
    ("stack", lambda x: np.stack([x[0] ** 2, A34[0], x[1] * x[2]], axis=-1), MATRIX),
    ("vstack", lambda x: np.vstack([x**2, x[0]]), MATRIX),
    ("hstack", lambda x: np.hstack([x[0] ** 2, x[1].sum(), A6]), MATRIX),
    ("dstack", lambda x: np.dstack([x**2, A34]), MATRIX),
    ("column_stack", lambda x: np.column_stack([x[:, 0] ** 2, x]), MATRIX),
    ("block", lambda x: np.block([[x**2, np.zeros((3, 2))], [1.0, x[:1], x[0, 0]]]), MATRIX),
    ("append", lambda x: np.append(x, x**2) + np.append(x, x**2, axis=1).ravel(), MATRIX),
    ("split", lambda x: np.split(x, 3)[1] ** 2 + np.split(x, [2])[0][0], MATRIX),
    ("array_split", lambda x: np.array_split(x, 3, axis=1)[0] ** 2, MATRIX),
    ("hsplit", lambda x: np.hsplit(x, 2)[1] ** 2 + np.vsplit(x, 3)[0][:, :2], MATRIX),
    ("dsplit", lambda x: np.dsplit(x, [1, 3])[1] ** 2, CUBE),
    ("unstack", lambda x: np.unstack(x, axis=1)[2] ** 2, MATRIX),
    ("split is a view", _written_split, VECTOR),
    ("repeat", lambda x: np.repeat(x, 2, axis=1) ** 2, MATRIX),
    ("repeat each", lambda x: np.repeat(x, [1, 0, 2], axis=0) ** 2, MATRIX),
    ("repeat flat", lambda x: np.repeat(x, 3) ** 2 + x.repeat(3), MATRIX),
    ("tile", lambda x: np.tile(x, (2, 1, 3)) ** 2, MATRIX),
    ("tile vector", lambda x: np.tile(x, 3) ** 2 + np.tile(x, (1, 3))[0], VECTOR),
    ("roll", lambda x: np.roll(x, 2) * x + np.roll(x, -7), VECTOR),
    ("roll axes", lambda x: np.roll(x, (1, -1), axis=(0, 1)) * x + np.roll(x, 5, axis=1), MATRIX),
    ("flip", lambda x: np.flip(x) * x + np.flip(x, 0) * np.fliplr(x) + np.flipud(x), MATRIX),
    ("rot90", lambda x: np.rot90(x) ** 2 + np.rot90(x, 3) + np.rot90(x, 2, (1, 0)).T, MATRIX),
    ("pad", lambda x: np.pad(x, ((1, 0), (2, 1))) ** 2, MATRIX),
    ("pad values", lambda x: np.pad(x, 2, constant_values=(1.5, 2)) ** 2, MATRIX),
    ("pad traced", lambda x: np.pad(x, (1, 2), constant_values=x[0] ** 2) ** 2, VECTOR),
    ("pad edge", lambda x: np.pad(x, 2, mode="edge") ** 2, MATRIX),
    ("pad reflect", lambda x: np.pad(x, ((0, 2), (1, 1)), "reflect") ** 2, MATRIX),
    ("pad symmetric", lambda x: np.pad(x, 2, "symmetric") ** 2, MATRIX),
    ("pad wrap", lambda x: np.pad(x, 1, "wrap") ** 2, MATRIX),
    ("take", lambda x: np.take(x, [0, -1, 2], axis=1) ** 2 + np.take(x, [[1], [5], [-2]]), MATRIX),
    (
        "take modes",
        lambda x: np.take(x, [7, -9], mode="wrap") ** 2 + x.take([9, 0], mode="clip"),
        VECTOR,
    ),
    ("take_along_axis", lambda x: np.take_along_axis(x, np.array([[1, -1]] * 3), 1) ** 2, MATRIX),
    ("compress", lambda x: np.compress([True, False, True], x, axis=0) ** 2, MATRIX),
    ("compress traced", lambda x: np.compress(x > 0, x) ** 2 + np.extract(x > 0, x), VECTOR),
    ("choose", lambda x: np.choose([0, 1, 1, 0, 1, 0], [x**2, 3.0]), VECTOR),
    ("ix_", lambda x: x[np.ix_([0, 2], [1, 3])] ** 2 + x[np.ix_(x[:, 0] > 9, [0])].sum(), MATRIX),
    ("triu_indices", lambda x: x[np.triu_indices_from(x)] ** 2, SQUARE),
    ("putmask", _put, MATRIX),
    ("delete", lambda x: np.delete(x, [0, 3]) ** 2 * np.delete(x, slice(0, 2)), VECTOR),
    ("insert", lambda x: np.insert(x, [1, 3], x[:2] ** 2) ** 2, VECTOR),
    ("insert row", lambda x: np.insert(x, 1, x[0] ** 2, axis=0), MATRIX),
    ("insert columns", lambda x: np.insert(x, 1, [1.0, 2.0, 3.0], axis=1) ** 2, MATRIX),
    ("diagonal", lambda x: np.diagonal(x) ** 2 + np.diagonal(x, 1) * x.diagonal(), MATRIX),
    ("diagonal below", lambda x: np.diagonal(x, -1) ** 2, MATRIX),
    ("diagonal axes", lambda x: np.diagonal(x, 1, 2, 0) ** 2, CUBE),
    ("diag", lambda x: np.diag(x, 1) ** 2 + np.diag(x[:-1] ** 2, -2)[:7, :7], VECTOR),
    ("diag of matrix", lambda x: np.diag(x, 1) ** 2 + np.diag(x), MATRIX),
    ("diagflat", lambda x: np.diagflat(x, -1) ** 2, SQUARE[:2]),
    ("fill_diagonal", _filled_diagonal, MATRIX),
    ("tril", lambda x: np.tril(x) ** 2 + np.triu(x, 1) + np.tril(x, -1) * np.triu(x, -1), MATRIX),
    ("triu of cube", lambda x: np.triu(x) ** 2, CUBE),
    ("meshgrid", lambda x: np.multiply(*np.meshgrid(x, x[:3] ** 2)), VECTOR),
    (
        "meshgrid ij",
        lambda x: np.add(*np.meshgrid(x, x**2, indexing="ij", sparse=True)) ** 2,
        VECTOR,
    ),
    (
        "zeros_like",
        lambda x: np.zeros_like(x) + np.ones_like(x) * x**2 + np.full_like(x, x[0, 0]),
        MATRIX,
    ),
    ("full", lambda x: np.full((2, 2), x[0] ** 2), VECTOR),
    ("array", lambda x: np.array([x[0] ** 2, 1.0, x[1]]) * np.asarray(x)[:3], VECTOR),
    ("array nested", lambda x: np.array([[x[0] ** 2, 1], [x[1] * x[2], x[3]]], ndmin=3), VECTOR),
    ("copy", lambda x: np.copy(x) ** 2 + np.astype(x, float) + x.astype(float), VECTOR),
    ("linspace", lambda x: np.linspace(x[0], x[1] ** 2, 7) ** 2, VECTOR),
    ("linspace arrays", lambda x: np.linspace(x, 2, 4, endpoint=False, axis=-1) ** 2, VECTOR),
    ("linspace step", lambda x: np.linspace(x[0], 3, 4, retstep=True)[1] ** 2, VECTOR),
    ("logspace", lambda x: np.logspace(x[0], x[1], 4) + np.geomspace(x[0], x[1], 4), POSITIVE),
    ("vander", lambda x: np.vander(x, 4) + np.vander(x, increasing=True)[:, 2:], VECTOR),
]

PRODUCTS = [
    ("dot", lambda x: np.dot(x, x) * np.dot(x, A6) + x.dot(x), VECTOR),
    ("dot scalar", lambda x: np.dot(2.0, x) * np.dot(x, x[0]), VECTOR),
    ("dot matrix", lambda x: np.dot(x, A43) ** 2 + np.dot(A34, x.T), MATRIX),
    ("dot nd", lambda x: np.dot(x, A43) * np.dot(x, x[0, 0])[..., None], CUBE),
    ("dot nd nd", lambda x: np.dot(x, np.moveaxis(x, 1, 2)) ** 2, CUBE),
    ("matmul", lambda x: (x @ A43) @ x + A34 @ x.T @ x, MATRIX),
    ("matmul vector", lambda x: x @ A6[:4] + A6[:3] @ x @ x.T, MATRIX),
    ("matmul batch", lambda x: np.matmul(x, A43) @ x + x @ x.mT @ x[:1], CUBE),
    ("matmul batch vector", lambda x: x @ A6[:4] @ A6[:3] + A6[:3] @ x @ A6[:4], CUBE),
    ("matmul stretched", lambda x: x[:, None] @ x[None].mT, CUBE),
    ("matmul of integers", lambda x: np.arange(12).reshape(4, 3) @ x, MATRIX),
    ("matmul of mask", lambda x: MASK @ x + x @ (x > 0), VECTOR),
    ("inner", lambda x: np.inner(x, A34) ** 2 + np.inner(x, x), MATRIX),
    ("inner nd", lambda x: np.inner(x, x) + np.inner(x, 2.0).sum(), CUBE),
    ("outer", lambda x: np.outer(x, x**2), VECTOR),
    ("vdot", lambda x: np.vdot(x * (1 + 2j), np.exp(1j * x)).imag, MATRIX),
    ("complex dot", lambda x: (np.exp(1j * x) @ (x + 2j)).real, VECTOR),
    ("complex matmul", lambda x: np.abs(np.exp(1j * x) @ x.T) ** 2, MATRIX),
    ("tensordot", lambda x: np.tensordot(x, x, axes=([0, 2], [0, 2])), CUBE),
    ("tensordot count", lambda x: np.tensordot(x, A34, 2) * np.tensordot(x, A43, 1).sum(), CUBE),
    ("tensordot 0", lambda x: np.tensordot(x, x**2, 0), VECTOR),
    ("multi_dot", lambda x: np.linalg.multi_dot([x, A43, x, A6[:4]]), MATRIX),
    ("multi_dot matrices", lambda x: np.linalg.multi_dot([x, A43, x]), MATRIX),
    ("matrix_power", lambda x: np.linalg.matrix_power(x, 5) + np.linalg.matrix_power(x, 0), SQUARE),
    ("kron", lambda x: np.kron(x, A6[:2]) ** 2 + np.kron(x[0, :2], x), MATRIX),
    ("cross", lambda x: np.cross(x, A34.T[:, :3]) * np.cross(x, x[::-1]), A43),
    (
        "cross 2",
        lambda x: np.cross(np.pad(x, ((0, 0), (0, 1))), x[:, ::-1] ** 2 @ np.eye(2, 3)),
        A43[:, :2],
    ),
    ("trace", lambda x: np.trace(x @ x) * np.trace(x, 1), SQUARE),
    ("trace axes", lambda x: np.trace(x**2, axis1=1, axis2=2) * x.trace(0, 2, 1), CUBE),
    ("convolve", lambda x: np.convolve(x, [1, -2, 0.5]) ** 2, VECTOR),
    (
        "convolve same",
        lambda x: np.convolve(x, x[:4] ** 2, "same") + np.convolve(A6, x, "same"),
        VECTOR,
    ),
    (
        "convolve even",
        lambda x: np.convolve(x[:4], x, "same") + np.convolve(x[:3], x[:2], "valid").sum(),
        VECTOR,
    ),
    (
        "correlate",
        lambda x: np.correlate(x, x[:3] ** 2, "full")[:6] + np.correlate(x, A6, "same"),
        VECTOR,
    ),
    (
        "correlate even",
        lambda x: np.correlate(x, A6[:4], "same") + np.correlate(A6[:2], x, "same"),
        VECTOR,
    ),
    ("correlate valid", lambda x: np.correlate(x, A6[:4]) * np.correlate(A6[:2], x[:4]), VECTOR),
    ("einsum dot", lambda x: np.einsum("i,i", x, x**2), VECTOR),
    ("einsum matmul", lambda x: np.einsum("ij,jk->ik", x, A43) ** 2, MATRIX),
    ("einsum implicit", lambda x: np.einsum("ba,bc", x, x), MATRIX),
    (
        "einsum transpose",
        lambda x: np.einsum("ijk->kij", x) ** 2 + np.einsum("ijk->ki", x)[..., None],
        CUBE,
    ),
    ("einsum diagonal", lambda x: np.einsum("ii->i", x) ** 2 + np.einsum("ii", x), SQUARE),
    ("einsum weighted", lambda x: np.einsum("ii,ij,j->", x, x, x[0]), SQUARE),
    (
        "einsum elementwise",
        lambda x: np.einsum("i,i->i", x, x) + np.einsum("i,j->ji", x, x).sum(0),
        VECTOR,
    ),
    ("einsum three", lambda x: np.einsum("ij,jk,kl->il", x, A43, x**2), MATRIX),
    ("einsum summed", lambda x: np.einsum("ij,k->k", x, x[0]), MATRIX),
    ("einsum ellipsis", lambda x: np.einsum("...ij,...jk->...ik", x, np.swapaxes(x, 1, 2)), CUBE),
    ("einsum dots", lambda x: np.einsum("i...,i...", x, x**2) + np.einsum("...->...", x)[0], CUBE),
    ("einsum stretched", lambda x: np.einsum("...i,...i->...", x[:, None], x[None]), MATRIX),
    (
        "einsum extent 1",
        lambda x: np.einsum("ij,ij->ij", x, x[:, :1]) + np.einsum("ij->j", x),
        MATRIX,
    ),
    ("einsum sublists", lambda x: np.einsum(x, [0, 1], x, [2, 1], [2, 0]), MATRIX),
    ("einsum sublist dots", lambda x: np.einsum(x, [..., 1], A6[:4], [1]), CUBE),
    ("einsum four", lambda x: np.einsum("ab,bc,cd,da->", x, x, x, x), SQUARE),
    (
        "einsum optimize",
        lambda x: np.einsum("ij,j,i->", x, A6[:4], A6[:3] * x[:, 0], optimize=True),
        MATRIX,
    ),
    ("norm", lambda x: np.linalg.norm(x) * np.linalg.norm(x, axis=0), MATRIX),
    ("norm keepdims", lambda x: np.linalg.norm(x, axis=-1, keepdims=True) * x, MATRIX),
    (
        "norm orders",
        lambda x: sum(np.linalg.norm(x, o) for o in (1, 2, 3, 0.5, np.inf, -np.inf)),
        VECTOR,
    ),
    ("norm order -2", lambda x: np.linalg.norm(x, -2) + np.linalg.norm(x, 0), VECTOR),
    (
        "norm matrix",
        lambda x: sum(np.linalg.norm(x, o) for o in ("fro", 1, -1, np.inf, -np.inf)),
        MATRIX,
    ),
    (
        "norm axes",
        lambda x: np.linalg.norm(x, 1, axis=(0, 2)) + np.linalg.norm(x, axis=(1, 2))[0],
        CUBE,
    ),
    ("norm complex", lambda x: np.linalg.norm(x + 1j * x[::-1] ** 2, axis=0), MATRIX),
    (
        "vector_norm",
        lambda x: np.linalg.vector_norm(x, axis=(0, 1)) * np.linalg.matrix_norm(x)[0],
        CUBE,
    ),
    ("polyval", lambda x: np.polyval([1, -2, 0.5], x) + np.polyval(x, 0.3), VECTOR),
    ("corrcoef", lambda x: np.corrcoef(x) + np.corrcoef(x[0], x[1])[0, 1], MATRIX),
    ("polymul", lambda x: np.polymul(x, [1, 2.0])[1:] ** 2 + np.polyder(x, 2)[0], VECTOR),
    ("cov", lambda x: np.cov(x) ** 2 + np.cov(x.T, rowvar=False, bias=True), MATRIX),
]

SPECIAL = [
    ("logsumexp", lambda x: special.logsumexp(x) + special.logsumexp(x, axis=1), MATRIX),
    ("logsumexp large", lambda x: special.logsumexp(999 + 50 * x, (0, 1), keepdims=True), MATRIX),
    ("logsumexp b", lambda x: special.logsumexp(x, 0, A34**2), MATRIX),
    ("logsumexp b traced", lambda x: special.logsumexp(x, b=x**2), MATRIX),
    ("logsumexp b = 0", lambda x: special.logsumexp(x, b=MASK), VECTOR),
    ("logsumexp sign", lambda x: np.prod(special.logsumexp(x, b=A6, return_sign=True)), VECTOR),
    ("softmax", lambda x: special.softmax(x, axis=1) * special.softmax(800 * x), MATRIX),
    ("log_softmax", lambda x: special.log_softmax(x, axis=0) * special.log_softmax(x), MATRIX),
    ("psi", lambda x: special.psi(x) * special.gammaln(x), POSITIVE),
    ("polygamma", lambda x: special.polygamma(1, x) + special.polygamma(0, x), POSITIVE),
    ("loggamma", lambda x: special.loggamma(x) ** 2, POSITIVE),
    ("gamma", lambda x: special.gamma(x) + special.gamma(-x), POSITIVE / 3 + 0.1),
    ("factorial", lambda x: special.factorial(x), POSITIVE),
    ("beta", lambda x: special.beta(x, 2.0) + special.betaln(x, x[0]), POSITIVE),
    ("rel_entr", lambda x: special.rel_entr(x, x[::-1]) + special.kl_div(x, 0.5), POSITIVE),
    ("huber", lambda x: special.huber(0.7, x) + special.pseudo_huber(0.7, x), VECTOR),
    ("exprel", lambda x: special.exprel(x) + special.exprel(0.01 * x), VECTOR),
    ("xlogy", lambda x: special.xlogy(x, 2.0) + special.xlog1py(2, x) + special.entr(x), POSITIVE),
    ("math", lambda x: math.exp(x[0]) * math.sin(x[1]) + math.atan2(x[2], x[3]) ** 2, POSITIVE),
    ("math log", lambda x: math.log(x[0]) + math.log(x[1], 3) * math.log(x[0], x[1]), POSITIVE),
    ("math powers", lambda x: math.pow(x[0], 2.5) * math.sqrt(x[1]) + math.cbrt(x[2]), POSITIVE),
    ("math gamma", lambda x: math.gamma(x[0]) * math.lgamma(x[1]) + math.erf(x[2]), POSITIVE),
    ("math hypot", lambda x: math.hypot(*x[:3]) + math.dist(x[:3], [1, 2, 3.0]), POSITIVE),
    ("math fsum", lambda x: math.fsum(x * x) * math.prod([x[0], 2, x[1]], start=3), POSITIVE),
    ("math radians", lambda x: math.radians(x[0]) * math.degrees(x[1]) + math.fabs(x[2]), POSITIVE),
    ("math parts", lambda x: math.modf(5 * x[0])[0] ** 2 + math.frexp(x[1])[0] ** 2, POSITIVE),
    ("math ldexp", lambda x: math.ldexp(x[0], 3) ** 2 + math.remainder(x[1], 0.3) ** 2, POSITIVE),
    ("math floor", lambda x: math.floor(3 * x[0]) * x[1] + math.ceil(x[0]) * x[2], POSITIVE),
    ("math trunc", lambda x: math.trunc(9 * x[1]) * x[1], POSITIVE),
]  # fmt: skip


def written_by(method):
    """A function that lets `method` write into a copy of x, with x beside it."""

    def fun(x):
        y = x * x
        method(y, x)
        return y

    return fun


def _filled_cube(x):
    y = np.ones((3, 3, 3)) * x[0]
    np.fill_diagonal(y, x[:2] ** 2)
    return y


def _filled_tall(x):
    y = np.vstack([x, x**2, x])
    np.fill_diagonal(y, x[0, 0], wrap=True)
    return y


TURN = np.array([0, 3, 1, 5])

# fmt: off
METHODS = [
    ("add.reduce of a list", lambda x: np.add.reduce([x[0] ** 2, x[1], 2.0]), VECTOR),
    ("multiply.reduce of a tuple", lambda x: np.multiply.reduce((x[0], x[1], x[2])), VECTOR),
    ("maximum.reduce of arrays", lambda x: np.maximum.reduce([x**2, x, 0.1 * x]), VECTOR),
    ("add.accumulate of a list", lambda x: np.add.accumulate([x[0] ** 2, x[1]]), VECTOR),
    ("multiply.outer of a list", lambda x: np.multiply.outer([x[0], 1.0], x), VECTOR),
    ("add.reduceat of a list", lambda x: np.add.reduceat([x[0], x[1], x[0]], [0, 2]), VECTOR),
    ("logical_and.reduce", lambda x: np.where(np.logical_and.reduce([x > -9, x < 9]), x**2, x), VECTOR),
    ("add.reduceat", lambda x: np.add.reduceat(x**2, [0, 2, 4]), VECTOR),
    ("add.reduceat back", lambda x: np.add.reduceat(x**2, TURN), VECTOR),
    ("add.reduceat axis", lambda x: np.add.reduceat(x**2, [1, 2], axis=1), MATRIX),
    ("multiply.reduceat", lambda x: np.multiply.reduceat(x, TURN), VECTOR),
    ("maximum.reduceat", lambda x: np.maximum.reduceat(x, [0, 2], axis=1) ** 2, MATRIX),
    ("maximum.accumulate", lambda x: np.maximum.accumulate(x) ** 2, VECTOR),
    ("minimum.accumulate", lambda x: np.minimum.accumulate(x, axis=1) * x, MATRIX),
    ("fmax.accumulate", lambda x: np.fmax.accumulate(x) ** 2 + np.fmin.accumulate(x), VECTOR),
    ("logaddexp.accumulate", lambda x: np.logaddexp.accumulate(x), VECTOR),
    ("add.accumulate", lambda x: np.add.accumulate(x**2) * np.multiply.accumulate(x), VECTOR),
    ("subtract.accumulate", lambda x: np.subtract.accumulate(x**2, axis=1), MATRIX),
    ("divide.accumulate", lambda x: np.divide.accumulate(x), POSITIVE),
    ("accumulate out", lambda x: np.maximum.accumulate(x**2, out=np.zeros(6)), VECTOR),
    ("logaddexp.reduce", lambda x: np.logaddexp.reduce(x) + np.logaddexp2.reduce(x), VECTOR),
    ("hypot.reduce", lambda x: np.hypot.reduce(x, axis=1) * np.hypot.reduce(x, axis=None), MATRIX),
    ("subtract.reduce", lambda x: np.subtract.reduce(x**2, axis=1, keepdims=True), MATRIX),
    ("divide.reduce", lambda x: np.divide.reduce(x, axis=1), MATRIX),
    ("fmax.reduce", lambda x: np.fmax.reduce(x, axis=(0, 1)) ** 2 * np.fmin.reduce(x), MATRIX),
    ("add.reduce where", lambda x: np.add.reduce(x**2, where=MASK, initial=3.0), VECTOR),
    ("minimum.reduce", lambda x: np.minimum.reduce(x**2, axis=1, out=np.zeros(3)), MATRIX),
    ("power.outer", lambda x: np.power.outer(x, [2, 3.0]) + np.subtract.outer(x, x[:2]), POSITIVE),
    ("add.at", written_by(lambda y, x: np.add.at(y, [0, 0, 2], x[:3])), VECTOR),
    ("subtract.at", written_by(lambda y, x: np.subtract.at(y, ([0, 0, 2], 1), x[0, 0])), MATRIX),
    ("multiply.at", written_by(lambda y, x: np.multiply.at(y, [0, 0, 2, 0], x[:4])), VECTOR),
    ("maximum.at", written_by(lambda y, x: np.maximum.at(y, [5, 5, -2], x[:3] + 1)), VECTOR),
    ("divide.at", written_by(lambda y, x: np.divide.at(y, (slice(None), [1, 1]), x[:, :2])), MATRIX),
    ("sin.at", written_by(lambda y, x: np.sin.at(y, [0, 3, 3])), VECTOR),
    ("negative.at", written_by(lambda y, x: np.negative.at(y, [0, 3, 3])), VECTOR),
    ("x.partition", lambda x: (lambda y: (y.partition(2), y[2])[1])(x * x), VECTOR),
    ("x.compress", lambda x: x.compress(MASK) ** 2 + x[:4].compress(MASK[:2]).sum(), VECTOR),
    ("x.item", lambda x: x.item(2) ** 2 * x + x[0].item(), VECTOR),
    ("x.tolist", lambda x: np.array([row[0] * row[1] for row in x.tolist()]), MATRIX),
    ("x.methods", lambda x: x.sum() * x.dot(x) + x.clip(0, 1).mean() + x.std() * x.prod(), VECTOR),
    ("x.order", lambda x: x.take([1, 2]) * x.argsort()[0] + x.searchsorted(9) * x.repeat(2)[:2], VECTOR),
    ("i0", lambda x: np.i0(x) * np.i0(-3 * x), VECTOR),
    ("kaiser", lambda x: np.kaiser(5, x[0]) ** 2 + np.kaiser(1, x[1]), VECTOR),
    ("real_if_close", lambda x: np.real_if_close(np.fft.ifft(np.fft.fft(x**2))) * x, VECTOR),
    ("real_if_close of complex", lambda x: np.abs(np.real_if_close(x * (1 + 2j), 10)) ** 2, VECTOR),
    ("log where", lambda x: np.log(x, where=x > 0, out=np.zeros(6)), VECTOR),
    ("divide where", lambda x: np.divide(x, x[::-1], out=np.zeros_like(x), where=A6 > 0), VECTOR),
    ("add where", lambda x: np.add(x, x, where=MASK, out=x**2), VECTOR),
    ("sum where out", lambda x: np.sum(x**2, axis=0, where=A34 > 0, out=np.zeros(4)), MATRIX),
    ("einsum out", lambda x: np.einsum("ij,ij->i", x, x, out=np.zeros(3)), MATRIX),
]

def of_joined(join):
    """Of an array of a constant and a traced number, each taken out again."""

    def fun(x):
        h = join(0.3, np.tanh(x[0]))
        return np.stack([x[0] * h[0], x[1] * h[1]]) ** 2

    return fun


JOINED = [
    ("joined by array", of_joined(lambda a, b: np.array([a, b])), VECTOR),
    ("joined by stack", of_joined(lambda a, b: np.stack([b, a])), VECTOR),
    ("joined by append", of_joined(lambda a, b: np.append([a], b)), VECTOR),
    ("joined by pad", of_joined(lambda a, b: np.pad(b[None], (1, 0), constant_values=a)), VECTOR),
    ("joined by where", of_joined(lambda a, b: np.where([True, False], a, b)), VECTOR),
]

QUANTILES = [
    *((f"quantile {m}", lambda x, m=m: np.quantile(x, [0.1, 0.35, 0.5, 0.99, 0, 1], method=m) ** 2, VECTOR) for m in QUANTILE_METHODS),
    *((f"percentile {m}", lambda x, m=m: np.percentile(x, 40, axis=1, method=m) ** 2, MATRIX) for m in QUANTILE_METHODS),
    ("quantile q 2d", lambda x: np.quantile(x, [[0.1, 0.35], [0.5, 0.99]], axis=0) ** 2, MATRIX),
    ("quantile q traced", lambda x: np.quantile(x, 0.4 + 0.1 * np.tanh(x[0])) ** 2, VECTOR),
    *((f"quantile {m} q traced", lambda x, m=m: np.quantile(x, 0.4 + 0.1 * np.tanh(x[0]), method=m) ** 2, VECTOR) for m in QUANTILE_METHODS),
    *((f"nanquantile {m}", lambda x, m=m: np.nanquantile(np.where(MASK34, x, np.nan), [0.3, 0.81], axis=1, method=m) ** 2, MATRIX) for m in QUANTILE_METHODS),
    ("nanpercentile q traced", lambda x: np.nanpercentile(np.where(MASK, x, np.nan), 40 + x[0], method="hazen") ** 2, VECTOR),
    ("quantile q list", lambda x: np.quantile(x, [0.3, 0.4 + 0.1 * np.tanh(x[0])]) ** 2, VECTOR),
    ("percentile q list", lambda x: np.percentile(x, (40 + np.tanh(x[0, 1]), 70.0), axis=1) ** 2, MATRIX),
    ("nanpercentile q list", lambda x: np.nanpercentile(x, [40 + np.tanh(x[0]), 55.0]) ** 2, VECTOR),
    ("quantile weights", lambda x: np.quantile(x, [0.3, 0.7, 0], weights=[0, 2, 3, 4, 5, 6.0], method="inverted_cdf") ** 2, VECTOR),
    ("quantile keepdims", lambda x: np.quantile(x, 0.3, axis=(0, 2), keepdims=True) ** 2, CUBE),
    ("nanmedian", lambda x: np.nanmedian(np.where(MASK34, x, np.nan), axis=1) ** 2, MATRIX),
    ("nanquantile", lambda x: np.nanquantile(np.where(MASK, x, np.nan), [0.3, 0.8]) ** 2, VECTOR),
    ("nanpercentile", lambda x: np.nanpercentile(x, 30, axis=0, keepdims=True) ** 2, MATRIX),
    ("sort kinds", lambda x: np.sort(x, kind="mergesort", axis=0) * np.sort(x, stable=True), MATRIX),
    ("argsort descending", lambda x: x[np.argsort(-x)] ** 2 * A6, VECTOR),
    ("partition several", lambda x: np.partition(x, [1, 3])[[1, 3]] ** 2, VECTOR),
    ("argpartition", lambda x: x[np.argpartition(x, 3)[:4]].prod(), VECTOR),
    ("lexsort", lambda x: x[np.lexsort((x, A6 > 0))] ** 2 * A6, VECTOR),
    ("lexsort matrix", lambda x: x[0, np.lexsort(x)] ** 2 * A6[:4], MATRIX),
    ("unique of constants", lambda x: x[np.unique([3, 1, 1, 2])] ** 2 * x[np.unique([3, 1, 1], return_inverse=True)[1]], VECTOR),
    ("isin", lambda x: np.isin(np.round(x), [1.0, -1]) * x**2, HUNDREDTHS),
    ("searchsorted sorter", lambda x: np.searchsorted(A6, x, sorter=np.argsort(A6)) * x**2, VECTOR),
    ("digitize as index", lambda x: np.array([1.0, 2, 3, 4])[np.digitize(x, [-1, 0, 1])] * x**2, VECTOR),
    ("unravel_index", lambda x: x[np.unravel_index(np.argmax(x), x.shape)] ** 2, MATRIX),
    ("ravel_multi_index", lambda x: x.ravel()[np.ravel_multi_index((np.argmax(x, 0), [0, 1, 2, 3]), (3, 4))] ** 2, MATRIX),
    ("trim_zeros", lambda x: np.trim_zeros(np.concatenate([[0.0], x, [0.0]])) ** 2, VECTOR),
    ("place", written_by(lambda y, x: np.place(y, MASK, x[:3])), VECTOR),
    ("copyto", written_by(lambda y, x: np.copyto(y, x, where=MASK)), VECTOR),
    ("resize", lambda x: np.resize(x, (3, 5)) ** 2, VECTOR),
    ("fill_diagonal cube", _filled_cube, VECTOR),
    ("fill_diagonal wrap", _filled_tall, MATRIX),
    ("delete mask", lambda x: np.delete(x, MASK) ** 2, VECTOR),
    ("insert at one place", lambda x: np.insert(x, [1, 1, 2], x[:3] ** 2) ** 2, VECTOR),
    ("choose modes", lambda x: np.choose([0, 3, 0, 1, 0, -1], [x, x**2], mode="wrap"), VECTOR),
]

WINDOWS = [
    ("sliding windows", lambda x: sliding_window_view(x, 3) ** 2, VECTOR),
    ("sliding windows 2d", lambda x: sliding_window_view(x, (2, 3)) ** 2, MATRIX),
    ("sliding windows axis", lambda x: np.lib.stride_tricks.sliding_window_view(x, 2, axis=1).max(-1) ** 2, MATRIX),
    ("sliding windows twice", lambda x: sliding_window_view(x, (2, 2), axis=(1, 1)) ** 2, MATRIX),
    *((f"pad {mode}", lambda x, mode=mode: np.pad(x, ((1, 2), (2, 1)), mode) ** 2, MATRIX) for mode in ("linear_ramp", "maximum", "mean", "median", "minimum")),
    ("pad stat_length", lambda x: np.pad(x, ((1, 2), (2, 0)), "mean", stat_length=2) ** 2, MATRIX),
    ("pad end_values", lambda x: np.pad(x, 3, "linear_ramp", end_values=(1, 2)) ** 2, VECTOR),
    ("pad reflect odd", lambda x: np.pad(x, (3, 2), "reflect", reflect_type="odd") ** 2, VECTOR),
    ("pad symmetric odd", lambda x: np.pad(x, 2, "symmetric", reflect_type="odd") ** 2, MATRIX),
    ("pad far", lambda x: np.pad(x, (9, 14), "reflect") ** 2 + np.pad(x, (9, 14), "wrap"), VECTOR),
    ("pad empty", lambda x: np.pad(x, 1, "empty")[1:-1] ** 2, VECTOR),
]
if np.lib.NumpyVersion(np.__version__) >= "2.3.0":
    WINDOWS.append(("pad dict", lambda x: np.pad(x, {1: (1, 2)}) ** 2, MATRIX))

MAPPINGS = [
    ("vectorize", lambda x: np.vectorize(lambda a, b: a * b if a > 0 else a + b)(x, x[::-1] ** 2), VECTOR),
    ("vectorize signature", lambda x: np.vectorize(lambda a, b: a @ a * b, signature="(n),()->()")(x, A34[:, 0]), MATRIX),
    ("vectorize matrices", lambda x: np.vectorize(np.outer, signature="(n),(m)->(n,m)")(x, x[:, :2]), MATRIX),
    ("vectorize two results", lambda x: np.multiply(*np.vectorize(lambda a: (a**2, math.exp(a)))(x)), MATRIX),
    ("vectorize excluded", lambda x: np.vectorize(lambda a, k: a**k, excluded=["k"])(x, k=3), MATRIX),
    ("vectorize otypes", lambda x: np.vectorize(lambda a: 0 if a < 0 else a * a, otypes=[float])(x), VECTOR),
    ("vectorized function", lambda x: leaky(x, 0.1) ** 2, VECTOR),
    ("piecewise otherwise", lambda x: np.piecewise(x, [x < -1], [lambda t: t**3, lambda t: t**2]), VECTOR),
    ("piecewise number", lambda x: np.piecewise(x[0], [x[0] < 9, x[0] > 9], [lambda t: t**2, 3.0]), VECTOR),
    ("ndenumerate", lambda x: sum((1 + i) * a**2 for (i, _), a in np.ndenumerate(x)), MATRIX),
    ("broadcast", lambda x: x**2 * np.broadcast(x, x[0]).size, MATRIX),
    ("indices", lambda x: np.indices(x.shape)[1] * x**2, MATRIX),
    ("fromfunction", lambda x: np.fromfunction(lambda i, j: x[0] ** 2 * i + x[1] * j, (2, 3)), VECTOR),
]

HISTOGRAMS = [
    ("histogram weights", lambda x: np.histogram([0, 1, 1, 2, 2, 2.0], 3, weights=x**2)[0], VECTOR),
    ("histogram edges", lambda x: np.histogram(x, [-2, 0, 0.5, 9.0], weights=x**2)[0], VECTOR),
    ("histogram counts", lambda x: np.histogram(x, [-9, 0, 9.0])[0] * x[:2] ** 2, VECTOR),
    ("histogram of all", lambda x: np.histogram(x, 4, weights=x**2)[0] * np.histogram(x, 4)[1][:4], VECTOR),
    ("histogram range", lambda x: np.histogram(x, bins=5, range=(-1, 1.5), weights=x**2)[0], VECTOR),
    ("histogram density", lambda x: np.histogram([0, 1, 1, 2, 2, 2.0], 3, weights=x, density=True)[0], POSITIVE),
    ("histogram2d", lambda x: np.histogram2d(A6, A6[::-1] ** 2, [2, 3], weights=x**2)[0], VECTOR),
    ("histogramdd", lambda x: np.histogramdd([A6, x, -A6], 2, weights=x**2)[0], VECTOR),
    ("histogram_bin_edges", lambda x: np.histogram_bin_edges(x, 4) ** 2, VECTOR),
]

POLYNOMIALS = [
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

INTEGRALS = [
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

FURTHER = [
    ("average axes", lambda x: np.average(x**2, axis=(2, 0), weights=A43[:, :2] ** 2), CUBE),
    ("average returned", lambda x: np.multiply(*np.average(x**2, axis=1, weights=x[0] ** 2, returned=True)), MATRIX),
    ("cov weights", lambda x: np.cov(x, fweights=[1, 2, 1, 1]) * np.cov(x, aweights=x[0] ** 2), MATRIX),
    ("cov all weights", lambda x: np.cov(x, fweights=[1, 2, 1, 3], aweights=[0.5, 2, 1, 1], ddof=0), MATRIX),
    ("corrcoef columns", lambda x: np.corrcoef(x, rowvar=False), MATRIX),
    ("unwrap axis", lambda x: np.unwrap(4 * x, axis=0, period=3.0) ** 2 + np.unwrap(4 * x, 4.0), MATRIX),
    ("interp all traced", lambda x: np.interp([0.3, 0.7, 9], np.cumsum(x**2), x, left=x[0], right=x[1] ** 2), POSITIVE),
    ("interp complex", lambda x: np.abs(np.interp(x, [-1, 0, 0.4], [1j, 2, 3 + 1j])), VECTOR),
    ("gradient spacings", lambda x: np.multiply(*np.gradient(x**2, 0.1, [0, 1, 3, 4.0])), MATRIX),
    ("gradient of points", lambda x: np.gradient(A6, np.cumsum(x)), POSITIVE),
    ("matrix diagonal", lambda x: np.linalg.diagonal(x, offset=1) ** 2, CUBE),
    ("cross axes", lambda x: np.linalg.cross(x.T, A43) * np.cross(x, x[::-1] ** 2, axis=0).T, MATRIX),
    ("names of the standard", lambda x: np.permute_dims(np.concat([x, x**2]), (1, 0)) + np.pow(x.T, 2).sum() * np.atan2(x, 2).mean(), MATRIX),
    ("hypot arctan2", lambda x: np.hypot(x, x[::-1]) * np.arctan2(x, x[::-1]) + np.logaddexp2(x, 1), VECTOR),
    ("fmod", lambda x: np.fmod(x, x[::-1] + 2) * x + np.mod(x, 0.7) ** 2, VECTOR),
]
# fmt: on

CASES = UFUNCS + ELEMENTWISE + REDUCTIONS + SHAPES + PRODUCTS + SPECIAL
CASES += (
    METHODS
    + JOINED
    + QUANTILES
    + WINDOWS
    + MAPPINGS
    + HISTOGRAMS
    + POLYNOMIALS
    + INTEGRALS
    + FURTHER
)
MODES = derive.EXACT_MODES


@pytest.mark.filterwarnings("ignore:numpy.fix is deprecated:DeprecationWarning")
@pytest.mark.parametrize(("fun", "x"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_composition(fun, x):
    assert_composition(fun, x)


def test_every_ufunc_is_answered_or_refused():
    ufuncs = {u for u in vars(np).values() if isinstance(u, np.ufunc)}
    answered = {u for u in ufuncs if u in answers.ANSWERS or p.primitive_of(u) is not None}
    refused = ufuncs & answers.REFUSALS.keys()
    assert answered | refused == ufuncs
    assert not answered & refused


AT_ZERO = [
    ("squared norm", lambda x: np.linalg.norm(x) ** 2),
    ("distances", lambda x: np.linalg.norm(x[:, None, None] - x[None, :, None], axis=-1)),
    ("std", lambda x: np.std(x)),
    ("complex abs", lambda x: np.abs(x * (1 + 2j))),
    ("complex sign", lambda x: np.sign(x * (1 + 2j)).real),
    ("prod", lambda x: np.prod(x)),
    ("sinc", lambda x: np.sinc(x)),
    ("logsumexp", lambda x: special.logsumexp(x)),
    ("softmax", lambda x: special.softmax(x)),
    ("rel_entr", lambda x: special.rel_entr(x, 1.0)),
    ("interp", lambda x: np.interp(x, [-1, 0, 1], [0, 1, 3])),
    ("sort", lambda x: np.sort(x)),
]


@pytest.mark.parametrize("fun", [c[1] for c in AT_ZERO], ids=[c[0] for c in AT_ZERO])
def test_no_nan_at_zero(fun):
    x = np.zeros(4)
    trace = record(fun, x, (), {})
    value, _ = weighted(trace)
    node = trace.inputs[0]
    v = p.input_node(node.pool, "v", node.shape, node.dtype)
    outputs = (derive.gradient(value, node), *(derive.hvp(value, node, v, m) for m in MODES))
    assert all(np.isfinite(r).all() for r in interpret(Graph((node, v), outputs), x, np.ones(4)))


def test_sinc_at_zero_has_its_second_derivative():
    trace = record(lambda x: np.sinc(x[0]), np.zeros(1), (), {})
    node = trace.inputs[0]
    v = p.input_node(node.pool, "v", node.shape, node.dtype)
    product = derive.hvp(trace.outputs[0], node, v)
    result = interpret(Graph((node, v), (product,)), np.zeros(1), np.ones(1))[0]
    np.testing.assert_allclose(result, [-(np.pi**2) / 3], rtol=1e-14)


SINGLE = [
    ("softmax", lambda x: special.softmax(x)),
    ("huber", lambda x: special.huber(0.7, x)),
    ("mean std", lambda x: np.mean(x) + np.std(x)),
    ("clip", lambda x: np.clip(x, 0, 1)),
    ("where", lambda x: np.where(x > 0, x, 0.5)),
    ("radians", lambda x: np.radians(x)),
    ("norm", lambda x: np.linalg.norm(x)),
    ("select", lambda x: np.select([x > 0], [x], 0.5)),
    ("sinc", lambda x: np.sinc(x)),
    ("prod", lambda x: np.prod(x) * np.cumprod(x)),
    ("linspace", lambda x: np.linspace(x[0], 1.0, 3)),
]


@pytest.mark.parametrize("fun", [c[1] for c in SINGLE], ids=[c[0] for c in SINGLE])
def test_float32_stays_float32(fun):
    x = VECTOR.astype(np.float32)
    trace = record(fun, x, (), {})
    graph = derive.check(Graph(trace.inputs, trace.outputs))
    assert graph.outputs[0].dtype == np.float32 == fun(x).dtype
    close(interpret(graph, x)[0], fun(x), 1e-6)


GUARDS = [
    ("multiply.at", lambda x: _at(np.multiply, x, np.argsort(x))),
    ("maximum.at", lambda x: _at(np.maximum, x, (x > 0).astype(int))),
    ("split", lambda x: np.split(x, np.argsort(x)[:1])[0]),
    ("roll", lambda x: np.roll(x, np.argmax(x))),
    ("diag", lambda x: np.diag(x, np.argmax(x))),
    ("real_if_close", lambda x: np.real_if_close(x + 0j * x)),
    ("allclose", lambda x: x if np.allclose(x, x[::-1]) else 2 * x),
    ("array_equal", lambda x: x if np.array_equal(x, x + 1) else 2 * x),
    ("array_equiv", lambda x: x if np.array_equiv(x, x[:1]) else 2 * x),
    ("compress", lambda x: x[np.nonzero(x > 0)]),
    ("repeat", lambda x: np.repeat(x, (x > 0).astype(int))),
]


@pytest.mark.parametrize("fun", [c[1] for c in GUARDS], ids=[c[0] for c in GUARDS])
def test_truth_values_are_guards(fun):
    trace = record(fun, VECTOR, (), {})
    assert len(trace.guards) > 0
    graph = Graph(trace.inputs, trace.outputs)
    np.testing.assert_array_equal(interpret(graph, VECTOR)[0], fun(VECTOR))


REFUSALS = [
    ("pad mode", lambda x: np.pad(x, 1, mode=lambda *a: None), "mode=<function"),
    ("keyword", lambda x: np.mean(x, mean=3), "mean="),
    ("gcd", lambda x: np.gcd((x > 0).astype(int), 3), "gcd"),
    ("order", lambda x: special.polygamma(x, x), "order"),
    ("unique", lambda x: np.unique(x), "numpy.unique"),
    ("as_strided", lambda x: np.lib.stride_tricks.as_strided(x, (2,), (8,)), "sliding_window_view"),
    ("resize", lambda x: (1 * x).resize(3), "np.resize"),
    ("nditer", lambda x: list(np.nditer(x)), "nditer"),
    ("fromiter", lambda x: np.fromiter((a for a in x), float), "float"),
    ("frompyfunc", lambda x: np.frompyfunc(lambda a: a, 1, 1)(x), "vectorized"),
    ("reduce where", lambda x: np.logaddexp.reduce(x, where=MASK), "where="),
    ("power.reduce", lambda x: np.power.reduce(x), "power.reduce"),
    ("power.accumulate", lambda x: np.power.accumulate(x), "power.accumulate"),
    ("bins", lambda x: np.histogram(x, "auto"), "bins='auto'"),
    ("pad odd", lambda x: np.pad(x, 7, "reflect", reflect_type="odd"), "odd"),
    ("polyfit", lambda x: np.polyfit(x, x, 2), "polyfit"),
    ("masked array", lambda x: np.ma.masked_array(x, MASK).sum(), "plain numbers"),
]


@pytest.mark.parametrize(("fun", "needed"), [c[1:] for c in REFUSALS], ids=[c[0] for c in REFUSALS])
def test_refusals_say_what_and_where(fun, needed):
    with pytest.raises(TraceError) as error:
        record(fun, VECTOR, (), {})
    assert needed in str(error.value)
    assert "test_numpy_functions.py" in str(error.value)


def _at(ufunc, x, index):
    y = x * x
    ufunc.at(y, index, x)
    return y


NONE, ONE, TWO = np.array(0), np.array(1), np.array(2)
BOTH, CUTS = np.array([1, 2]), np.array([[1, 0], [0, 2]])
PARAMETERS = {
    "diag": (np.diag, ONE), "tril": (np.tril, ONE), "sum": (np.sum, ONE), "std": (np.std, ONE),
    "roll": (np.roll, BOTH, np.array([0, 1])), "diff": (np.diff, ONE, ONE), "pad": (np.pad, CUTS),
    "repeat": (np.repeat, BOTH[[0, 1, 0]], NONE), "tile": (np.tile, BOTH),
    "reshape": (np.reshape, np.array([2, 6])), "transpose": (np.transpose, np.array([1, 0])),
    "expand_dims": (np.expand_dims, ONE), "moveaxis": (np.moveaxis, ONE, NONE),
    "take": (np.take, BOTH, ONE), "partition": (np.partition, ONE, ONE), "rot90": (np.rot90, ONE),
    "flip": (np.flip, ONE), "round": (np.round, ONE), "cumsum": (np.cumsum, ONE),
    "norm": (np.linalg.norm, TWO, ONE), "fft": (np.fft.fft, TWO, NONE),
    "trace": (np.trace, ONE), "windows": (sliding_window_view, TWO, ONE),
    "polygamma": (lambda x, n: special.polygamma(n, x), ONE),
    "logsumexp": (special.logsumexp, ONE), "gaussian": (ndimage.gaussian_filter1d, ONE, ONE),
}  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_may_be_arrays(name):
    """Constants, and arguments of the function, which are guarded."""
    fun, *values = PARAMETERS[name]
    x = np.abs(MATRIX)
    total = lambda x, *values: np.sum(np.abs(fun(x, *values)) ** 2)
    constant = record(lambda x: total(x, *map(np.array, values)), x)
    given = record(total, x, tuple(values))
    for trace, inputs in ((constant, (x,)), (given, (x, *values))):
        (found,) = interpret(Graph(trace.inputs, trace.outputs), *inputs)
        close(found, total(x, *(v.item() if v.ndim == 0 else v for v in values)), 1e-12)
    assert not constant.guards
    assert given.guards


SEQUENCES = [(0, 2), range(2), range(2, 0, -2), [(0, 1), (1, 0)], (), [], ((0, 2), (1, 1))]


@pytest.mark.parametrize("index", SEQUENCES, ids=str)
def test_sequences_are_index_arrays(index):
    """Within an index, as a whole index where NumPy takes it so, to read, to write and to add."""

    def fun(x):
        y, z = x * x, np.zeros((3, 4))
        y[:, index] = x[..., index] * 2 + 1
        np.add.at(z, (slice(None), index), 3.0)
        return np.sum(y * z) + np.sum(x[index] ** 2) + np.sum(x[:, index] ** 3)

    assert_composition(fun, MATRIX)


def aliased(x):
    """Views of one matrix, read after it was written."""
    y = np.ones((3, 3)) * x[0]
    views = [
        np.broadcast_to(y, (2, 3, 3)),
        np.ravel(y),
        np.flip(y, 0),
        np.rot90(y),
        np.split(y, 3)[1],
        np.expand_dims(y, 0),
        np.moveaxis(y, 0, 1),
        np.diagonal(y),
        np.unstack(y)[2],
        sliding_window_view(y, 2, axis=0),
    ]
    y[1] = x[:3]
    y[2, 2] = x[3] * x[4]
    return np.concatenate([view.ravel() for view in views])


def written(x):
    """Results put into arrays that the function made."""
    y, z, w = np.zeros((2, 2)), np.empty(2), np.zeros(4)
    x = x.reshape(2, 3)
    np.matmul(x, x.T, out=y)
    np.dot(y, x[:, 0], out=z)
    np.add(z, 1, out=z)
    np.cumsum(x[0], out=w[1:])
    np.clip(w, 0, 1, out=w)
    x.sum(0, None, w[:3])
    x.max(1, y[0])
    np.einsum("ij->i", x, out=y[:, 1])
    np.take(w, [3, 0], out=z)
    return np.concatenate([y.ravel(), z, w])


def unshared(x):
    """Results that share no memory with their argument, though they have its elements."""
    y = x.reshape(6, 1) ** 2
    results = [
        np.repeat(y, 1, axis=0),
        np.cumprod(y, axis=1),
        np.prod(y, axis=1),
        np.max(y, axis=()),
        np.pad(y, 0, "edge"),
        np.maximum.accumulate(y, axis=1),
        np.logaddexp.reduce(y, axis=1),
        y[::-1, 0].ravel(),
        np.einsum("ij,ij->ij", y, np.ones((6, 1))),
        ndimage.correlate1d(y, [1.0], axis=0),
    ]
    for result in results:
        result *= 2
    return np.concatenate([y.ravel(), *(result.ravel() for result in results)])


def numbers(x):
    """Scalars of NumPy are values, arrays without axes are cells."""
    scalars = [np.std(x), np.prod(x), np.median(x), np.linalg.norm(x), np.abs(1j * x[0])]
    cells = [np.array(x[0]), np.tensordot(x, x, 1), np.pad(np.array(x[1]), 0)]
    before = [*scalars, *cells]
    for k in range(len(scalars)):
        scalars[k] += 1
    for cell in cells:
        cell *= 2
    return np.array([*scalars, *before])


def diagonal_of_einsum(x):
    y = np.outer(x, x)
    np.einsum("ii->i", y)[...] = x
    return y


@pytest.mark.parametrize("fun", [aliased, written, unshared, numbers, diagonal_of_einsum])
def test_writes_are_seen_through_every_alias(fun):
    trace = record(fun, VECTOR, (), {})
    close(interpret(Graph(trace.inputs, trace.outputs), VECTOR)[0], fun(VECTOR), 1e-14)


# Functions of x and of an integer array, and how many guards they need.
INDEXED = [
    ("take", lambda x, i: np.take(x, i), 1),
    ("take_along_axis", lambda x, i: np.take_along_axis(x, i, 0), 1),
    ("take wrap", lambda x, i: np.take(x, i, mode="wrap"), 0),
    ("choose", lambda x, i: np.choose(i % 2, [x[:3], x[3:]]), 1),
    ("bincount", lambda x, i: np.bincount(abs(i), x[:3]), 2),
    ("delete", lambda x, i: np.delete(x, i), 1),
    ("searchsorted", lambda x, i: np.searchsorted(np.sort(x), i) * x[:3], 0),
    ("products", lambda x, i: np.outer(i, i) @ x[:3] * i.sum() * np.prod(i + 5) * i.mean(), 0),
]
INDEX = np.array([2, 0, -1])


@pytest.mark.parametrize(("fun", "guards"), [c[1:] for c in INDEXED], ids=[c[0] for c in INDEXED])
def test_traced_integers(fun, guards):
    trace = record(fun, VECTOR, (INDEX,), {})
    assert len(trace.guards) == guards
    close(
        interpret(Graph(trace.inputs, trace.outputs), VECTOR, INDEX)[0], fun(VECTOR, INDEX), 1e-14
    )


UNGUARDED = [np.max, np.sort, np.median, np.unwrap, np.std, special.softmax, np.cumprod, np.ptp]


@pytest.mark.parametrize("fun", UNGUARDED, ids=lambda f: f.__name__)
def test_order_and_choice_need_no_guard(fun):
    assert len(record(fun, VECTOR, (), {}).guards) == 0
