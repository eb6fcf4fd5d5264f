"""The problems that tests and benchmarks share: a NumPy function, its gradient and its product.

``fun`` is what a scientist would write. ``gradient`` and ``hvp`` are closed forms derived by hand,
independent of any automatic differentiation: with g(x) the gradient, the product is the
directional derivative ``H(x) v = d/dt g(x + t v)`` at t = 0, written out for each problem.

The oracle of both closed forms is the complex step (Squire and Trapp, SIAM Review 40, 1998):
``f'(x) = Im f(x + i h) / h`` has no cancellation, so with h = 1e-30 it is exact to rounding. All
functions are complex-step safe, with three remarks:

- ``logistic`` uses ``np.logaddexp``, which knows no complex numbers (``complex_step`` is false);
- so does ``mlp`` with one output;
- ``mlp`` and the mixtures shift by a maximum. NumPy orders complex numbers by their real parts, and
  the shift cancels in exact arithmetic, so the complex step holds through it.

Every maker is ``make_*(size, seed)``. ``MAKERS`` lists them; ``small()`` gives one of each;
``SUITE`` has the sizes that benchmarks run at.

Each problem states the floor of a product at a fixed point: bytes that must come from or go to
memory if no cache keeps anything between two products, and operations of its matrix products.
Bytes count x, v and the result once, and data that enter every product (a matrix, indices) once;
what a product may precompute counts where it is smaller than what it is computed from, and cheap
arithmetic on numbers at hand counts nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

__all__ = [
    "MAKERS",
    "SUITE",
    "Floor",
    "Problem",
    "make",
    "make_gaussians",
    "make_heat",
    "make_lennard_jones",
    "make_logistic",
    "make_mixture",
    "make_mlp",
    "make_rosenbrock",
    "make_surface",
    "make_transcendental",
    "small",
    "value_floor",
]


@dataclass(frozen=True)
class Floor:
    """What a product H(x) v at a fixed point moves and multiplies at least."""

    bytes: int
    flops: int = 0
    """Operations of matrix products, additions and multiplications counted apart."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A scalar function with closed-form derivatives, a point and a direction.

    Attributes
    ----------
    name : str
        Key in ``MAKERS``.
    fun : callable
        ``fun(x, *args) -> scalar``, plain NumPy.
    x0, v : ndarray, shape (n,)
        A point and a direction.
    args : tuple
        Further arguments of ``fun``, ``gradient`` and ``hvp``.
    floor : Floor
        Of a product at a fixed point.
    gradient, hvp : callable
        ``gradient(x, *args)`` and ``hvp(x, v, *args)``, by hand. Both accept complex ``x``.
    data : mapping
        What ``fun`` closes over, by name, for products derived by hand (``benchmarks.hand``).
    complex_step : bool
        Whether ``fun`` accepts complex ``x``.
    """

    name: str
    fun: Callable[..., Any]
    x0: np.ndarray
    v: np.ndarray
    gradient: Callable[..., np.ndarray]
    hvp: Callable[..., np.ndarray]
    floor: Floor
    args: tuple = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    complex_step: bool = True


def make_rosenbrock(size: int = 1000, seed: int = 0) -> Problem:
    """Chained Rosenbrock function of ``size`` variables, as ``scipy.optimize.rosen``.

    f = sum_i 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2, i = 0 .. n-2. The Hessian is tridiagonal:
    -400 x_i beside the diagonal, 1200 x_i^2 - 400 x_{i+1} + 2 from the term that starts at i and
    200 from the one that ends there.
    """

    def fun(x):
        return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)

    def gradient(x):
        residual = x[1:] - x[:-1] ** 2
        g = np.zeros_like(x)
        g[:-1] = -400.0 * x[:-1] * residual - 2.0 * (1.0 - x[:-1])
        g[1:] += 200.0 * residual
        return g

    def hvp(x, v):
        h = np.zeros(x.shape, np.result_type(x, v))
        h[:-1] = (1200.0 * x[:-1] ** 2 - 400.0 * x[1:] + 2.0) * v[:-1] - 400.0 * x[:-1] * v[1:]
        h[1:] += 200.0 * v[1:] - 400.0 * x[:-1] * v[:-1]
        return h

    rng = np.random.default_rng(seed)
    x0 = np.where(np.arange(size) % 2 == 0, -1.2, 1.0) + 0.1 * rng.standard_normal(size)
    floor = Floor(24 * size)  # x, v, the result: the coefficients are three operations on x
    return Problem("rosenbrock", fun, x0, rng.standard_normal(size), gradient, hvp, floor)


def make_logistic(size: tuple[int, int] = (2000, 50), seed: int = 0) -> Problem:
    """Logistic regression with an L2 term on ``size`` = (rows, columns) data, labels y = ±1.

    f = 1/m sum_i log(1 + exp(-y_i X_i.w)) + l2/2 |w|^2. With margins t_i = y_i X_i.w and
    s_i = 1 / (1 + exp(t_i)):  g = -1/m X^T (y s) + l2 w  and  H = 1/m X^T diag(s (1 - s)) X + l2 I.
    The closed forms take s = (1 - tanh(t/2)) / 2, which never overflows and accepts complex t.
    """
    rows, columns = size
    l2 = 1e-3
    rng = np.random.default_rng(seed)
    X = rng.standard_normal(size)
    w = rng.standard_normal(columns) / np.sqrt(columns)
    y = np.where(rng.random(rows) < 1.0 / (1.0 + np.exp(-2.0 * (X @ w))), 1.0, -1.0)

    def fun(w):
        return np.mean(np.logaddexp(0.0, -y * (X @ w))) + 0.5 * l2 * (w @ w)

    def gradient(w):
        s = 0.5 * (1.0 - np.tanh(0.5 * y * (X @ w)))
        return -(X.T @ (y * s)) / rows + l2 * w

    def hvp(w, v):
        s = 0.5 * (1.0 - np.tanh(0.5 * y * (X @ w)))
        return X.T @ (s * (1.0 - s) * (X @ v)) / rows + l2 * v

    data = {"X": X, "y": y, "l2": l2}
    v = rng.standard_normal(columns)
    # X once: a row that is in cache for X v serves X^T too. One weight per row; two gemv.
    floor = Floor(8 * (X.size + rows + 2 * columns), 4 * X.size)
    return Problem("logistic", fun, w, v, gradient, hvp, floor, data=data, complex_step=False)


def make_mlp(size: tuple[tuple[int, ...], int] = ((64, 32, 10), 256), seed: int = 0) -> Problem:
    """Tanh network with softmax cross-entropy; ``size`` = (layer widths, batch).

    With one output z, labels y = ±1 and the logistic loss mean(log(1 + exp(-y z))): softmax
    cross-entropy against a second logit that is zero, p = 1 / (1 + exp(-z)) in place of softmax.

    Forward: a_0 = X, z_l = a_{l-1} W_l + b_l, a_l = tanh(z_l); the last z gives p = softmax(z) and
    f = mean(logsumexp(z) - z[label]) + l2/2 |x|^2. Backward: d_L = (p - Y) / m,
    d_{l-1} = (d_l W_l^T)(1 - a_{l-1}^2), and the gradients a_{l-1}^T d_l and sum(d_l). The product
    is the R-operator of both passes (Pearlmutter, Neural Computation 6, 1994).
    """
    widths, batch = size
    l2 = 1e-3
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((batch, widths[0]))
    is_binary = widths[-1] == 1
    labels = rng.integers(2 if is_binary else widths[-1], size=batch)
    signs = 2.0 * labels[:, None] - 1.0
    onehot = labels[:, None] if is_binary else np.eye(widths[-1])[labels]

    def unpack(x):
        layers, at = [], 0
        for n_in, n_out in pairwise(widths):
            W = x[at : at + n_in * n_out].reshape(n_in, n_out)
            at += n_in * n_out
            layers.append((W, x[at : at + n_out]))
            at += n_out
        return layers

    def fun(x):
        *hidden, (W, b) = unpack(x)
        a = X
        for W_hidden, b_hidden in hidden:
            a = np.tanh(a @ W_hidden + b_hidden)
        z = a @ W + b
        if is_binary:
            return np.mean(np.logaddexp(0.0, -signs * z)) + 0.5 * l2 * np.sum(x**2)
        z = z - z.max(axis=1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        return -np.mean(log_p[np.arange(batch), labels]) + 0.5 * l2 * np.sum(x**2)

    def forward(layers):
        activations = [X]
        for W, b in layers[:-1]:
            activations.append(np.tanh(activations[-1] @ W + b))
        z = activations[-1] @ layers[-1][0] + layers[-1][1]
        if is_binary:
            return activations, 0.5 + 0.5 * np.tanh(0.5 * z)
        p = np.exp(z - z.max(axis=1, keepdims=True))
        return activations, p / p.sum(axis=1, keepdims=True)

    def gradient(x):
        layers = unpack(x)
        activations, p = forward(layers)
        d, parts = (p - onehot) / batch, []
        for (W, _), a in zip(layers[::-1], activations[::-1], strict=True):
            parts = [(a.T @ d).ravel(), d.sum(axis=0), *parts]
            d = (d @ W.T) * (1.0 - a**2)
        return np.concatenate(parts) + l2 * x

    def hvp(x, v):
        layers, directions = unpack(x), unpack(v)
        activations, p = forward(layers)
        tangents = [np.zeros_like(X)]
        for (W, _), (V, c), a, a_in in zip(
            layers, directions, [*activations[1:], None], activations, strict=True
        ):
            z_dot = tangents[-1] @ W + a_in @ V + c
            tangents.append(z_dot if a is None else (1.0 - a**2) * z_dot)
        z_dot = tangents.pop()
        d = (p - onehot) / batch
        mean = p * z_dot if is_binary else np.sum(p * z_dot, axis=1, keepdims=True)
        d_dot = p * (z_dot - mean) / batch
        parts = []
        for (W, _), (V, _), a, a_dot in zip(
            layers[::-1], directions[::-1], activations[::-1], tangents[::-1], strict=True
        ):
            parts = [(a_dot.T @ d + a.T @ d_dot).ravel(), d_dot.sum(axis=0), *parts]
            pulled = d @ W.T
            d_dot = (d_dot @ W.T + d @ V.T) * (1.0 - a**2) - 2.0 * pulled * a * a_dot
            d = pulled * (1.0 - a**2)
        return np.concatenate(parts) + l2 * v

    layers = [
        (rng.standard_normal((n_in, n_out)) / np.sqrt(n_in), 0.1 * rng.standard_normal(n_out))
        for n_in, n_out in pairwise(widths)
    ]
    x0 = np.concatenate([part.ravel() for layer in layers for part in layer])
    data = {"X": X, "labels": labels, "widths": widths, "l2": l2}
    v = rng.standard_normal(x0.size)
    # Per layer a_in V, a_in^T d_dot, and after the first, whose input is constant, a_in_dot W,
    # a_in_dot^T d, d_dot W^T and d V^T. Beside x, v and the result: the batch, and per layer's
    # output the activation (of which its slope is one operation) and the adjoint.
    weights = [n_in * n_out for n_in, n_out in pairwise(widths)]
    floor = Floor(
        8 * (3 * x0.size + X.size + 2 * batch * sum(widths[1:])),
        2 * batch * (2 * weights[0] + 6 * sum(weights[1:])),
    )
    return Problem("mlp", fun, x0, v, gradient, hvp, floor, data=data, complex_step=not is_binary)


def make_surface(size: tuple[int, int] = (50, 50), seed: int = 0) -> Problem:
    """Minimal surface over the unit square; ``size`` = nodes of the grid, its edge being given.

    Each cell adds its area, with both diagonals p, q of the four corners (Griewank and Toint,
    Numerische Mathematik 39, 1982): A sqrt(1 + k (p^2 + q^2)), A the cell's base, k = 1 / (2 A).
    The unknowns are the (m-2)(n-2) interior heights. With s the root, df/dp = p / (2 s), and the
    product of a cell is (p_dot - k p (p p_dot + q q_dot) / s^2) / (2 s), for q alike.
    """
    m, n = size
    base = 1.0 / ((m - 1) * (n - 1))
    k = 0.5 / base
    rng = np.random.default_rng(seed)
    frame = np.zeros(size)
    frame[0] = np.sin(2.0 * np.pi * np.linspace(0.0, 1.0, n))
    frame[-1] = -frame[0]
    frame[:, 0] = frame[:, -1] = 0.5 * np.sin(np.pi * np.linspace(0.0, 1.0, m))

    def fun(x):
        z = np.zeros((m, n), dtype=x.dtype)
        z[:] = frame
        z[1:-1, 1:-1] = x.reshape(m - 2, n - 2)
        p = z[1:, 1:] - z[:-1, :-1]
        q = z[1:, :-1] - z[:-1, 1:]
        return base * np.sum(np.sqrt(1.0 + k * (p**2 + q**2)))

    def diagonals(x, edge):
        z = np.pad(x.reshape(m - 2, n - 2), 1) + edge
        return z[1:, 1:] - z[:-1, :-1], z[1:, :-1] - z[:-1, 1:]

    def transposed(p_bar, q_bar):
        return (p_bar[:-1, :-1] - p_bar[1:, 1:] + q_bar[:-1, 1:] - q_bar[1:, :-1]).ravel()

    def gradient(x):
        p, q = diagonals(x, frame)
        s = np.sqrt(1.0 + k * (p**2 + q**2))
        return transposed(0.5 * p / s, 0.5 * q / s)

    def hvp(x, v):
        p, q = diagonals(x, frame)
        p_dot, q_dot = diagonals(v, 0.0)
        s = np.sqrt(1.0 + k * (p**2 + q**2))
        along = k * (p * p_dot + q * q_dot) / s**2
        return transposed(0.5 * (p_dot - p * along) / s, 0.5 * (q_dot - q * along) / s)

    unknowns = (m - 2) * (n - 2)
    x0 = 0.1 * rng.standard_normal(unknowns)
    data = {"frame": frame, "k": k}
    v = rng.standard_normal(unknowns)
    floor = Floor(24 * unknowns)  # a cell's root and quotient can be had from x again
    return Problem("surface", fun, x0, v, gradient, hvp, floor, data=data)


def make_lennard_jones(size: tuple[int, int] = (216, 20), seed: int = 0) -> Problem:
    """Lennard-Jones energy over a fixed list of pairs; ``size`` = (atoms, neighbours of each).

    The atoms fill a cubic lattice with some noise. The list has the nearest pairs, as many as give
    an atom its neighbours in the mean: more inside, fewer at the surface.

    f = sum over pairs of phi(r^2), phi(r^2) = 4 (r^-12 - r^-6). With d = x_i - x_j, D = v_i - v_j:
    atom i gets 2 phi' d and, in the product, 2 phi' D + 4 phi'' (d.D) d; atom j the negative.
    phi' = 4 (3 u^-4 - 6 u^-7), phi'' = 4 (42 u^-8 - 12 u^-5) for u = r^2.
    """
    atoms, neighbours = size
    rng = np.random.default_rng(seed)
    side = next(k for k in range(1, atoms + 1) if k**3 >= atoms)
    lattice = 1.2 * np.stack(np.meshgrid(*3 * [np.arange(side)], indexing="ij"), axis=-1)
    positions = lattice.reshape(-1, 3)[:atoms] + 0.05 * rng.standard_normal((atoms, 3))
    i, j = _nearest_pairs(positions, atoms * neighbours // 2)

    def fun(x):
        positions = x.reshape(-1, 3)
        d = positions[i] - positions[j]
        attraction = 1.0 / np.sum(d**2, axis=1) ** 3
        return 4.0 * np.sum(attraction**2 - attraction)

    def scattered(force, n):
        out = np.zeros((n // 3, 3), force.dtype)
        np.add.at(out, i, force)
        np.subtract.at(out, j, force)
        return out.ravel()

    def gradient(x):
        d = x.reshape(-1, 3)[i] - x.reshape(-1, 3)[j]
        u = np.sum(d**2, axis=1, keepdims=True)
        return scattered(8.0 * (3.0 * u**-4 - 6.0 * u**-7) * d, x.size)

    def hvp(x, v):
        d = x.reshape(-1, 3)[i] - x.reshape(-1, 3)[j]
        d_dot = v.reshape(-1, 3)[i] - v.reshape(-1, 3)[j]
        u = np.sum(d**2, axis=1, keepdims=True)
        along = np.sum(d * d_dot, axis=1, keepdims=True)
        slope, curve = 8.0 * (3.0 * u**-4 - 6.0 * u**-7), 16.0 * (42.0 * u**-8 - 12.0 * u**-5)
        return scattered(slope * d_dot + curve * along * d, x.size)

    x0 = positions.ravel()
    data = {"i": i, "j": j}
    v = rng.standard_normal(x0.size)
    # An index per pair and one per atom, as int32; all else follows from x.
    floor = Floor(24 * x0.size + 4 * (i.size + atoms))
    return Problem("lennard_jones", fun, x0, v, gradient, hvp, floor, data=data)


def _nearest_pairs(positions, count):
    """Index arrays i < j of the ``count`` nearest pairs, sorted by i, then j."""
    tree, cutoff = cKDTree(positions), 1.0
    pairs = tree.query_pairs(cutoff, output_type="ndarray")
    while len(pairs) < count:
        cutoff *= 1.1
        pairs = tree.query_pairs(cutoff, output_type="ndarray")
    distance = np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
    nearest = pairs[np.argsort(distance)[:count]]
    i, j = nearest[np.lexsort((nearest[:, 1], nearest[:, 0]))].T
    return np.ascontiguousarray(i), np.ascontiguousarray(j)


def make_mixture(size: tuple[int, int, int] = (500, 3, 4), seed: int = 0) -> Problem:
    """Negative log-likelihood of a Gaussian mixture; ``size`` = (samples, dimensions, components).

    Unknowns: logits a_k, means mu_kd, log standard deviations s_kd. With t = (y - mu) exp(-s) and
    l_nk = a_k - sum_d (s_kd + t^2 / 2):  f = logsumexp(a) - mean_n logsumexp_k l_nk + d/2 log 2 pi.
    The partials of l are 1, t w (w = exp(-s)) and t^2 - 1; gamma = softmax_k l weighs them, and
    its tangent is gamma (density_dot - sum_k gamma density_dot).
    """
    samples, dimensions, components = size
    rng = np.random.default_rng(seed)
    centres = 2.0 * rng.standard_normal((components, dimensions))
    y = centres[rng.integers(components, size=samples)] + rng.standard_normal((samples, dimensions))
    constant = 0.5 * dimensions * np.log(2.0 * np.pi)

    def unpack(x):
        means, log_scales = x[components:].reshape(2, components, dimensions)
        return x[:components], means, log_scales

    def logsumexp(z, axis):
        shift = z.max(axis=axis, keepdims=True)
        return np.squeeze(shift, axis) + np.log(np.sum(np.exp(z - shift), axis=axis))

    def fun(x):
        a = x[:components]
        means = x[components : components * (1 + dimensions)].reshape(components, dimensions)
        log_scales = x[components * (1 + dimensions) :].reshape(components, dimensions)
        t = (y[:, None, :] - means) * np.exp(-log_scales)
        density = a - np.sum(log_scales, axis=1) - 0.5 * np.sum(t**2, axis=2)
        return logsumexp(a, 0) - np.mean(logsumexp(density, 1)) + constant

    def weights(x):
        a, means, log_scales = unpack(x)
        w = np.exp(-log_scales)
        t = (y[:, None, :] - means) * w
        density = a - np.sum(log_scales, axis=1) - 0.5 * np.sum(t**2, axis=2)
        return softmax(a), softmax(density), t, w

    def softmax(z):
        e = np.exp(z - z.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    def mean_over(gamma, partial):
        return np.einsum("nk,nkd->kd", gamma, partial).ravel() / samples

    def gradient(x):
        p, gamma, t, w = weights(x)
        by_logit = p - gamma.mean(axis=0)
        return np.concatenate([by_logit, -mean_over(gamma, t * w), -mean_over(gamma, t**2 - 1.0)])

    def hvp(x, v):
        p, gamma, t, w = weights(x)
        a_dot, means_dot, log_scales_dot = unpack(v)
        t_dot = -w * means_dot - t * log_scales_dot
        density_dot = a_dot + np.sum(t * w * means_dot + (t**2 - 1.0) * log_scales_dot, axis=2)
        gamma_dot = gamma * (density_dot - np.sum(gamma * density_dot, axis=1, keepdims=True))
        by_logit = p * (a_dot - p @ a_dot) - gamma_dot.mean(axis=0)
        by_mean = mean_over(gamma_dot, t * w) + mean_over(gamma, (t_dot - t * log_scales_dot) * w)
        by_scale = mean_over(gamma_dot, t**2 - 1.0) + mean_over(gamma, 2.0 * t * t_dot)
        return np.concatenate([by_logit, -by_mean, -by_scale])

    x0 = np.concatenate(
        [
            0.1 * rng.standard_normal(components),
            (centres + 0.5 * rng.standard_normal(centres.shape)).ravel(),
            0.2 * rng.standard_normal(centres.size),
        ]
    )
    data = {"y": y, "components": components}
    v = rng.standard_normal(x0.size)
    # The log densities are quadratic in y_n, so that with the features (1, y, y^2) both passes are
    # one matrix product each; y and gamma are what they need of the point.
    features = 1 + 2 * dimensions
    floor = Floor(
        8 * (3 * x0.size + y.size + samples * components), 4 * samples * components * features
    )
    return Problem("mixture", fun, x0, v, gradient, hvp, floor, data=data)


def make_gaussians(size: tuple[int, int, int] = (200, 3, 4), seed: int = 0) -> Problem:
    """A mixture of Gaussians with full covariances and a Wishart prior; ``size`` as for ``make_mixture``.

    One of the problems of ADBench (Srajer, Kukelova and Fitzgibbon, Optimization Methods and Software
    33, 2018). Unknowns: logits a_k, means mu_k, and of the lower triangular factor Q_k of each inverse
    covariance the logarithms s_k of the diagonal, then what is below it. With r = y_n - mu_k, t = Q r:

        l_nk = a_k + sum_i s_ki - |t|^2 / 2
        f = sum_n logsumexp_k l_nk - N logsumexp(a) + g^2/2 sum_k |Q_k|^2 - m sum_ki s_ki

    The partials of l are 1 by a, Q^T t by mu, -t r^T by Q, and 1 more by s; gamma = softmax_k l.
    """
    samples, dimensions, components = size
    rng = np.random.default_rng(seed)
    centres = 2.0 * rng.standard_normal((components, dimensions))
    y = centres[rng.integers(components, size=samples)] + rng.standard_normal((samples, dimensions))
    diagonal, (rows, columns) = np.arange(dimensions), np.tril_indices(dimensions, -1)
    g, m = 1.0, 0.0
    of_means = slice(components, components * (1 + dimensions))

    def unpack(x):
        factors = x[components * (1 + dimensions) :].reshape(components, -1)
        means = x[of_means].reshape(components, dimensions)
        return x[:components], means, factors[:, :dimensions], factors[:, dimensions:]

    def logsumexp(z, axis):
        shift = z.max(axis=axis, keepdims=True)
        return np.squeeze(shift, axis) + np.log(np.sum(np.exp(z - shift), axis=axis))

    def fun(x):
        a = x[:components]
        means = x[of_means].reshape(components, dimensions)
        factors = x[components * (1 + dimensions) :].reshape(components, -1)
        logs, below = factors[:, :dimensions], factors[:, dimensions:]
        Q = np.zeros((components, dimensions, dimensions), x.dtype)
        Q[:, diagonal, diagonal] = np.exp(logs)
        Q[:, rows, columns] = below
        t = np.einsum("kij,nkj->nki", Q, y[:, None, :] - means)
        density = a + np.sum(logs, axis=1) - 0.5 * np.sum(t**2, axis=2)
        prior = 0.5 * g**2 * (np.sum(np.exp(logs) ** 2) + np.sum(below**2)) - m * np.sum(logs)
        return np.sum(logsumexp(density, 1)) - samples * logsumexp(a, 0) + prior

    def matrices(on, below):
        Q = np.zeros((components, dimensions, dimensions), on.dtype)
        Q[:, diagonal, diagonal] = on
        Q[:, rows, columns] = below
        return Q

    def softmax(z):
        e = np.exp(z - z.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    def weights(x):
        a, means, logs, below = unpack(x)
        Q, r = matrices(np.exp(logs), below), y[:, None, :] - means
        t = np.einsum("kij,nkj->nki", Q, r)
        gamma = softmax(a + np.sum(logs, axis=1) - 0.5 * np.sum(t**2, axis=2))
        return softmax(a), gamma, Q, r, t

    def gradient(x):
        p, gamma, Q, r, t = weights(x)
        mass = gamma.sum(axis=0)
        by_mean = np.einsum("kij,ki->kj", Q, np.einsum("nk,nki->ki", gamma, t))
        by_factor = g**2 * Q - np.einsum("nk,nki,nkj->kij", gamma, t, r, optimize=True)
        on = Q[:, diagonal, diagonal] * by_factor[:, diagonal, diagonal] + mass[:, None] - m
        by_factor = np.hstack([on, by_factor[:, rows, columns]])
        return np.concatenate([mass - samples * p, by_mean.ravel(), by_factor.ravel()])

    def hvp(x, v):
        p, gamma, Q, r, t = weights(x)
        a_dot, means_dot, logs_dot, below_dot = unpack(v)
        Q_dot = matrices(Q[:, diagonal, diagonal] * logs_dot, below_dot)
        t_dot = np.einsum("kij,nkj->nki", Q_dot, r) - np.einsum("kij,kj->ki", Q, means_dot)
        density_dot = a_dot + np.sum(logs_dot, axis=1) - np.sum(t * t_dot, axis=2)
        gamma_dot = gamma * (density_dot - np.sum(gamma * density_dot, axis=1, keepdims=True))
        mass_dot = gamma_dot.sum(axis=0)
        pulled = np.einsum("nk,nki->ki", gamma, t)
        pulled_dot = np.einsum("nk,nki->ki", gamma_dot, t) + np.einsum("nk,nki->ki", gamma, t_dot)
        by_mean = np.einsum("kij,ki->kj", Q_dot, pulled) + np.einsum("kij,ki->kj", Q, pulled_dot)
        outer = np.einsum("nk,nki,nkj->kij", gamma, t, r, optimize=True)
        outer_dot = np.einsum("nk,nki,nkj->kij", gamma_dot, t, r, optimize=True)
        outer_dot += np.einsum("nk,nki,nkj->kij", gamma, t_dot, r, optimize=True)
        outer_dot -= pulled[:, :, None] * means_dot[:, None, :]
        by_factor, its_dot = g**2 * Q - outer, g**2 * Q_dot - outer_dot
        on = (Q_dot * by_factor + Q * its_dot)[:, diagonal, diagonal] + mass_dot[:, None]
        by_factor = np.hstack([on, its_dot[:, rows, columns]])
        by_logit = mass_dot - samples * p * (a_dot - p @ a_dot)
        return np.concatenate([by_logit, by_mean.ravel(), by_factor.ravel()])

    x0 = np.concatenate(
        [
            0.1 * rng.standard_normal(components),
            (centres + 0.5 * rng.standard_normal(centres.shape)).ravel(),
            0.2 * rng.standard_normal(components * (dimensions + rows.size)),
        ]
    )
    data = {"y": y, "components": components, "g": g}
    v = rng.standard_normal(x0.size)
    # As for `make_mixture`, with the products of two coordinates among the features.
    features = (dimensions + 1) * (dimensions + 2) // 2
    floor = Floor(
        8 * (3 * x0.size + y.size + samples * components), 4 * samples * components * features
    )
    return Problem("gaussians", fun, x0, v, gradient, hvp, floor, data=data)


def make_transcendental(size: int = 5, seed: int = 0) -> Problem:
    """Five variables a .. e (``size`` must be 5) through most elementary functions.

    f = exp(a b) sin(c) + tanh(e) log(1 + d^2) + cos(d e) sqrt(1 + a^2); the Hessian is written out.
    """
    if size != 5:
        raise ValueError(f"the transcendental problem has 5 variables, not {size}")

    def fun(x):
        a, b, c, d, e = x
        return (
            np.exp(a * b) * np.sin(c)
            + np.tanh(e) * np.log(1.0 + d**2)
            + np.cos(d * e) * np.sqrt(1.0 + a**2)
        )

    def gradient(x):
        a, b, c, d, e = x
        E, S, t, r = np.exp(a * b), np.sin(c), np.tanh(e), np.sqrt(1.0 + a**2)
        k, q = np.cos(d * e), np.sin(d * e)
        return np.array(
            [
                b * E * S + k * a / r,
                a * E * S,
                E * np.cos(c),
                t * 2.0 * d / (1.0 + d**2) - e * q * r,
                (1.0 - t**2) * np.log(1.0 + d**2) - d * q * r,
            ]
        )

    def hessian(x):
        a, b, c, d, e = x
        E, S, C = np.exp(a * b), np.sin(c), np.cos(c)
        r, k, q = np.sqrt(1.0 + a**2), np.cos(d * e), np.sin(d * e)
        t = np.tanh(e)
        u, one = 1.0 - t**2, 1.0 + d**2
        ab, ac, ad, ae = (1.0 + a * b) * E * S, b * E * C, -e * q * a / r, -d * q * a / r
        bc, de = a * E * C, u * 2.0 * d / one - q * r - d * e * k * r
        dd = 2.0 * t * (1.0 - d**2) / one**2 - e**2 * k * r
        ee = -2.0 * t * u * np.log(one) - d**2 * k * r
        return np.array(
            [
                [b**2 * E * S + k / r**3, ab, ac, ad, ae],
                [ab, a**2 * E * S, bc, 0.0, 0.0],
                [ac, bc, -E * S, 0.0, 0.0],
                [ad, 0.0, 0.0, dd, de],
                [ae, 0.0, 0.0, de, ee],
            ]
        )

    def hvp(x, v):
        return hessian(x) @ v

    rng = np.random.default_rng(seed)
    x0 = rng.uniform(0.3, 1.5, 5)
    data = {"hessian": hessian}
    v = rng.standard_normal(5)
    floor = Floor(8 * (25 + 2 * 5))  # the Hessian as a matrix
    return Problem("transcendental", fun, x0, v, gradient, hvp, floor, data=data)


def make_heat(size: tuple[int, int] = (100, 20), seed: int = 0) -> Problem:
    """Initial temperature of a reacting rod from final data; ``size`` = (points, time steps).

    One explicit step, the ends held: u_i += r (u_{i+1} - 2 u_i + u_{i-1}) + h u_i (1 - u_i^2), T
    times from u = x; f = 1/2 |u_T - target|^2, the target being the one argument. The adjoint runs
    l_t = A_t^T l_{t+1}, A_t the tridiagonal Jacobian of a step, and its tangent adds the term
    -6 h u_t u_dot_t l_{t+1} of the only nonlinear part, u^3.
    """
    points, steps = size
    r, h = 0.2, 0.05

    def fun(x, target):
        u = x
        for _ in range(steps):
            inner = u[1:-1]
            flow = r * (u[2:] - 2.0 * inner + u[:-2]) + h * inner * (1.0 - inner**2)
            u = np.concatenate((u[:1], inner + flow, u[-1:]))
        return 0.5 * np.sum((u - target) ** 2)

    def history(x):
        states = [x]
        for _ in range(steps):
            u = states[-1]
            states.append(u.copy())
            states[-1][1:-1] += r * (u[2:] - 2.0 * u[1:-1] + u[:-2])
            states[-1][1:-1] += h * u[1:-1] * (1.0 - u[1:-1] ** 2)
        return states

    def jacobian(u, u_dot):
        out = u_dot.astype(np.result_type(u, u_dot))
        out[1:-1] += r * (u_dot[2:] - 2.0 * u_dot[1:-1] + u_dot[:-2])
        out[1:-1] += h * (1.0 - 3.0 * u[1:-1] ** 2) * u_dot[1:-1]
        return out

    def transposed(u, u_bar):
        out = u_bar.astype(np.result_type(u, u_bar))
        inner = u_bar[1:-1]
        out[1:-1] += h * (1.0 - 3.0 * u[1:-1] ** 2) * inner - 2.0 * r * inner
        out[2:] += r * inner
        out[:-2] += r * inner
        return out

    def gradient(x, target):
        states = history(x)
        u_bar = states.pop() - target
        for u in states[::-1]:
            u_bar = transposed(u, u_bar)
        return u_bar

    def hvp(x, v, target):
        states, tangents = history(x), [v]
        for u in states[:-1]:
            tangents.append(jacobian(u, tangents[-1]))
        u_bar, u_bar_dot = states.pop() - target, tangents.pop()
        for u, u_dot in zip(states[::-1], tangents[::-1], strict=True):
            u_bar_dot = transposed(u, u_bar_dot)
            u_bar_dot[1:-1] -= 6.0 * h * (u * u_dot * u_bar)[1:-1]
            u_bar = transposed(u, u_bar)
        return u_bar_dot

    rng = np.random.default_rng(seed)
    s = np.linspace(0.0, 1.0, points)
    target = np.sin(np.pi * s) + 0.05 * rng.standard_normal(points)
    x0 = np.sin(3.0 * np.pi * s) + 0.3 * rng.standard_normal(points)
    data = {"steps": steps, "r": r, "h": h}
    v = rng.standard_normal(points)
    # The state and the adjoint of each step, and the tangents written and read again; their
    # linear maps are a few operations on these.
    floor = Floor(8 * points * (4 * steps + 2))
    return Problem("heat", fun, x0, v, gradient, hvp, floor, args=(target,), data=data)


MAKERS: dict[str, Callable[..., Problem]] = {
    "rosenbrock": make_rosenbrock,
    "logistic": make_logistic,
    "mlp": make_mlp,
    "surface": make_surface,
    "lennard_jones": make_lennard_jones,
    "mixture": make_mixture,
    "gaussians": make_gaussians,
    "transcendental": make_transcendental,
    "heat": make_heat,
}


SUITE: dict[str, tuple[str, Any]] = {
    "5 variables": ("transcendental", 5),
    "Rosenbrock, n = 10": ("rosenbrock", 10),
    "Rosenbrock, n = 10^3": ("rosenbrock", 1000),
    "Rosenbrock, n = 10^6": ("rosenbrock", 10**6),
    "Rosenbrock, n = 10^7": ("rosenbrock", 10**7),
    "logistic, 1000 x 20": ("logistic", (1000, 20)),
    "logistic, 20000 x 500": ("logistic", (20_000, 500)),
    "MLP 10-16-1, batch 64": ("mlp", ((10, 16, 1), 64)),
    "MLP 784-256-128-10, batch 512": ("mlp", ((784, 256, 128, 10), 512)),
    "surface, 1000 x 1000": ("surface", (1000, 1000)),
    "Lennard-Jones, 10^4 atoms": ("lennard_jones", (10_000, 40)),
    "mixture, 1000 x 10, K = 25": ("mixture", (1000, 10, 25)),
    "Gaussians, 1000 x 2, K = 5": ("gaussians", (1000, 2, 5)),
    "Gaussians, 1000 x 10, K = 25": ("gaussians", (1000, 10, 25)),
}
"""What the benchmarks run, by the label of its row: the key in ``MAKERS``, and the size."""


def make(label: str, seed: int = 0) -> Problem:
    """The problem of one row of ``SUITE``."""
    name, size = SUITE[label]
    return MAKERS[name](size, seed)


def value_floor(problem: Problem) -> Floor:
    """What the value at a new x moves and multiplies at least: x and the data, once."""
    data = (*problem.data.values(), *problem.args)
    moved = problem.x0.nbytes + sum(part.nbytes for part in data if isinstance(part, np.ndarray))
    if problem.name != "mlp":
        return Floor(moved)
    weights = sum(n_in * n_out for n_in, n_out in pairwise(problem.data["widths"]))
    return Floor(moved, 2 * problem.data["labels"].size * weights)


def small(seed: int = 0) -> tuple[Problem, ...]:
    """One instance of each problem, with 5 to 60 unknowns: the size at which tests run."""
    sizes = {
        "rosenbrock": 20,
        "logistic": (60, 7),
        "mlp": ((4, 3, 3, 2), 9),
        "surface": (7, 8),
        "lennard_jones": (8, 7),
        "mixture": (30, 2, 3),
        "gaussians": (30, 2, 3),
        "transcendental": 5,
        "heat": (12, 9),
    }
    return tuple(MAKERS[name](size, seed) for name, size in sizes.items())
