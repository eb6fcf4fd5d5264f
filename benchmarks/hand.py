"""Products derived by hand: the floor that the package's own products are measured against.

``prepare(problem, x, threads=1)`` does, once, everything that does not depend on v, and returns
``product(v, out)``, which writes H(x) v into ``out``. Both are flat float64 arrays. The formulas
are those of ``benchmarks.problems``, rearranged for few bytes and few operations per product:

- stencils pull: each output element is computed once from its neighbours, no scatter;
- what is cheaper to recompute than to load is recomputed (Rosenbrock keeps nothing but x);
- data are read once per product where a row fits the cache (logistic), and the dense parts go
  through BLAS (mlp, mixture);
- loops count from zero over slices: numba wraps an index that may be negative, and a loop with
  such an index is not vectorised (Rosenbrock: 2.0 ms instead of 0.5 at n = 10^6).

With ``threads`` > 1 the kernels of ``PARALLEL`` cut their outermost loop into that many equal
pieces under ``prange``; the others run as with one thread, but BLAS calls obey BLAS's own setting.
Buffers belong to the product: one product must not run in two threads at once.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numba import njit, prange
from scipy.linalg.blas import dgemm

__all__ = ["PARALLEL", "prepare", "prepare_copy"]

Product = Callable[[np.ndarray, np.ndarray], np.ndarray]

PARALLEL = ("rosenbrock", "logistic", "surface", "lennard_jones")

_kernel = njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})
_parallel = njit(parallel=True, cache=True)


def prepare(problem, x: np.ndarray, threads: int = 1) -> Product:
    """Return ``product(v, out)`` of the hand-derived Hessian of ``problem`` at ``x``."""
    x = np.array(x, dtype=np.float64)
    maker = _MAKERS[problem.name]
    if problem.name in PARALLEL:
        return maker(problem, x, threads)
    return maker(problem, x)


def prepare_copy(n: int, threads: int = 1) -> Callable[[], None]:
    """Return ``copy()``, which moves the 24 n bytes of x, v and the result of a product.

    It copies 3 n / 2 doubles, so that it meets the caches with the footprint of the product.
    """
    source, target = np.ones(3 * n // 2), np.empty(3 * n // 2)

    def serial():
        np.copyto(target, source)

    def parallel():
        _copy_parallel(source, target, threads)

    return serial if threads == 1 else parallel


@_kernel
def _copy_piece(source, target):
    for i in range(target.size):
        target[i] = source[i]


@_parallel
def _copy_parallel(source, target, threads):
    n = source.size
    for k in prange(threads):
        lo, hi = k * n // threads, (k + 1) * n // threads
        _copy_piece(source[lo:hi], target[lo:hi])


@_kernel
def _rosenbrock_piece(x, v, out, lo, hi):
    n = x.size
    if lo == 0:
        out[0] = (1200.0 * x[0] * x[0] - 400.0 * x[1] + 2.0) * v[0] - 400.0 * x[0] * v[1]
    first, last = max(lo, 1), min(hi, n - 1)
    y, w, inner = x[first - 1 : last + 1], v[first - 1 : last + 1], out[first:last]
    for i in range(inner.size):
        diagonal = 1200.0 * y[i + 1] * y[i + 1] - 400.0 * y[i + 2] + 202.0
        inner[i] = diagonal * w[i + 1] - 400.0 * (y[i] * w[i] + y[i + 1] * w[i + 2])
    if hi == n:
        out[n - 1] = 200.0 * v[n - 1] - 400.0 * x[n - 2] * v[n - 2]


@_parallel
def _rosenbrock_parallel(x, v, out, threads):
    n = x.size
    for k in prange(threads):
        _rosenbrock_piece(x, v, out, k * n // threads, (k + 1) * n // threads)


def _rosenbrock(problem, x, threads):
    def serial(v, out):
        _rosenbrock_piece(x, v, out, 0, x.size)
        return out

    def parallel(v, out):
        _rosenbrock_parallel(x, v, out, threads)
        return out

    return serial if threads == 1 else parallel


@_kernel
def _logistic_rows(X, curvature, v, out):
    """Add sum_i curvature_i (X_i.v) X_i: one stream through X, each row used while in cache.

    Four rows at a time would save loads of ``out``, but took twice as long (four streams).
    """
    for i in range(curvature.size):
        row = X[i]
        s = 0.0
        for j in range(row.size):
            s += row[j] * v[j]
        s *= curvature[i]
        for j in range(row.size):
            out[j] += s * row[j]


@_parallel
def _logistic_parallel(X, curvature, v, partial, threads):
    m = curvature.size
    for k in prange(threads):
        lo, hi = k * m // threads, (k + 1) * m // threads
        partial[k, :] = 0.0
        _logistic_rows(X[lo:hi], curvature[lo:hi], v, partial[k])


def _logistic(problem, x, threads):
    X, y, l2 = (problem.data[key] for key in ("X", "y", "l2"))
    s = 0.5 * (1.0 - np.tanh(0.5 * y * (X @ x)))
    curvature = s * (1.0 - s) / y.size
    partial = np.empty((threads, x.size))

    def serial(v, out):
        np.multiply(v, l2, out=out)
        _logistic_rows(X, curvature, v, out)
        return out

    def parallel(v, out):
        _logistic_parallel(X, curvature, v, partial, threads)
        np.multiply(v, l2, out=out)
        for part in partial:
            out += part
        return out

    return serial if threads == 1 else parallel


def _gemm(a, b, c, beta=0.0, trans_a=False, trans_b=False):
    """c = op(a) op(b) + beta c in place, all C-ordered: BLAS sees the transposed product."""
    dgemm(1.0, b.T, a.T, beta, c.T, trans_a=trans_b, trans_b=trans_a, overwrite_c=True)


@_kernel
def _hidden_tangent(a_dot, c, slope):
    for i in range(a_dot.shape[0]):
        for j in range(a_dot.shape[1]):
            a_dot[i, j] = slope[i, j] * (a_dot[i, j] + c[j])


@_kernel
def _output_adjoint(z_dot, c, p, bias_out):
    """z_dot becomes p (z_dot - p.z_dot) / m, row by row; its column sums go to ``bias_out``."""
    m, n = z_dot.shape
    bias_out[:] = 0.0
    for i in range(m):
        mean = 0.0
        for j in range(n):
            z_dot[i, j] += c[j]
            mean += p[i, j] * z_dot[i, j]
        for j in range(n):
            z_dot[i, j] = p[i, j] * (z_dot[i, j] - mean) / m
            bias_out[j] += z_dot[i, j]


@_kernel
def _hidden_adjoint(d_dot, slope, curve, a_dot, bias_out):
    bias_out[:] = 0.0
    for i in range(d_dot.shape[0]):
        for j in range(d_dot.shape[1]):
            d_dot[i, j] = slope[i, j] * d_dot[i, j] + curve[i, j] * a_dot[i, j]
            bias_out[j] += d_dot[i, j]


def _mlp(problem, x):
    """Two gemm per weight matrix and pass, less those that the constant input makes zero."""
    X, labels, widths, l2 = (problem.data[key] for key in ("X", "labels", "widths", "l2"))
    batch, depth = labels.size, len(widths) - 1
    slices, at = [], 0
    for n_in, n_out in pairwise(widths):
        slices.append((slice(at, at + n_in * n_out), (n_in, n_out)))
        at += n_in * n_out
        slices.append((slice(at, at + n_out), (n_out,)))
        at += n_out

    def unpack(flat):
        parts = [flat[where].reshape(shape) for where, shape in slices]
        return parts[::2], parts[1::2]

    W, b = unpack(x)
    a = [X]
    for k in range(depth - 1):
        a.append(np.tanh(a[k] @ W[k] + b[k]))
    z = a[-1] @ W[-1] + b[-1]
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    slope = [1.0 - activation**2 for activation in a]
    d, curve = [np.empty(0)] * depth, [np.empty(0)] * depth
    d[-1] = (p - np.eye(widths[-1])[labels]) / batch
    for k in range(depth - 1, 0, -1):
        pulled = d[k] @ W[k].T
        d[k - 1] = pulled * slope[k]
        curve[k] = -2.0 * pulled * a[k]
    a_dot = [np.empty((batch, width)) for width in widths]
    d_dot = [a_dot[-1] if k == depth - 1 else np.empty_like(a_dot[k + 1]) for k in range(depth)]

    scaled = np.empty_like(x)

    def product(v, out):
        V, c = unpack(v)
        W_out, b_out = unpack(out)
        for k in range(depth):
            _gemm(a[k], V[k], a_dot[k + 1])
            if k > 0:
                _gemm(a_dot[k], W[k], a_dot[k + 1], beta=1.0)
            if k < depth - 1:
                _hidden_tangent(a_dot[k + 1], c[k], slope[k + 1])
        _output_adjoint(a_dot[-1], c[-1], p, b_out[-1])
        for k in range(depth - 1, -1, -1):
            _gemm(a[k], d_dot[k], W_out[k], trans_a=True)
            if k > 0:
                _gemm(a_dot[k], d[k], W_out[k], beta=1.0, trans_a=True)
                _gemm(d_dot[k], W[k], d_dot[k - 1], trans_b=True)
                _gemm(d[k], V[k], d_dot[k - 1], beta=1.0, trans_b=True)
                _hidden_adjoint(d_dot[k - 1], slope[k], curve[k], a_dot[k], b_out[k - 1])
        np.add(out, np.multiply(v, l2, out=scaled), out=out)
        return out

    return product


@_kernel
def _surface_cells(top, bottom, pp, pq, qq, p_bar, q_bar):
    """Adjoints of both diagonals in a row of cells, between two rows of unknowns."""
    n = top.size
    p_bar[0] = pp[0] * bottom[0] - pq[0] * top[0]
    q_bar[0] = pq[0] * bottom[0] - qq[0] * top[0]
    for j in range(1, n):
        p = bottom[j] - top[j - 1]
        q = bottom[j - 1] - top[j]
        p_bar[j] = pp[j] * p + pq[j] * q
        q_bar[j] = pq[j] * p + qq[j] * q
    p_bar[n] = pq[n] * bottom[n - 1] - pp[n] * top[n - 1]
    q_bar[n] = qq[n] * bottom[n - 1] - pq[n] * top[n - 1]


@_kernel
def _surface_piece(v, pp, pq, qq, edge, rows, out, lo, hi):
    """Rows lo .. hi of the unknowns; ``rows`` holds the cells' adjoints above and below one."""
    m, n = v.shape
    top = v[lo - 1] if lo > 0 else edge
    _surface_cells(top, v[lo], pp[lo], pq[lo], qq[lo], rows[lo % 2, 0], rows[lo % 2, 1])
    for i in range(lo, hi):
        above, below = rows[i % 2], rows[(i + 1) % 2]
        bottom = v[i + 1] if i + 1 < m else edge
        _surface_cells(v[i], bottom, pp[i + 1], pq[i + 1], qq[i + 1], below[0], below[1])
        for j in range(n):
            out[i, j] = above[0, j] - below[0, j + 1] + above[1, j + 1] - below[1, j]


@_parallel
def _surface_parallel(v, pp, pq, qq, edge, rows, out, threads):
    m = v.shape[0]
    for k in prange(threads):
        lo, hi = k * m // threads, (k + 1) * m // threads
        _surface_piece(v, pp, pq, qq, edge, rows[k], out, lo, hi)


def _surface(problem, x, threads):
    """Three numbers per cell: the 2 x 2 matrix from (p_dot, q_dot) to the adjoints' tangents."""
    frame, k = problem.data["frame"], problem.data["k"]
    inner = (frame.shape[0] - 2, frame.shape[1] - 2)
    z = np.pad(x.reshape(inner), 1) + frame
    p, q = z[1:, 1:] - z[:-1, :-1], z[1:, :-1] - z[:-1, 1:]
    s = np.sqrt(1.0 + k * (p**2 + q**2))
    pp = 0.5 * (1.0 + k * q**2) / s**3
    pq = -0.5 * k * p * q / s**3
    qq = 0.5 * (1.0 + k * p**2) / s**3
    edge = np.zeros(inner[1])
    rows = np.empty((threads, 2, 2, inner[1] + 1))

    def serial(v, out):
        v, grid = v.reshape(inner), out.reshape(inner)
        _surface_piece(v, pp, pq, qq, edge, rows[0], grid, 0, inner[0])
        return out

    def parallel(v, out):
        v, grid = v.reshape(inner), out.reshape(inner)
        _surface_parallel(v, pp, pq, qq, edge, rows, grid, threads)
        return out

    return serial if threads == 1 else parallel


@_kernel
def _lennard_jones_push(start, j, d, slope, curve, diagonal, v, out):
    """Each pair once: its block goes to both atoms."""
    n = start.size - 1
    for i in range(n):
        v0, v1, v2 = v[i, 0], v[i, 1], v[i, 2]
        for a in range(3):
            out[i, a] = diagonal[i, a, 0] * v0 + diagonal[i, a, 1] * v1 + diagonal[i, a, 2] * v2
    for i in range(n):
        v0, v1, v2 = v[i, 0], v[i, 1], v[i, 2]
        s0, s1, s2 = 0.0, 0.0, 0.0
        for e in range(start[i], start[i + 1]):
            k = j[e]
            w0, w1, w2 = v[k, 0], v[k, 1], v[k, 2]
            d0, d1, d2 = d[e, 0], d[e, 1], d[e, 2]
            to_i = curve[e] * (d0 * w0 + d1 * w1 + d2 * w2)
            to_k = curve[e] * (d0 * v0 + d1 * v1 + d2 * v2)
            s0 += slope[e] * w0 + to_i * d0
            s1 += slope[e] * w1 + to_i * d1
            s2 += slope[e] * w2 + to_i * d2
            out[k, 0] -= slope[e] * v0 + to_k * d0
            out[k, 1] -= slope[e] * v1 + to_k * d1
            out[k, 2] -= slope[e] * v2 + to_k * d2
        out[i, 0] -= s0
        out[i, 1] -= s1
        out[i, 2] -= s2


@_parallel
def _lennard_jones_pull(start, j, d, slope, curve, diagonal, v, out, threads):
    """Each pair twice: an atom sums over all its neighbours, and nothing is shared."""
    n = start.size - 1
    for piece in prange(threads):
        for i in range(piece * n // threads, (piece + 1) * n // threads):
            v0, v1, v2 = v[i, 0], v[i, 1], v[i, 2]
            s0 = diagonal[i, 0, 0] * v0 + diagonal[i, 0, 1] * v1 + diagonal[i, 0, 2] * v2
            s1 = diagonal[i, 1, 0] * v0 + diagonal[i, 1, 1] * v1 + diagonal[i, 1, 2] * v2
            s2 = diagonal[i, 2, 0] * v0 + diagonal[i, 2, 1] * v1 + diagonal[i, 2, 2] * v2
            for e in range(start[i], start[i + 1]):
                w0, w1, w2 = v[j[e], 0], v[j[e], 1], v[j[e], 2]
                along = curve[e] * (d[e, 0] * w0 + d[e, 1] * w1 + d[e, 2] * w2)
                s0 -= slope[e] * w0 + along * d[e, 0]
                s1 -= slope[e] * w1 + along * d[e, 1]
                s2 -= slope[e] * w2 + along * d[e, 2]
            out[i, 0] = s0
            out[i, 1] = s1
            out[i, 2] = s2


def _lennard_jones(problem, x, threads):
    """H in 3 x 3 blocks: minus M_ij = slope I + curve d d^T off the diagonal, their sums on it."""
    i, j = problem.data["i"], problem.data["j"]
    atoms = x.size // 3
    if threads > 1:
        i, j = np.concatenate([i, j]), np.concatenate([j, i])
    order = np.argsort(i, kind="stable")
    i, j = i[order], j[order]
    start = np.searchsorted(i, np.arange(atoms + 1))
    d = x.reshape(-1, 3)[i] - x.reshape(-1, 3)[j]
    u = np.sum(d**2, axis=1)
    slope, curve = 8.0 * (3.0 * u**-4 - 6.0 * u**-7), 16.0 * (42.0 * u**-8 - 12.0 * u**-5)
    blocks = slope[:, None, None] * np.eye(3) + curve[:, None, None] * d[:, :, None] * d[:, None, :]
    diagonal = np.zeros((atoms, 3, 3))
    np.add.at(diagonal, i, blocks)
    if threads == 1:
        np.add.at(diagonal, j, blocks)

    def serial(v, out):
        grid = out.reshape(-1, 3)
        _lennard_jones_push(start, j, d, slope, curve, diagonal, v.reshape(-1, 3), grid)
        return out

    def parallel(v, out):
        v, grid = v.reshape(-1, 3), out.reshape(-1, 3)
        _lennard_jones_pull(start, j, d, slope, curve, diagonal, v, grid, threads)
        return out

    return serial if threads == 1 else parallel


@_kernel
def _softmax_tangent(z_dot, gamma):
    """z_dot becomes gamma (z_dot - gamma.z_dot), row by row."""
    for i in range(z_dot.shape[0]):
        mean = 0.0
        for k in range(z_dot.shape[1]):
            mean += gamma[i, k] * z_dot[i, k]
        for k in range(z_dot.shape[1]):
            z_dot[i, k] = gamma[i, k] * (z_dot[i, k] - mean)


def _mixture(problem, x):
    """Two gemm: l_nk is a quadratic in y_n, so features (1, y, y^2) carry all that meets the data.

    The sums of gamma, gamma t and gamma t^2 over the data, which v multiplies, are taken once.
    """
    y, components = problem.data["y"], problem.data["components"]
    samples, dimensions = y.shape

    def unpack(flat):
        means, log_scales = flat[components:].reshape(2, components, dimensions)
        return flat[:components], means, log_scales

    a, means, log_scales = unpack(x)
    centre = y.mean(axis=0)
    mu, w = means - centre, np.exp(-log_scales)
    w2 = w**2
    t = (y[:, None, :] - means) * w
    density = a - np.sum(log_scales, axis=1) - 0.5 * np.sum(t**2, axis=2)
    gamma = np.exp(density - density.max(axis=1, keepdims=True))
    gamma /= gamma.sum(axis=1, keepdims=True)
    p = np.exp(a - a.max())
    p /= p.sum()
    mass = gamma.sum(axis=0)[:, None]
    first = np.einsum("nk,nkd->kd", gamma, t)
    second = np.einsum("nk,nkd->kd", gamma, t**2)
    features = np.hstack([np.ones((samples, 1)), y - centre, (y - centre) ** 2])
    coefficients = np.empty((components, 1 + 2 * dimensions))
    sums = np.empty_like(coefficients)
    gamma_dot = np.empty_like(gamma)

    def product(v, out):
        a_dot, mu_dot, s_dot = unpack(v)
        linear = w2 * (mu_dot - 2.0 * mu * s_dot)
        constant = w2 * mu * (mu * s_dot - mu_dot) - s_dot
        coefficients[:, 0] = a_dot + constant.sum(axis=1)
        coefficients[:, 1 : 1 + dimensions] = linear
        coefficients[:, 1 + dimensions :] = w2 * s_dot
        _gemm(features, coefficients, gamma_dot, trans_b=True)
        _softmax_tangent(gamma_dot, gamma)
        _gemm(gamma_dot, features, sums, trans_a=True)
        zeroth, y1, y2 = sums[:, :1], sums[:, 1 : 1 + dimensions], sums[:, 1 + dimensions :]
        by_mean = w2 * (y1 - mu * zeroth) - w2 * mu_dot * mass - 2.0 * w * s_dot * first
        by_scale = w2 * (y2 - 2.0 * mu * y1 + mu**2 * zeroth) - zeroth
        by_scale -= 2.0 * (w * mu_dot * first + s_dot * second)
        a_out, mu_out, s_out = unpack(out)
        a_out[:] = p * (a_dot - p @ a_dot) - zeroth[:, 0] / samples
        np.divide(by_mean, -samples, out=mu_out)
        np.divide(by_scale, -samples, out=s_out)
        return out

    return product


@_kernel
def _dense_product(H, v, out):
    for i in range(H.shape[0]):
        s = 0.0
        for j in range(H.shape[1]):
            s += H[i, j] * v[j]
        out[i] = s


def _transcendental(problem, x):
    H = problem.data["hessian"](x)

    def product(v, out):
        _dense_product(H, v, out)
        return out

    return product


@_kernel
def _heat_product(v, diagonal, curve, r, tangents, out):
    """Tangents forward, then their adjoint; ``out`` keeps its ends apart as ``left``, ``right``."""
    steps, n = diagonal.shape
    tangents[0] = v
    for t in range(steps):
        u, nxt = tangents[t], tangents[t + 1]
        nxt[0], nxt[n - 1] = u[0], u[n - 1]
        for i in range(1, n - 1):
            nxt[i] = diagonal[t, i] * u[i] + r * (u[i - 1] + u[i + 1])
    left, right = tangents[steps, 0], tangents[steps, n - 1]
    u_bar, spare = tangents[steps], out
    u_bar[0] = u_bar[n - 1] = 0.0
    spare[0] = spare[n - 1] = 0.0
    for t in range(steps - 1, -1, -1):
        u = tangents[t]
        left += r * u_bar[1]
        right += r * u_bar[n - 2]
        for i in range(1, n - 1):
            spare[i] = (
                diagonal[t, i] * u_bar[i] + r * (u_bar[i - 1] + u_bar[i + 1]) + curve[t, i] * u[i]
            )
        u_bar, spare = spare, u_bar
    out[1 : n - 1] = u_bar[1 : n - 1]
    out[0], out[n - 1] = left, right


def _heat(problem, x):
    """Two numbers per point and step: the step's diagonal, and its slope against the adjoint."""
    (target,) = problem.args
    steps, r, h = (problem.data[key] for key in ("steps", "r", "h"))
    u, diagonal, curve = x, np.empty((steps, x.size)), np.empty((steps, x.size))
    for t in range(steps):
        diagonal[t] = 1.0 - 2.0 * r + h * (1.0 - 3.0 * u**2)
        curve[t] = -6.0 * h * u
        inner = u[1:-1]
        flow = r * (u[2:] - 2.0 * inner + u[:-2]) + h * inner * (1.0 - inner**2)
        u = np.concatenate((u[:1], inner + flow, u[-1:]))
    u_bar = u - target
    for t in range(steps - 1, -1, -1):
        curve[t] *= u_bar
        inner = np.pad(u_bar[1:-1], 1)
        ends = u_bar - inner
        u_bar = diagonal[t] * inner + ends
        u_bar[1:] += r * inner[:-1]
        u_bar[:-1] += r * inner[1:]
    tangents = np.empty((steps + 1, x.size))

    def product(v, out):
        _heat_product(v, diagonal, curve, r, tangents, out)
        return out

    return product


_MAKERS = {
    "rosenbrock": _rosenbrock,
    "logistic": _logistic,
    "mlp": _mlp,
    "surface": _surface,
    "lennard_jones": _lennard_jones,
    "mixture": _mixture,
    "transcendental": _transcendental,
    "heat": _heat,
}
