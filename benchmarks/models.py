"""Gauss-Newton and Fisher products of models, next to the same products by hand.

By hand, a product J^T M J v is a JVP, the loss's second derivative and a VJP, with all that does not
depend on v computed at the point, and written like ``benchmarks.hand``: matrix products in place by BLAS,
the rest as fused loops. ``CASES`` gives for each label the operator's product, that by hand and a direction.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from benchmarks.hand import _gemm, _hidden_tangent, _kernel, _logistic_parallel, _logistic_rows

__all__ = ["CASES", "Case"]


class Case(NamedTuple):
    """Products at one point."""

    ours: Callable[[np.ndarray], np.ndarray]
    by_hand: Callable[[np.ndarray], np.ndarray]
    v: np.ndarray


@_kernel
def _output(z_dot, c, p, bias_out):
    """z_dot becomes p (z_dot - p.z_dot), row by row; ``bias_out`` gains its column sums."""
    for i in range(z_dot.shape[0]):
        mean = 0.0
        for j in range(z_dot.shape[1]):
            z_dot[i, j] += c[j]
            mean += p[i, j] * z_dot[i, j]
        for j in range(z_dot.shape[1]):
            z_dot[i, j] = p[i, j] * (z_dot[i, j] - mean)
            bias_out[j] += z_dot[i, j]


@_kernel
def _hidden_adjoint(d, slope, bias_out):
    for i in range(d.shape[0]):
        for j in range(d.shape[1]):
            d[i, j] *= slope[i, j]
            bias_out[j] += d[i, j]


def network(threads: int, widths: tuple[int, ...], batch: int) -> Case:
    """The Fisher matrix of a classifier with tanh."""
    import nbhvp

    rng = np.random.default_rng(0)
    X = rng.standard_normal((batch, widths[0]))
    slices, at = [], 0
    for n_in, n_out in pairwise(widths):
        slices.append((slice(at, at + n_in * n_out), (n_in, n_out)))
        slices.append((slice(at + n_in * n_out, at + (n_in + 1) * n_out), (n_out,)))
        at += (n_in + 1) * n_out

    def unpack(flat):
        parts = [flat[where].reshape(shape) for where, shape in slices]
        return parts[::2], parts[1::2]

    def model(x, X):
        W, b = unpack(x)
        for k in range(len(W) - 1):
            X = np.tanh(X @ W[k] + b[k])
        return X @ W[-1] + b[-1]

    x = rng.standard_normal(at) / np.sqrt(widths[0])
    v = rng.standard_normal(at)
    F = nbhvp.fisher(model, "categorical")(x, X)
    return Case(F.matvec, _network_by_hand(unpack, X, x, widths), v)


def _network_by_hand(unpack, X, x, widths):
    W, b = unpack(x)
    depth, batch = len(W), len(X)
    a = [X]
    for k in range(depth - 1):
        a.append(np.tanh(a[k] @ W[k] + b[k]))
    z = a[-1] @ W[-1] + b[-1]
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    slope = [1.0 - activation**2 for activation in a]
    a_dot = [np.empty((batch, width)) for width in widths]
    d = [a_dot[-1] if k == depth - 1 else np.empty_like(a_dot[k + 1]) for k in range(depth)]
    out = np.empty_like(x)

    def product(v):
        V, c = unpack(v)
        W_out, b_out = unpack(out)
        for k in range(depth):
            _gemm(a[k], V[k], a_dot[k + 1])
            if k > 0:
                _gemm(a_dot[k], W[k], a_dot[k + 1], beta=1.0)
            b_out[k][:] = 0.0
            if k < depth - 1:
                _hidden_tangent(a_dot[k + 1], c[k], slope[k + 1])
        _output(a_dot[-1], c[-1], p, b_out[-1])
        for k in range(depth - 1, -1, -1):
            _gemm(a[k], d[k], W_out[k], trans_a=True)
            if k > 0:
                _gemm(d[k], W[k], d[k - 1], trans_b=True)
                _hidden_adjoint(d[k - 1], slope[k], b_out[k - 1])
        return out

    return product


def poisson(threads: int, rows: int, columns: int) -> Case:
    """The Fisher matrix of Poisson regression: X^T diag(exp(X w)) X."""
    import nbhvp

    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, columns))
    w, v = rng.standard_normal((2, columns)) / np.sqrt(columns)
    rate, partial, out = np.exp(X @ w), np.empty((threads, columns)), np.empty(columns)

    def serial(v):
        out[:] = 0.0
        _logistic_rows(X, rate, v, out)
        return out

    def parallel(v):
        _logistic_parallel(X, rate, v, partial, threads)
        return np.sum(partial, axis=0, out=out)

    F = nbhvp.fisher(lambda w, X: X @ w, "poisson")(w, X)
    return Case(F.matvec, serial if threads == 1 else parallel, v)


@_kernel
def _chain(x, curvature, v, out):
    n = x.size
    before = 0.0
    for i in range(n - 1):
        w = curvature[i] * (v[i + 1] - 2.0 * x[i] * v[i])
        out[i] = before - 2.0 * x[i] * w
        before = w
    out[n - 1] = before


def chain(threads: int, n: int) -> Case:
    """The Gauss-Newton matrix of residuals x[1:] - x[:-1] ** 2 under a robust loss."""
    import nbhvp

    rng = np.random.default_rng(0)
    x, v = rng.standard_normal((2, n))
    r, out = x[1:] - x[:-1] ** 2, np.empty(n)
    curvature = (1.0 + r**2) ** -1.5

    def product(v):
        _chain(x, curvature, v, out)
        return out

    model, loss = (lambda x: x[1:] - x[:-1] ** 2), (lambda r: np.sum(np.sqrt(1.0 + r**2)))
    return Case(nbhvp.gauss_newton(model, loss)(x).matvec, product, v)


CASES: dict[str, Callable[[int], Case]] = {
    "Fisher, MLP 64-32-10, batch 256": lambda threads: network(threads, (64, 32, 10), 256),
    "Fisher, MLP 784-256-128-10, batch 512": lambda threads: network(
        threads, (784, 256, 128, 10), 512
    ),
    "Fisher, Poisson 2000 x 50": lambda threads: poisson(1, 2000, 50),
    "Fisher, Poisson 20000 x 500": lambda threads: poisson(threads, 20000, 500),
    "Gauss-Newton, robust chain 10^3": lambda threads: chain(threads, 1000),
    "Gauss-Newton, robust chain 10^6": lambda threads: chain(threads, 10**6),
}
