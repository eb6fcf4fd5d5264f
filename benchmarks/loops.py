"""The problems as a user of Numba writes them: loops over elements, and what NumPy cannot write.

``LOOPS`` maps a key of ``benchmarks.problems.MAKERS`` to the same function as a loop, and to its
arguments beside x. ``lorenz`` and ``orbit`` are deep recurrences: each operation needs the one before
it. ``orbit`` divides by powers of a length, which is looked for on its tape. What follows them
belongs to ``benchmarks.programs``.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
from numba import njit

__all__ = [
    "LOOPS", "LORENZ_START", "ORBIT_START", "bundle", "cholesky", "force_field", "garch", "heston",
    "lennard_jones", "lorenz", "n_body", "orbit", "rosenbrock", "shooting", "surface",
]  # fmt: skip


@njit
def rosenbrock(x):
    total = 0.0
    for i in range(x.size - 1):
        total += 100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1.0 - x[i]) ** 2
    return total


@njit
def surface(x, frame):
    m, n = frame.shape
    base = 1.0 / ((m - 1) * (n - 1))
    k = 0.5 / base
    z = frame.copy()
    z[1:-1, 1:-1] = x.reshape(m - 2, n - 2)
    area = 0.0
    for i in range(m - 1):
        for j in range(n - 1):
            p = z[i + 1, j + 1] - z[i, j]
            q = z[i + 1, j] - z[i, j + 1]
            area += math.sqrt(1.0 + k * (p * p + q * q))
    return base * area


@njit
def lennard_jones(x, first, second):
    energy = 0.0
    for pair in range(first.size):
        i, j = 3 * first[pair], 3 * second[pair]
        r2 = 0.0
        for k in range(3):
            d = x[i + k] - x[j + k]
            r2 += d * d
        attraction = 1.0 / (r2 * r2 * r2)
        energy += attraction * attraction - attraction
    return 4.0 * energy


LOOPS: Mapping[str, tuple[Callable, Callable]] = {
    "rosenbrock": (rosenbrock, lambda problem: ()),
    "surface": (surface, lambda problem: (problem.data["frame"],)),
    "lennard_jones": (lennard_jones, lambda problem: (problem.data["i"], problem.data["j"])),
}


@njit
def _flow(a, b, c):
    return 10.0 * (b - a), a * (28.0 - c) - b, a * b - 8.0 / 3.0 * c


@njit
def lorenz(x, steps):
    """A distance after ``steps`` classical Runge-Kutta steps of 1e-3 from the point x."""
    h = 1e-3
    a, b, c = x[0], x[1], x[2]
    for _ in range(steps):
        a1, b1, c1 = _flow(a, b, c)
        a2, b2, c2 = _flow(a + 0.5 * h * a1, b + 0.5 * h * b1, c + 0.5 * h * c1)
        a3, b3, c3 = _flow(a + 0.5 * h * a2, b + 0.5 * h * b2, c + 0.5 * h * c2)
        a4, b4, c4 = _flow(a + h * a3, b + h * b3, c + h * c3)
        a += h / 6.0 * (a1 + 2.0 * a2 + 2.0 * a3 + a4)
        b += h / 6.0 * (b1 + 2.0 * b2 + 2.0 * b3 + b4)
        c += h / 6.0 * (c1 + 2.0 * c2 + 2.0 * c3 + c4)
    return (a - 1.0) ** 2 + (b - 2.0) ** 2 + (c - 20.0) ** 2


LORENZ_START = np.array([1.0, 1.0, 20.0])


@njit
def orbit(p, steps):
    """The squared distance from the centre after ``steps`` symplectic Euler steps of Kepler's problem."""
    h = 1e-3
    x, y, u, v = p[0], p[1], p[2], p[3]
    for _ in range(steps):
        r = math.sqrt(x * x + y * y)
        a = -1.0 / (r * r * r)
        u += h * a * x
        v += h * a * y
        x += h * u
        y += h * v
    return x * x + y * y


ORBIT_START = np.array([1.0, 0.0, 0.0, 1.0])


@njit
def shooting(p, steps):
    """How far symplectic Euler steps of Kepler's problem end from a point."""
    h = 0.05
    x, y, u, v = p[0], p[1], p[2], p[3]
    for _ in range(steps):
        r = math.sqrt(x * x + y * y)
        a = -1.0 / (r * r * r)
        u += h * a * x
        v += h * a * y
        x += h * u
        y += h * v
    return (x + 1.0) ** 2 + (y - 0.1) ** 2


@njit
def cholesky(x):
    """Half the log-determinant of a covariance matrix, by its factor."""
    n = x.size // 2
    a = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            a[i, j] = math.exp(-((x[i] - x[j]) ** 2))
        a[i, i] += 1.0 + x[n + i] ** 2
    l = np.zeros((n, n))
    for j in range(n):
        s = a[j, j]
        for k in range(j):
            s -= l[j, k] * l[j, k]
        l[j, j] = math.sqrt(s)
        for i in range(j + 1, n):
            s = a[i, j]
            for k in range(j):
                s -= l[i, k] * l[j, k]
            l[i, j] = s / l[j, j]
    out = 0.0
    for j in range(n):
        out += math.log(l[j, j])
    return out


@njit
def heston(p, strikes, maturities, prices):
    """Squared errors of prices by Heston's characteristic function."""
    kappa, theta, sigma, rho, v0 = p[0], p[1], p[2], p[3], p[4]
    total = 0.0
    for m in range(strikes.size):
        k, t = math.log(strikes[m]), maturities[m]
        price = 0.0
        for j in range(24):
            u = 0.25 + 0.9 * j
            iu = complex(0.0, 1.0) * u
            b = kappa - rho * sigma * iu
            d = (b**2 + sigma**2 * (iu + u * u)) ** 0.5
            g = (b - d) / (b + d)
            e = np.exp(-d * t)
            c = kappa * theta / sigma**2 * ((b - d) * t - 2.0 * np.log((1.0 - g * e) / (1.0 - g)))
            w = v0 / sigma**2 * (b - d) * (1.0 - e) / (1.0 - g * e)
            phi = np.exp(c + w - iu * k) / iu
            price += 0.9 * phi.real / math.pi
        total += (price - prices[m]) ** 2
    return total


@njit
def force_field(x, bonds, angles, torsions):
    """The energy of a chain of atoms: bonds, angles, torsions, and pairs further apart."""
    e = 0.0
    n = x.size // 3
    for b in range(bonds.shape[0]):
        i, j = bonds[b, 0], bonds[b, 1]
        r2 = 0.0
        for c in range(3):
            d = x[3 * i + c] - x[3 * j + c]
            r2 += d * d
        r = math.sqrt(r2)
        e += 300.0 * (r - 1.5) ** 2
    for a in range(angles.shape[0]):
        i, j, k = angles[a, 0], angles[a, 1], angles[a, 2]
        uv = uu = vv = 0.0
        for c in range(3):
            p = x[3 * i + c] - x[3 * j + c]
            q = x[3 * k + c] - x[3 * j + c]
            uv += p * q
            uu += p * p
            vv += q * q
        theta = math.acos(uv / math.sqrt(uu * vv))
        e += 50.0 * (theta - 1.9) ** 2
    for t in range(torsions.shape[0]):
        b1, b2, b3 = np.zeros(3), np.zeros(3), np.zeros(3)
        i, j, k, l = torsions[t, 0], torsions[t, 1], torsions[t, 2], torsions[t, 3]
        for c in range(3):
            b1[c] = x[3 * j + c] - x[3 * i + c]
            b2[c] = x[3 * k + c] - x[3 * j + c]
            b3[c] = x[3 * l + c] - x[3 * k + c]
        n1 = np.cross(b1, b2)
        n2 = np.cross(b2, b3)
        d = np.dot(n1, n2)
        e += 2.0 * (1.0 + d / math.sqrt(np.dot(n1, n1) * np.dot(n2, n2)))
    for i in range(n):
        for j in range(i + 4, n):
            r2 = 0.0
            for c in range(3):
                d = x[3 * i + c] - x[3 * j + c]
                r2 += d * d
            s = 1.0 / (r2 * r2 * r2)
            e += s * s - s
    return e


@njit
def n_body(z, steps):
    """The spread of five bodies after symplectic Euler steps."""
    n = 5
    x, v = z[: 3 * n].copy().reshape(n, 3), z[3 * n :].copy().reshape(n, 3)
    h = 0.01
    for _ in range(steps):
        a = np.zeros((n, 3))
        for i in range(n):
            for j in range(n):
                if i != j:
                    d = x[j] - x[i]
                    r2 = 0.01 + d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
                    for c in range(3):
                        a[i, c] += d[c] / (r2 * math.sqrt(r2))
        for i in range(n):
            for c in range(3):
                v[i, c] += h * a[i, c]
                x[i, c] += h * v[i, c]
    s = 0.0
    for i in range(n):
        for c in range(3):
            s += x[i, c] * x[i, c]
    return s


@njit
def garch(p, returns):
    """The negative log-likelihood of a GARCH(1, 1) model."""
    omega, alpha, beta = math.exp(p[0]), math.exp(p[1]), math.exp(p[2])
    variance = omega / (1.0 - alpha - beta)
    loss = 0.0
    for r in returns:
        loss += 0.5 * (math.log(variance) + r * r / variance)
        variance = omega + alpha * r * r + beta * variance
    return loss


@njit
def bundle(x, cameras, observed_by, observed_at, seen):
    """Squared errors of projections: Rodrigues' rotation, radial distortion of two terms."""
    total = 0.0
    for o in range(observed_by.size):
        c, q = x[11 * observed_by[o] :], x[11 * cameras + 3 * observed_at[o] :]
        theta = math.sqrt(c[0] * c[0] + c[1] * c[1] + c[2] * c[2])
        a0, a1, a2 = c[0] / theta, c[1] / theta, c[2] / theta
        d0, d1, d2 = q[0] - c[3], q[1] - c[4], q[2] - c[5]
        cosine, sine = math.cos(theta), math.sin(theta)
        along = (a0 * d0 + a1 * d1 + a2 * d2) * (1.0 - cosine)
        p0 = d0 * cosine + (a1 * d2 - a2 * d1) * sine + a0 * along
        p1 = d1 * cosine + (a2 * d0 - a0 * d2) * sine + a1 * along
        p2 = d2 * cosine + (a0 * d1 - a1 * d0) * sine + a2 * along
        f0, f1 = p0 / p2, p1 / p2
        r2 = f0 * f0 + f1 * f1
        scale = c[6] * (1.0 + c[9] * r2 + c[10] * r2 * r2)
        total += (scale * f0 + c[7] - seen[o, 0]) ** 2 + (scale * f1 + c[8] - seen[o, 1]) ** 2
    return total
