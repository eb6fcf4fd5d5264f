"""Every composition against NumPy: its value at two points, its gradient and its products.

The graph is interpreted. Gradients are checked against central differences of NumPy's values,
products by the three exact modes against differences of the gradient and against one another.
"""

import math

import numpy as np
import pytest
import scipy.special as special

from nbhvp.errors import TraceError
from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph
from nbhvp.trace.arrays import HANDLERS
from nbhvp.trace.elementwise import REFUSED
from nbhvp.trace.record import record

RNG = np.random.default_rng(20240607)
VECTOR = RNG.normal(size=6)
MATRIX = RNG.normal(size=(3, 4))
SQUARE = RNG.normal(size=(3, 3))
CUBE = RNG.normal(size=(2, 3, 4))
POSITIVE = RNG.uniform(0.4, 2.0, 6)
A43, A34, A6 = RNG.normal(size=(4, 3)), RNG.normal(size=(3, 4)), RNG.normal(size=6)
MASK, MASK34 = np.array([1, 0, 1, 1, 0, 1], bool), RNG.normal(size=(3, 4)) > -0.5


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
    ("round", lambda x: np.round(x, 1) * x + np.around(x) * x + x.round(2), VECTOR),
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
    ("gamma", lambda x: special.gamma(x) + special.gamma(-x), POSITIVE + 0.01),
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

CASES = UFUNCS + ELEMENTWISE + REDUCTIONS + SHAPES + PRODUCTS + SPECIAL
MODES = derive.EXACT_MODES


def close(given, needed, tolerance):
    given, needed = np.asarray(given), np.asarray(needed)
    assert given.shape == needed.shape
    scale = max(np.abs(needed).max(initial=0.0), 1.0)
    np.testing.assert_allclose(given, needed, rtol=0, atol=tolerance * scale)


def weighted(trace):
    """The first output of a trace as a scalar: its sum with fixed weights."""
    value = trace.outputs[0]
    weights = np.cos(1.0 + np.arange(value.size)).reshape(value.shape)
    product = p.multiply(value, p.constant(value.pool, weights))
    return p.sum_(product, axes=tuple(range(value.ndim))), weights


def central(function, x, step=1e-5):
    """Central differences of a scalar or array function along each element of x."""
    rows = []
    for k in range(x.size):
        h = np.zeros(x.size)
        h[k] = step
        h = h.reshape(x.shape)
        rows.append((function(x + h) - function(x - h)) / (2 * step))
    return np.reshape(rows, x.shape)


@pytest.mark.parametrize(("fun", "x"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_composition(fun, x):
    trace = record(fun, x, (), {})
    node = trace.inputs[0]
    graph = derive.check(Graph((node,), trace.outputs))
    for point in (x, 1.001 * x + 1e-4):
        needed = np.asarray(fun(point))
        needed = needed.reshape(()) if needed.size == 1 else needed
        assert graph.outputs[0].dtype == needed.dtype
        close(interpret(graph, point)[0], needed, 1e-12)
    value, weights = weighted(trace)
    first = derive.check(Graph((node,), (derive.gradient(value, node),)))
    grad = interpret(first, x)[0]
    close(grad, central(lambda y: np.sum(weights * fun(y)), x), 1e-6)
    v = np.cos(3 * np.arange(x.size)).reshape(x.shape)
    step = 1e-5 * v
    needed = (interpret(first, x + step)[0] - interpret(first, x - step)[0]) / 2e-5
    direction = p.input_node(node.pool, "v", node.shape, node.dtype)
    products = [derive.hvp(value, node, direction, mode) for mode in MODES]
    second = derive.check(Graph((node, direction), tuple(products)), linear_in=direction)
    results = interpret(second, x, v)
    close(results[0], needed, 1e-6)
    for other in results[1:]:
        close(other, results[0], 1e-11)


def test_every_ufunc_is_answered_or_refused():
    ufuncs = {u for u in vars(np).values() if isinstance(u, np.ufunc)}
    answered = {u for u in ufuncs if u in HANDLERS or p.primitive_of(u) is not None}
    assert answered | REFUSED == ufuncs
    assert not answered & REFUSED


AT_ZERO = [
    ("norm", lambda x: np.linalg.norm(x)),
    ("norm 3", lambda x: np.linalg.norm(x, 3)),
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
    ("i0", lambda x: np.i0(x), "numpy.i0"),
    ("svd norm", lambda x: np.linalg.norm(x[:, None] * x, 2), "singular values"),
    ("pad mode", lambda x: np.pad(x, 1, mode="mean"), "mode='mean'"),
    ("quantile method", lambda x: np.quantile(x, 0.3, method="lower"), "linear"),
    ("keyword", lambda x: np.mean(x, mean=3), "mean="),
    ("gcd", lambda x: np.gcd((x > 0).astype(int), 3), "gcd"),
    ("inverse", lambda x: np.linalg.matrix_power(x[:, None] * x, -1), "inverse"),
    ("order", lambda x: special.polygamma(x, x), "order"),
]


@pytest.mark.parametrize(("fun", "needed"), [c[1:] for c in REFUSALS], ids=[c[0] for c in REFUSALS])
def test_refusals_say_what_and_where(fun, needed):
    with pytest.raises(TraceError) as error:
        record(fun, VECTOR, (), {})
    assert needed in str(error.value)
    assert "test_numpy_functions.py" in str(error.value)


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


@pytest.mark.parametrize("fun", [aliased, written])
def test_writes_are_seen_through_every_alias(fun):
    trace = record(fun, VECTOR, (), {})
    close(interpret(Graph(trace.inputs, trace.outputs), VECTOR)[0], fun(VECTOR), 1e-14)


# Functions of x and of an integer array, and how many guards they need.
INDEXED = [
    ("take", lambda x, i: np.take(x, i), 1),
    ("take_along_axis", lambda x, i: np.take_along_axis(x, i, 0), 1),
    ("take wrap", lambda x, i: np.take(x, i, mode="wrap"), 0),
    ("choose", lambda x, i: np.choose(i % 2, [x[:3], x[3:]]), 1),
    ("bincount", lambda x, i: np.bincount(abs(i), x[:3]), 1),
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
