"""A shift that cancels carries no derivative; one that does not keeps its own."""

import numpy as np
import pytest

import nbhvp
from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.derive import EXACT_MODES
from nbhvp.graph.node import dependent, reachable
from nbhvp.trace.record import record

pytestmark = [pytest.mark.no_cover, pytest.mark.usefixtures("unsplit")]

ROWS, COLUMNS = 7, 4
WEIGHTS = np.linspace(0.5, 2.0, ROWS)
X = np.random.default_rng(0).normal(size=ROWS * COLUMNS)
TIES = np.repeat(X[:ROWS], COLUMNS)


def scores(x):
    return x.reshape(ROWS, COLUMNS) ** 2


def kept(z):
    shift = z.max(axis=1, keepdims=True)
    return np.squeeze(shift, 1) + np.log(np.sum(np.exp(z - shift), axis=1))


def indexed(z):
    shift = np.max(z, axis=1)
    return np.log(np.exp(z - shift[:, None]).sum(1)) + shift


def keepdims(z):
    shift = z.max(1, keepdims=True)
    return (shift + np.log(np.exp(z - shift).sum(1, keepdims=True)))[:, 0]


def by_mean(z):
    shift = z.mean(axis=1, keepdims=True)
    return shift[:, 0] + np.log(np.sum(np.exp(z - shift), axis=1))


def along_columns(z):
    shift = z.T.max(axis=0)
    return np.log(np.sum(np.exp(z.T - shift), axis=0)) + shift


def by_one_number(z):
    shift = z.max()
    return np.log(np.sum(np.exp(z - shift))) + shift + 0 * WEIGHTS


def written_out(z):
    shift, total = z[:, 0], 0.0
    for k in range(1, COLUMNS):
        shift = np.maximum(shift, z[:, k])
    for k in range(COLUMNS):
        total = total + np.exp(z[:, k] - shift)
    return shift + np.log(total)


SHIFTED = [kept, indexed, keepdims, by_mean, along_columns, by_one_number, written_out]
REDUCED = {
    "mean": lambda terms: np.mean(terms),
    "weighted": lambda terms: np.sum(WEIGHTS * terms),
    "squared": lambda terms: np.sum(terms**2),
}


def closed_form(terms, total, x, v):
    """The product, with shifts by constants, by complex steps of the gradient of plain sums."""

    def gradient(x):
        z = scores(x)
        rows = np.zeros_like(z) if terms is by_one_number else z.max(1, keepdims=True).real
        e = np.exp(z - (z.max().real if terms is by_one_number else rows))
        axis = None if terms is by_one_number else 1
        s = e.sum(axis, keepdims=True)
        value = np.broadcast_to(np.log(s) + (z.max().real if axis is None else rows), (ROWS, 1))
        slope = {
            "mean": np.full((ROWS, 1), 1 / ROWS),
            "weighted": WEIGHTS[:, None],
            "squared": 2 * value,
        }[total]
        slope = np.sum(slope) if axis is None else slope
        return (slope * e / s * 2 * x.reshape(z.shape)).ravel()

    return gradient(x).real, gradient(x + 1e-30j * v).imag / 1e-30


@pytest.mark.parametrize("x", [X, TIES], ids=["apart", "ties"])
@pytest.mark.parametrize("total", REDUCED)
@pytest.mark.parametrize("terms", SHIFTED)
def test_products(terms, total, x):
    f = nbhvp.differentiable(lambda x: REDUCED[total](terms(scores(x))), target="interpret")
    v = np.cos(np.arange(x.size))
    gradient, product = closed_form(terms, total, x, v)
    np.testing.assert_allclose(f.grad(x), gradient, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(f.hvp(x, v), product, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("terms", [kept, indexed, keepdims, along_columns, by_one_number])
@pytest.mark.parametrize("total", ["mean", "weighted"])
def test_no_derivative_follows_the_shift(terms, total):
    trace = record(lambda x: REDUCED[total](terms(scores(x))), X, ())
    (value,), (x, *_) = trace.outputs, trace.inputs
    v = p.input_node(trace.pool, "v", x.shape, x.dtype)
    product = derive.hvp(value, x, v)
    active = dependent(reachable([product]), [v])
    assert not any(node.primitive in (p.pick, p.gather) for node in active)


def halved(z):
    shift = z.max(axis=1, keepdims=True)
    return 0.5 * np.squeeze(shift, 1) + np.log(np.sum(np.exp(z - shift), axis=1))


def scaled(z):
    shift = z.max(axis=1, keepdims=True)
    return np.squeeze(shift, 1) * np.log(np.sum(np.exp(z - shift), axis=1))


def other_sum(z):
    shift = z.max(axis=1, keepdims=True)
    return np.squeeze(shift, 1) + np.log(np.sum(np.exp(2 * z - shift), axis=1))


def other_axis(z):
    shift = z[:4].max(axis=0)
    return np.log(np.sum(np.exp(z[:4] - shift[:, None]), axis=1)) + shift


def other_columns(z):
    shift = np.maximum(z[:, 0], z[:, 1])
    first, second = np.exp(z[:, 0] - shift), np.exp(z[:, 1] - shift)
    return shift + np.log(first + second + second * z[:, 2]) - 0.5 * np.log(first + second)


@pytest.mark.parametrize("terms", [halved, scaled, other_sum, other_axis, other_columns])
def test_what_depends_on_its_shift(terms):
    f = nbhvp.differentiable(lambda x: np.sum(terms(scores(x)) ** 2), target="interpret")
    v = np.cos(np.arange(X.size))
    step = 1e-6
    slope = (f(X + step * v) - f(X - step * v)) / (2 * step)
    np.testing.assert_allclose(f.grad(X) @ v, slope, rtol=1e-7)
    needed = (f.grad(X + step * v) - f.grad(X - step * v)) / (2 * step)
    for mode in EXACT_MODES:
        np.testing.assert_allclose(f.hvp(X, v, mode=mode), needed, rtol=1e-6, atol=1e-7)


def test_a_sum_that_is_no_number_stays_none():
    f = nbhvp.differentiable(lambda x: np.sum(kept(scores(x))), target="interpret")
    x = X.copy()
    x[0] = np.nan
    with np.errstate(all="ignore"):
        assert np.isnan(f.grad(x)[:COLUMNS]).all()
        assert np.isfinite(f.grad(x)[COLUMNS:]).all()
