"""Functions on whole arrays whose plans are counted: mixed operations, and parts that repeat.

`MIXED` has one of each kind of program that scientists write: rows and columns that broadcast, sums
along axes, stencils, gathers, matrix products. `REPEATED` has loops in Python of few steps, of which a
trace has as many copies. Each entry is a function and the size of its x.
"""

import numpy as np

rng = np.random.default_rng(5)
DATA = rng.standard_normal((60, 8))
TARGETS = rng.standard_normal(60)
FIRST, SECOND = rng.integers(0, 40, (2, 150))
LABELS = rng.integers(0, 5, 60)
CENTRES = rng.standard_normal((12, 3))


def standardised(x):
    a = x.reshape(40, 15)
    z = (a - a.mean(axis=0)) / np.sqrt(1e-3 + a.var(axis=0))
    return np.sum(np.tanh(z) ** 2 * a)


def layer_norm(x):
    a, gain, bias = x[:600].reshape(40, 15), x[600:615], x[615:]
    mean = a.mean(axis=1, keepdims=True)
    spread = np.sqrt(1e-3 + ((a - mean) ** 2).mean(axis=1, keepdims=True))
    return np.sum(np.logaddexp(0, (a - mean) / spread * gain + bias))


def cross_entropy(x):
    z = DATA @ x.reshape(8, 5)
    shifted = z - z.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -np.sum(log_p[np.arange(60), LABELS]) + 1e-3 * np.sum(x * x)


def attention(x):
    q, k, v = x.reshape(3, 20, 8)
    scores = q @ k.T / np.sqrt(8)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.sum(np.tanh(weights / weights.sum(axis=1, keepdims=True) @ v) ** 2)


def convolved(x):
    image, filters = x[:400].reshape(20, 20), x[400:].reshape(3, 3, 3)
    total = 0.0
    for f in filters:
        out = sum(f[i, j] * image[i : 18 + i, j : 18 + j] for i in range(3) for j in range(3))
        total = total + np.sum(np.logaddexp(0, out))
    return total


def waves(x):
    before, now = x[:100], x[100:]
    for _ in range(6):
        lap = np.roll(now, 1) - 2 * now + np.roll(now, -1)
        before, now = now, 2 * now - before + 0.1 * lap - 0.01 * np.sin(now)
    return np.sum(now**2)


def kernel_matrix(x):
    p, scale = x[:-1].reshape(30, 3), x[-1]
    squares = ((p[:, None, :] - CENTRES) ** 2).sum(axis=-1)
    return np.sum(np.exp(-squares / (2 * scale**2)) @ np.arange(1.0, 13.0) ** 0.5)


def distances(x):
    p = x.reshape(25, 2)
    d = p[:, None] - p[None]
    r = (d**2).sum(axis=-1) + np.eye(25)
    return np.sum((1 - np.eye(25)) * (1 / r**3 - 1 / r))


def quantiles(x):
    r = TARGETS - DATA @ x[:8] - x[8]
    smooth = lambda q: 0.1 * np.logaddexp(0, r / 0.1) - (1 - q) * r
    return np.sum(smooth(0.1) + smooth(0.5) + smooth(0.9))


def springs(x):
    p, length = x.reshape(40, 3), 0.7
    d = p[FIRST] - p[SECOND]
    r = np.sqrt(1e-2 + (d**2).sum(axis=1))
    return np.sum(0.5 * (r - length) ** 2)


def surface(x):
    u = x.reshape(20, 20)
    dx, dy = np.diff(u, axis=1)[:-1], np.diff(u, axis=0)[:, :-1]
    return np.sum(np.sqrt(1 + dx**2 + dy**2))


def smoothing(x):
    second = x[2:] - 2 * x[1:-1] + x[:-2]
    return np.sum(np.sqrt(1 + second**2)) + np.sum((x - np.linspace(0, 1, x.size)) ** 2)


def cumulated(x):
    path = np.cumsum(x)
    return np.sum(np.log1p((path - np.arange(x.size) * 0.1) ** 2)) + np.sum(np.cosh(x))


def survival(x):
    risk = DATA @ x
    return np.sum(np.log(np.cumsum(np.exp(risk[::-1]))[::-1]) - risk)


def poisson(x):
    rates = np.exp(x[:30, None] + x[None, 30:])
    return np.sum(rates - np.outer(np.arange(30) % 4, np.arange(20) % 3) * np.log(rates))


def factors(x):
    u, v = x[:180].reshape(60, 3), x[180:].reshape(8, 3)
    return np.sum(np.logaddexp(0, -DATA * (u @ v.T))) + 0.1 * np.sum(x**2)


def segments(x):
    sums = np.bincount(LABELS, weights=x**2, minlength=5)
    return np.sum(np.sqrt(1 + sums)) + np.sum(np.sin(x) * sums[LABELS])


def spins(x):
    a, b = np.cos(x).reshape(12, 15), np.sin(x).reshape(12, 15)
    bonds = lambda axis: a * np.roll(a, 1, axis) + b * np.roll(b, 1, axis)
    return -np.sum(bonds(0) + bonds(1)) + 0.1 * np.sum(x**2)


def rational(x):
    above = 1 + x * (0.5 + x * (0.25 + x * 0.125))
    below = 1 + x**2 * (0.3 + x**2)
    return np.sum(np.log(above**2 / below + 1) * np.arctan(x))


def collocation(x):
    u, t = x[:-1], np.exp(x[-1])
    f = lambda u: u * (1 - u) - 0.1 * np.sin(u)
    middle = (u[1:] + u[:-1]) / 2 + t / 8 * (f(u[:-1]) - f(u[1:]))
    defect = u[1:] - u[:-1] - t / 6 * (f(u[:-1]) + 4 * f(middle) + f(u[1:]))
    return np.sum(defect**2)


MIXED = {
    standardised: 600,
    layer_norm: 630,
    cross_entropy: 40,
    attention: 480,
    convolved: 427,
    waves: 200,
    kernel_matrix: 91,
    distances: 50,
    quantiles: 9,
    springs: 120,
    surface: 400,
    smoothing: 100,
    cumulated: 100,
    survival: 8,
    poisson: 50,
    factors: 204,
    segments: 60,
    spins: 180,
    rational: 100,
    collocation: 101,
}


def network(x, layers=4):
    h = DATA
    for w in x.reshape(layers, 8, 8):
        h = np.tanh(h @ w)
    return np.sum(h**2)


def biased_network(x, layers=6):
    h = DATA[:, :5]
    for k in range(layers):
        w = x[30 * k : 30 * k + 30]
        h = np.logaddexp(0, h @ w[:25].reshape(5, 5) + w[25:]) - 0.5
    return np.sum(h**2)


def residual_blocks(x, blocks=3):
    h = DATA
    for a, b in x.reshape(blocks, 2, 8, 8):
        h = h + np.tanh(h @ a) @ b
    return np.sum(np.log1p(h**2))


def runge_kutta(x, steps=1, h=0.1):
    f = lambda u: np.sin(u) * (np.roll(u, 1) - np.roll(u, -1)) - 0.1 * u**3
    for _ in range(steps):
        a = f(x)
        b = f(x + h / 2 * a)
        c = f(x + h / 2 * b)
        x = x + h / 6 * (a + 2 * b + 2 * c + f(x + h * c))
    return np.sum(x**2)


def two_steps(x):
    return runge_kutta(x, 2)


def newton(x, steps=5):
    z = np.ones_like(x)
    for _ in range(steps):
        z = z - (z**3 + x * z - 1 - x**2) / (3 * z**2 + x)
    return np.sum(z**2)


def heat(x, steps=5):
    u = x.reshape(20, 15)
    for _ in range(steps):
        inner = u[1:-1, 1:-1]
        lap = u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4 * inner
        u = np.pad(inner + 0.1 * lap + 0.01 * inner**3, 1)
    return np.sum(u**2)


def averages(x, rounds=4):
    p = x.reshape(30, 5)
    for _ in range(rounds):
        w = np.exp(-((p - p.mean(axis=0)) ** 2))
        p = p * w / w.sum(axis=0)
    return np.sum(p**2)


def messages(x, rounds=3):
    h = x.reshape(40, 4)
    for _ in range(rounds):
        h = np.tanh(h + 0.1 * (h[FIRST[:40]] - h[SECOND[:40]]))
    return np.sum(h**2)


def recurrent(x, steps=8, n=6):
    w, u, h = x[:36].reshape(n, n), x[36:].reshape(n, 8), np.zeros(n)
    for t in range(steps):
        h = np.tanh(w @ h + u @ DATA[t])
    return np.sum(h**2)


REPEATED = {
    network: 256,
    biased_network: 180,
    residual_blocks: 384,
    runge_kutta: 100,
    two_steps: 100,
    newton: 100,
    heat: 300,
    averages: 150,
    messages: 160,
    recurrent: 84,
}
