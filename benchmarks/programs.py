"""Programs of scientists beside the suite: what a first product must serve, next to the peers.

``PROGRAMS`` maps a label to a ``Program``. Its function is what a user writes: plain NumPy with loops
in Python where there are steps, or, by its name in ``benchmarks.loops``, loops for Numba. ``form`` is
the same function as a user of JAX or autograd writes it: in whole arrays, steps by ``fold``, which is
``lax.scan`` in JAX. ``over`` rebinds the words ``np``, ``logsumexp`` and ``fold`` of such a text; where
the user's NumPy runs there as it stands, it is the form.

Forms and functions agree to rounding: ``tests/test_problems.py`` compares them.
"""

import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy
import numpy as np
from scipy.special import logsumexp

__all__ = ["PROGRAMS", "Program", "fold", "over"]


@dataclass(frozen=True)
class Program:
    """A scalar function, its point and arguments, and its text for the peers."""

    data: Callable[[np.random.Generator], tuple]
    """``data(rng) -> x0, *args``."""
    text: Callable | str
    """The user's function, or its name in ``benchmarks.loops``."""
    form: Callable | None = None
    """The function for the peers, if the user's own does not run there."""

    @property
    def fun(self) -> Callable:
        """The function as the user wrote it; Numba is imported for loops alone."""
        if not isinstance(self.text, str):
            return self.text
        from benchmarks import loops

        return getattr(loops, self.text)

    def make(self) -> tuple:
        """``x0, v, args``."""
        x0, *args = self.data(np.random.default_rng(0))
        return x0, np.cos(np.arange(x0.size)), tuple(args)


def fold(step, state, rows):
    """The state after ``step(state, row)`` for each row."""
    for row in rows:
        state = step(state, row)
    return state


def over(fun: Callable, **words) -> Callable:
    """The function with other meanings of global words, as ``np=jax.numpy``."""
    if not words.keys() & set(fun.__code__.co_names):
        return fun
    return types.FunctionType(fun.__code__, fun.__globals__ | words, fun.__name__, fun.__defaults__)


# --- steps in time --------------------------------------------------------------------------------


def waves(x):
    y = x
    for k in range(12):
        y = y * np.cos(0.1 * k * x) + x**2 / (1 + y * y)
    return np.sum(y)


def orbit_form(p, steps):
    h = 0.05

    def step(state, k):
        x, u = state
        u = u - h * x / np.sum(x * x) ** 1.5
        return x + h * u, u

    x, _ = fold(step, (p[:2], p[2:]), numpy.arange(steps))
    return (x[0] + 1.0) ** 2 + (x[1] - 0.1) ** 2


def n_body_form(z, steps):
    h = 0.01

    def step(state, k):
        x, v = state
        d = x[None] - x[:, None]
        v = v + h * np.sum(d / (0.01 + np.sum(d * d, axis=2, keepdims=True)) ** 1.5, axis=1)
        return x + h * v, v

    x, _ = fold(step, tuple(z.reshape(2, -1, 3)), numpy.arange(steps))
    return np.sum(x * x)


def epidemic(p, counts):
    beta, gamma, infected = np.exp(p[0]), np.exp(p[1]), np.exp(p[2])
    susceptible, loss = 1.0 - infected, 0.0
    for count in counts:
        new, healed = 0.5 * beta * susceptible * infected, 0.5 * gamma * infected
        susceptible, infected = susceptible - new, infected + new - healed
        loss = loss + new - count * np.log(new)
    return loss


def epidemic_form(p, counts):
    beta, gamma, infected = np.exp(p[0]), np.exp(p[1]), np.exp(p[2])

    def step(state, count):
        susceptible, infected, loss = state
        new, healed = 0.5 * beta * susceptible * infected, 0.5 * gamma * infected
        return susceptible - new, infected + new - healed, loss + new - count * np.log(new)

    return fold(step, (1.0 - infected, infected, 0.0), counts)[2]


def kalman(p, observed):
    F, H = np.array([[1.0, 0.1], [0.0, 1.0]]), np.array([1.0, 0.0])
    Q = np.exp(p[0]) * np.array([[1e-3, 5e-3], [5e-3, 0.1]])
    mean, P, loss = np.zeros(2), np.eye(2), 0.0
    for y in observed:
        mean, P = F @ mean, F @ P @ F.T + Q
        s, innovation = H @ P @ H + np.exp(p[1]), y - H @ mean
        gain = P @ H / s
        mean, P = mean + gain * innovation, P - np.outer(gain, H @ P)
        loss = loss + 0.5 * (np.log(s) + innovation**2 / s)
    return loss


def kalman_form(p, observed):
    F, H = numpy.array([[1.0, 0.1], [0.0, 1.0]]), numpy.array([1.0, 0.0])
    Q = np.exp(p[0]) * numpy.array([[1e-3, 5e-3], [5e-3, 0.1]])

    def step(state, y):
        mean, P, loss = state
        mean, P = F @ mean, F @ P @ F.T + Q
        s, innovation = H @ P @ H + np.exp(p[1]), y - H @ mean
        gain = P @ H / s
        loss = loss + 0.5 * (np.log(s) + innovation**2 / s)
        return mean + gain * innovation, P - np.outer(gain, H @ P), loss

    return fold(step, (np.zeros(2), np.eye(2), 0.0), observed)[2]


def hidden_markov(x, symbols):
    start = x[:4] - logsumexp(x[:4])
    steps, emissions = x[4:20].reshape(4, 4), x[20:].reshape(4, 6)
    steps = steps - logsumexp(steps, axis=1, keepdims=True)
    emissions = emissions - logsumexp(emissions, axis=1, keepdims=True)
    forward = start + emissions[:, symbols[0]]
    for symbol in symbols[1:]:
        forward = logsumexp(forward[:, None] + steps, axis=0) + emissions[:, symbol]
    return -logsumexp(forward)


def hidden_markov_form(x, symbols):
    start = x[:4] - logsumexp(x[:4])
    steps, emissions = x[4:20].reshape(4, 4), x[20:].reshape(4, 6)
    steps = steps - logsumexp(steps, axis=1, keepdims=True)
    emissions = emissions - logsumexp(emissions, axis=1, keepdims=True)

    def step(forward, symbol):
        return logsumexp(forward[:, None] + steps, axis=0) + emissions[:, symbol]

    return -logsumexp(fold(step, start + emissions[:, symbols[0]], symbols[1:]))


def garch_form(p, returns):
    omega, alpha, beta = np.exp(p[0]), np.exp(p[1]), np.exp(p[2])

    def step(state, r):
        variance, loss = state
        loss = loss + 0.5 * (np.log(variance) + r * r / variance)
        return omega + alpha * r * r + beta * variance, loss

    return fold(step, (omega / (1.0 - alpha - beta), 0.0), returns)[1]


# --- particles and structures ---------------------------------------------------------------------


def force_field_form(x, bonds, angles, torsions):
    positions = x.reshape(-1, 3)

    def between(i, j):
        return positions[j] - positions[i]

    d = between(bonds[:, 0], bonds[:, 1])
    energy = 300.0 * np.sum((np.sqrt(np.sum(d * d, axis=1)) - 1.5) ** 2)
    p, q = between(angles[:, 1], angles[:, 0]), between(angles[:, 1], angles[:, 2])
    cosine = np.sum(p * q, axis=1) / np.sqrt(np.sum(p * p, axis=1) * np.sum(q * q, axis=1))
    energy = energy + 50.0 * np.sum((np.arccos(cosine) - 1.9) ** 2)
    a, b, c = (between(torsions[:, k], torsions[:, k + 1]) for k in range(3))
    m, n = np.cross(a, b), np.cross(b, c)
    cosine = np.sum(m * n, axis=1) / np.sqrt(np.sum(m * m, axis=1) * np.sum(n * n, axis=1))
    energy = energy + 2.0 * np.sum(1.0 + cosine)
    d = between(*numpy.triu_indices(len(positions), 4))
    s = 1.0 / np.sum(d * d, axis=1) ** 3
    return energy + np.sum(s * s - s)


def truss(areas, ends, cosines, lengths, load):
    """The compliance of a truss with its first two nodes held, assembled from lists."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.linalg import spsolve

    rows, columns, entries = [], [], []
    for area, (i, j), (c, s), length in zip(areas, ends, cosines, lengths, strict=True):
        places, t = (2 * i, 2 * i + 1, 2 * j, 2 * j + 1), (-c, -s, c, s)
        for a in range(4):
            for b in range(4):
                rows.append(places[a])
                columns.append(places[b])
                entries.append(area / length * t[a] * t[b])
    K = coo_matrix((entries, (rows, columns)), shape=(load.size, load.size)).tocsc()
    free = np.arange(4, load.size)
    return load[free] @ spsolve(K[free][:, free], load[free])


def truss_form(areas, ends, cosines, lengths, load):
    places = 2 * ends[:, [0, 0, 1, 1]] + numpy.array([0, 1, 0, 1])
    t = np.concatenate((-cosines, cosines), axis=1)
    B = np.einsum("ma,mad->dm", t, np.eye(load.size)[places])
    K = (B * (areas / lengths)) @ B.T
    return load[4:] @ np.linalg.solve(K[4:, 4:], load[4:])


def bundle_form(x, cameras, observed_by, observed_at, seen):
    camera = x[: 11 * cameras].reshape(cameras, 11)[observed_by]
    point = x[11 * cameras :].reshape(-1, 3)[observed_at]
    rotation, d = camera[:, :3], point - camera[:, 3:6]
    theta = np.sqrt(np.sum(rotation**2, axis=1))[:, None]
    axis = rotation / theta
    along = np.sum(axis * d, axis=1)[:, None] * (1.0 - np.cos(theta))
    d = d * np.cos(theta) + np.cross(axis, d) * np.sin(theta) + axis * along
    flat = d[:, :2] / d[:, 2:]
    r2 = np.sum(flat**2, axis=1)[:, None]
    bent = flat * (1.0 + camera[:, 9:10] * r2 + camera[:, 10:] * r2 * r2)
    return np.sum((camera[:, 6:7] * bent + camera[:, 7:9] - seen) ** 2)


# --- statistics -----------------------------------------------------------------------------------


def cholesky_form(x):
    n = x.size // 2
    K = np.exp(-((x[:n, None] - x[None, :n]) ** 2)) + np.diag(1.0 + x[n:] ** 2)
    return np.sum(np.log(np.diag(np.linalg.cholesky(K))))


def heston_form(p, strikes, maturities, prices):
    kappa, theta, sigma, rho, v0 = p[0], p[1], p[2], p[3], p[4]
    k, t = np.log(strikes)[:, None], maturities[:, None]
    u = 0.25 + 0.9 * numpy.arange(24.0)
    iu = 1j * u
    b = kappa - rho * sigma * iu
    d = np.sqrt(b**2 + sigma**2 * (iu + u * u))
    g = (b - d) / (b + d)
    e = np.exp(-d * t)
    c = kappa * theta / sigma**2 * ((b - d) * t - 2.0 * np.log((1.0 - g * e) / (1.0 - g)))
    w = v0 / sigma**2 * (b - d) * (1.0 - e) / (1.0 - g * e)
    price = 0.9 / np.pi * np.sum(np.real(np.exp(c + w - iu * k) / iu), axis=1)
    return np.sum((price - prices) ** 2)


def gaussian_process(p, times, y):
    amplitude, length, noise = np.exp(p[0]), np.exp(p[1]), np.exp(p[2])
    d = (times[:, None] - times[None]) / length
    K = amplitude * np.exp(-0.5 * d**2) + noise * np.eye(len(y))
    L = np.linalg.cholesky(K)
    return 0.5 * (y @ np.linalg.solve(K, y)) + np.sum(np.log(np.diag(L)))


def full_mixture(x, y, components):
    """ADBench's Gaussian mixture: inverse factors of covariances, lower triangles by rows."""
    d, n = y.shape[1], components
    alphas, means = x[:n], x[n : n * (1 + d)].reshape(n, d)
    factors = x[n * (1 + d) :].reshape(n, d * (d + 1) // 2)
    place = numpy.zeros((d, d), dtype=int)
    place[numpy.tril_indices(d, -1)] = numpy.arange(1, 1 + d * (d - 1) // 2)
    lower = np.concatenate((np.zeros((n, 1)), factors[:, d:]), axis=1)[:, place]
    centred = y[:, None, :] - means
    t = np.exp(factors[:, :d]) * centred + np.einsum("kij,nkj->nki", lower, centred)
    density = alphas + np.sum(factors[:, :d], axis=1) - 0.5 * np.sum(t**2, axis=2)
    wishart = 0.5 * (np.sum(np.exp(2.0 * factors[:, :d])) + np.sum(factors[:, d:] ** 2))
    return len(y) * logsumexp(alphas) - np.sum(logsumexp(density, axis=1)) + wishart


def poisson(w, X, counts):
    rate = X @ w
    return np.sum(np.exp(rate) - counts * rate) + 0.5 * (w @ w)


def factorisation(x, M, known):
    U, V = x[:200].reshape(40, 5), x[200:].reshape(30, 5)
    return np.sum(known * (U @ V.T - M) ** 2) + 0.1 * np.sum(x**2)


# --- fields and spectra ---------------------------------------------------------------------------


def denoising(x, image):
    u = x.reshape(image.shape)
    across, down = u[:-1, 1:] - u[:-1, :-1], u[1:, :-1] - u[:-1, :-1]
    variation = np.sum(np.sqrt(1e-3 + across**2 + down**2))
    return variation + 5.0 * np.sum((u - image) ** 2)


def phase_field(x):
    u = x.reshape(64, 64)
    across, down = np.roll(u, 1, axis=0) - u, np.roll(u, 1, axis=1) - u
    return np.sum(0.25 * (u**2 - 1.0) ** 2 + 0.5 * (across**2 + down**2))


def deconvolution(x, kernel, data):
    residual = np.real(np.fft.ifft(np.fft.fft(x) * kernel)) - data
    return np.sum(np.sqrt(1.0 + residual**2)) + 0.01 * np.sum((x[1:] - x[:-1]) ** 2)


def free_energy(x, couplings):
    H = couplings + np.diag(x)
    return -logsumexp(-np.linalg.eigvalsh(H)) + 0.1 * np.sum(x**2)


# --- data -----------------------------------------------------------------------------------------


def _chain(rng):
    i = np.arange(12)
    x = np.c_[1.2 * i, 0.8 * (i % 2), 0.6 * ((i // 2) % 2)] + 0.05 * rng.normal(size=(12, 3))
    quads = np.c_[i[:-3], i[1:-2], i[2:-1], i[3:]]
    return x.ravel(), np.c_[i[:-1], i[1:]], np.c_[i[:-2], i[1:-1], i[2:]], quads


def _bridge(rng):
    nodes = np.array([(float(i), float(j)) for i in range(6) for j in range(2)])
    pairs = [(a, b) for a in range(12) for b in range(a + 1, 12)]
    ends = np.array([(a, b) for a, b in pairs if math.dist(nodes[a], nodes[b]) < 1.5])
    d = nodes[ends[:, 1]] - nodes[ends[:, 0]]
    lengths = np.sqrt(np.sum(d**2, axis=1))
    load = np.zeros(24)
    load[-1] = -1.0
    return rng.uniform(0.8, 1.2, len(ends)), ends, d / lengths[:, None], lengths, load


def _views(rng):
    cameras, points = 5, 40
    camera = np.tile([0.1, -0.2, 0.1, 0, 0, -5, 1.0, 0, 0, 0.01, 0.001], (cameras, 1))
    camera = camera + 0.05 * rng.normal(size=camera.shape)
    by = np.repeat(np.arange(cameras), points // 2)
    at = np.concatenate([rng.permutation(points)[: points // 2] for _ in range(cameras)])
    x = np.concatenate((camera.ravel(), rng.normal(size=3 * points)))
    return x, cameras, by, at, 0.3 * rng.normal(size=(by.size, 2))


def _couplings(rng):
    A = rng.normal(size=(20, 20))
    return rng.normal(size=20), (A + A.T) / 5.0


def _market(rng):
    return (
        np.array([1.5, 0.04, 0.3, -0.6, 0.05]),
        np.linspace(0.8, 1.2, 8),
        np.linspace(0.2, 2.0, 8),
        np.full(8, 0.1),
    )


def _blur(rng):
    kernel = np.exp(-0.001 * np.minimum(np.arange(256), 256 - np.arange(256)) ** 2)
    return rng.normal(size=256), kernel, rng.normal(size=256)


PROGRAMS: Mapping[str, Program] = {
    "Cholesky of 12 x 12 in loops": Program(
        lambda rng: (rng.normal(size=24),), "cholesky", cholesky_form
    ),
    "shooting, 60 steps": Program(
        lambda rng: (np.array([1.0, 0.0, 0.0, 1.0]), 60), "shooting", orbit_form
    ),
    "Heston, 8 prices": Program(_market, "heston", heston_form),
    "force field, 12 atoms": Program(_chain, "force_field", force_field_form),
    "5 bodies, 10 steps": Program(lambda rng: (rng.normal(size=30), 10), "n_body", n_body_form),
    "truss from lists": Program(_bridge, truss, truss_form),
    "Gaussian process, 3 parameters": Program(
        lambda rng: (np.zeros(3) - [0, 1, 2], np.linspace(0, 5, 60), rng.normal(size=60)),
        gaussian_process,
    ),
    "full mixture, 1000 x 10, K = 25": Program(
        lambda rng: (0.5 * rng.normal(size=25 * 66), rng.normal(size=(1000, 10)), 25), full_mixture
    ),
    "bundle adjustment, 100 views": Program(_views, "bundle", bundle_form),
    "waves, 12 steps": Program(lambda rng: (np.linspace(0.1, 1, 1000),), waves),
    "epidemic, 40 steps": Program(
        lambda rng: (np.array([-0.5, -1.5, -4.0]), rng.uniform(0, 0.1, 40)), epidemic, epidemic_form
    ),
    "Kalman filter, 30 steps": Program(
        lambda rng: (np.array([-1.0, -1.0]), rng.normal(size=30)), kalman, kalman_form
    ),
    "hidden Markov, 30 steps": Program(
        lambda rng: (rng.normal(size=44), rng.integers(6, size=30)),
        hidden_markov,
        hidden_markov_form,
    ),
    "GARCH, 200 steps": Program(
        lambda rng: (np.array([-2.0, -2.0, -0.5]), rng.normal(size=200)), "garch", garch_form
    ),
    "Poisson regression, 500 x 12": Program(
        lambda rng: (0.1 * rng.normal(size=12), rng.normal(size=(500, 12)), rng.poisson(1.0, 500)),
        poisson,
    ),
    "factorisation, 40 x 30": Program(
        lambda rng: (rng.normal(size=350), rng.normal(size=(40, 30)), rng.random((40, 30)) < 0.5),
        factorisation,
    ),
    "denoising, 64 x 64": Program(
        lambda rng: (rng.normal(size=4096), rng.normal(size=(64, 64))), denoising
    ),
    "phase field, 64 x 64": Program(lambda rng: (rng.normal(size=4096),), phase_field),
    "deconvolution, n = 256": Program(_blur, deconvolution),
    "free energy of 20 x 20": Program(_couplings, free_energy),
}
