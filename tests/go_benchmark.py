"""Published test functions of global optimisation, in plain NumPy from their formulas.

The collection is that of the benchmarks of scipy.optimize; the formulas are those of

- M. Jamil and X.-S. Yang, A literature survey of benchmark functions for global optimisation problems,
  Int. J. Mathematical Modelling and Numerical Optimisation 4 (2013);
- J. J. Moré, B. S. Garbow and K. E. Hillstrom, Testing unconstrained optimization software, ACM
  Transactions on Mathematical Software 7 (1981): Biggs, Gulf, Helical Valley, Kowalik, Meyer, Osborne,
  Penalty, Watson, Wood;
- S. Surjanovic and D. Bingham, Virtual library of simulation experiments (2013).

They are written as a reader of these would write them: loops and arrays, `abs`, `max`, branches, data.
Functions with noise of their own (Stochastic, the first of Xin-She Yang) are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["PROBLEMS", "Problem"]

PROBLEMS: dict[str, Problem] = {}


@dataclass(frozen=True)
class Problem:
    """A function, its standard box, and its published minimum.

    `smooth`: whether the minimiser is a point where a Newton method can arrive: inside the box, and
    without a kink, a root or a logarithm of zero there.
    """

    fun: Callable
    low: np.ndarray
    high: np.ndarray
    best: np.ndarray
    value: float
    smooth: bool
    digits: int

    @property
    def start(self) -> np.ndarray:
        rng = np.random.default_rng(len(self.fun.__name__) * 7 + self.low.size)
        return self.low + (self.high - self.low) * rng.uniform(0.05, 0.95, self.low.size)


def problem(low, high, best, value=0.0, *, smooth=True, digits=6):
    """Enter a function; `best` may be one number for all variables, if the box tells how many."""

    def enter(fun):
        a, b = np.broadcast_arrays(np.asarray(low, float), np.asarray(high, float))
        at = np.broadcast_to(np.asarray(best, float), a.shape) if a.ndim else np.atleast_1d(best)
        a, b = (np.broadcast_to(end, at.shape).astype(float) for end in (a, b))
        PROBLEMS[fun.__name__] = Problem(fun, a, b, np.array(at, float), value, smooth, digits)
        return fun

    return enter


def box(low, high, n):
    return np.full(n, float(low)), np.full(n, float(high))


# Many variables.


@problem(*box(-32.768, 32.768, 4), 0, smooth=False)
def ackley(x):
    n = len(x)
    a = -20 * np.exp(-0.2 * np.sqrt(np.sum(x**2) / n))
    return a - np.exp(np.sum(np.cos(2 * np.pi * x)) / n) + 20 + np.e


@problem(*box(0, 10, 2), [7.91705268, 4.81584232], -6.129503)
def alpine(x):
    return np.prod(np.sqrt(x) * np.sin(x))


@problem(*box(0.1, 10, 3), 2)
def amgm(x):
    return (np.mean(x) - np.prod(x) ** (1 / len(x))) ** 2


@problem(*box(-1, 4, 3), 0, smooth=False)
def brown(x):
    a, b = x[:-1] ** 2, x[1:] ** 2
    return np.sum(a ** (b + 1) + b ** (a + 1))


@problem(*box(-100, 100, 3), 0)
def cigar(x):
    return x[0] ** 2 + 1e6 * np.sum(x[1:] ** 2)


@problem(*box(-1, 1, 3), 0, -0.3)
def cosine_mixture(x):
    return np.sum(x**2) - 0.1 * np.sum(np.cos(5 * np.pi * x))


@problem(*box(0, 10, 3), 5, -1, smooth=False)
def deflected_corrugated_spring(x):
    square = np.sum((x - 5) ** 2)
    return 0.1 * square - np.cos(5 * np.sqrt(square))


@problem(*box(-10, 10, 4), 2.0 ** -(1 - 2.0 ** -np.arange(4)))
def dixon_price(x):
    i = np.arange(2, len(x) + 1)
    return (x[0] - 1) ** 2 + np.sum(i * (2 * x[1:] ** 2 - x[:-1]) ** 2)


@problem(*box(-1, 1, 4), 0, -1)
def exponential(x):
    return -np.exp(-0.5 * np.sum(x**2))


@problem(*box(-600, 600, 4), 0)
def griewank(x):
    i = np.arange(1, len(x) + 1)
    return np.sum(x**2) / 4000 - np.prod(np.cos(x / np.sqrt(i))) + 1


@problem(*box(-1, 1, 6), np.r_[0, 0, 0, 1, 0, 0].astype(float), -1)
def lennard_jones(x):
    atoms = x.reshape(-1, 3)
    energy = 0.0
    for i in range(len(atoms)):
        for j in range(i):
            r = np.sum((atoms[i] - atoms[j]) ** 2) ** 3
            energy += 1 / r**2 - 2 / r
    return energy


@problem(*box(-10, 10, 3), 1)
def levy(x):
    w = 1 + (x - 1) / 4
    a, b = w[:-1], w[-1]
    inner = np.sum((a - 1) ** 2 * (1 + 10 * np.sin(np.pi * a + 1) ** 2))
    return np.sin(np.pi * w[0]) ** 2 + inner + (b - 1) ** 2 * (1 + np.sin(2 * np.pi * b) ** 2)


@problem(*box(0, np.pi, 2), [2.20290552, 1.57079633], -1.8013034101)
def michalewicz(x):
    i = np.arange(1, len(x) + 1)
    return -np.sum(np.sin(x) * np.sin(i * x**2 / np.pi) ** 20)


@problem(*box(0, 1, 2), 1, 2, smooth=False)
def mishra_1(x):
    rest = len(x) - np.sum(x[:-1])
    return (1 + rest) ** rest


@problem(*box(-100, 100, 3), 0, smooth=False)
def pathological(x):
    a, b = x[:-1], x[1:]
    wave = np.sin(np.sqrt(100 * a**2 + b**2)) ** 2 - 0.5
    return np.sum(0.5 + wave / (1 + 0.001 * (a**2 - 2 * a * b + b**2) ** 2))


@problem(*box(2.001, 9.999, 10), 9.350266, -45.77846840)
def paviani(x):
    return np.sum(np.log(10 - x) ** 2 + np.log(x - 2) ** 2) - np.prod(x) ** 0.2


def outside(x, a, k, m):
    """The penalty of the Penalty functions."""
    return np.where(x > a, k * (x - a) ** m, np.where(x < -a, k * (-x - a) ** m, 0.0))


@problem(*box(-50, 50, 3), -1)
def penalty_1(x):
    y = 1 + (x + 1) / 4
    inner = np.sum((y[:-1] - 1) ** 2 * (1 + 10 * np.sin(np.pi * y[1:]) ** 2))
    whole = 10 * np.sin(np.pi * y[0]) ** 2 + inner + (y[-1] - 1) ** 2
    return np.pi / len(x) * whole + np.sum(outside(x, 10, 100, 4))


@problem(*box(-50, 50, 3), 1)
def penalty_2(x):
    inner = np.sum((x[:-1] - 1) ** 2 * (1 + np.sin(3 * np.pi * x[1:]) ** 2))
    last = (x[-1] - 1) ** 2 * (1 + np.sin(2 * np.pi * x[-1]) ** 2)
    whole = np.sin(3 * np.pi * x[0]) ** 2 + inner + last
    return 0.1 * whole + np.sum(outside(x, 5, 100, 4))


@problem(*box(-3, 3, 3), [1, 2, 3])
def perm(x):
    total = 0.0
    for k in range(1, len(x) + 1):
        total += sum((j**k + 0.5) * ((x[j - 1] / j) ** k - 1) for j in range(1, len(x) + 1)) ** 2
    return total


@problem(*box(-4, 5, 8), 0)
def powell(x):
    a, b, c, d = x[::4], x[1::4], x[2::4], x[3::4]
    ends = 5 * (c - d) ** 2 + (b - 2 * c) ** 4 + 10 * (a - d) ** 4
    return np.sum((a + 10 * b) ** 2 + ends)


@problem(*box(0, 4, 4), [1, 2, 2, 3])
def power_sum(x):
    k = np.arange(1, 5)
    return np.sum((np.sum(x[:, None] ** k, axis=0) - np.array([8, 18, 44, 114])) ** 2)


@problem(*box(-2, 2, 4), np.sqrt([1, 2, 3, 4]))
def qing(x):
    return np.sum((x**2 - np.arange(1, len(x) + 1)) ** 2)


@problem(*box(-10, 10, 2), [-1, 2], smooth=False)
def quintic(x):
    return np.sum(np.abs(x**5 - 3 * x**4 + 4 * x**3 + 2 * x**2 - 10 * x - 4))


@problem(*box(-5.12, 5.12, 4), 0)
def rastrigin(x):
    return 10 * len(x) + np.sum(x**2 - 10 * np.cos(2 * np.pi * x))


@problem(*box(-5, 10, 5), 1)
def rosenbrock(x):
    return sum(100 * (b - a**2) ** 2 + (1 - a) ** 2 for a, b in zip(x[:-1], x[1:], strict=True))


@problem(*box(-100, 100, 3), 0, smooth=False)
def salomon(x):
    r = np.linalg.norm(x)
    return 1 - np.cos(2 * np.pi * r) + 0.1 * r


@problem(*box(-100, 100, 4), 0)
def sargan(x):
    others = np.sum(x) - x
    return np.sum(len(x) * (x**2 + 0.4 * x * others))


@problem(*box(-100, 100, 3), 0, smooth=False)
def schwefel_1(x):
    return np.sum(x**2) ** np.sqrt(np.pi)


@problem(*box(-100, 100, 4), 0)
def schwefel_2(x):
    return np.sum(np.cumsum(x) ** 2)


@problem(*box(0, 10, 3), 1)
def schwefel_4(x):
    return np.sum((x - 1) ** 2 + (x[0] - x**2) ** 2)


@problem(*box(-100, 100, 3), 0, smooth=False)
def schwefel_21(x):
    return np.max(np.abs(x))


@problem(*box(-100, 100, 3), 0, smooth=False)
def schwefel_22(x):
    return np.sum(np.abs(x)) + np.prod(np.abs(x))


@problem(*box(-500, 500, 3), 420.968746)
def schwefel_26(x):
    return 418.98288727 * len(x) - np.sum(x * np.sin(np.sqrt(np.abs(x))))


@problem(*box(-1, 1, 3), 0, smooth=False)
def sum_of_different_powers(x):
    return np.sum(np.abs(x) ** np.arange(2, len(x) + 2))


@problem(*box(-5, 5, 4), -2.903534018185960, -156.66466281508568)
def styblinski_tang(x):
    return np.sum(x**4 - 16 * x**2 + 5 * x) / 2


@problem(*box(-20, 20, 6), [6, 10, 12, 12, 10, 6], -50)
def trid(x):
    return np.sum((x - 1) ** 2) - np.dot(x[1:], x[:-1])


@problem(*box(0, np.pi, 3), 0)
def trigonometric(x):
    i = np.arange(1, len(x) + 1)
    return np.sum((len(x) - np.sum(np.cos(x)) + i * (1 - np.cos(x) - np.sin(x))) ** 2)


@problem(*box(0.25, 10, 3), 7.70628098, -3)
def vincent(x):
    return -np.sum(np.sin(10 * np.log(x)))


@problem(*box(-0.5, 0.5, 2), 0)
def weierstrass(x):
    k = np.arange(8)
    waves = np.sum(0.5**k * np.cos(2 * np.pi * 3.0**k * (x[:, None] + 0.5)), axis=1)
    return np.sum(waves) - len(x) * np.sum(0.5**k * np.cos(np.pi * 3.0**k))


@problem(*box(-10.24, 10.24, 3), 1)
def whitley(x):
    a, b = np.meshgrid(x, x, indexing="ij")
    inner = 100 * (a**2 - b) ** 2 + (1 - b) ** 2
    return np.sum(inner**2 / 4000 - np.cos(inner) + 1)


@problem(*box(-2 * np.pi, 2 * np.pi, 2), 0, smooth=False)
def xin_she_yang_2(x):
    return np.sum(np.abs(x)) * np.exp(-np.sum(np.sin(x**2)))


@problem(*box(-20, 20, 2), 0, -1)
def xin_she_yang_3(x):
    waves = np.prod(np.cos(x) ** 2)
    return np.exp(-np.sum((x / 15) ** 10)) - 2 * np.exp(-np.sum(x**2)) * waves


@problem(*box(-10, 10, 2), 0, -1, smooth=False)
def xin_she_yang_4(x):
    inner = np.sum(np.sin(x) ** 2) - np.exp(-np.sum(x**2))
    return inner * np.exp(-np.sum(np.sin(np.sqrt(np.abs(x))) ** 2))


@problem(*box(-5, 10, 4), 0)
def zakharov(x):
    s = 0.5 * np.sum(np.arange(1, len(x) + 1) * x)
    return np.sum(x**2) + s**2 + s**4


@problem(*box(-10, 10, 3), 0, smooth=False)
def zero_sum(x):
    if np.sum(x) == 0:
        return 0.0 * x[0]
    return 1 + np.sqrt(1e4 * np.abs(np.sum(x)))


# Two variables.


@problem([-1, -1], [2, 1], [2, 0.10578347], -2.02180678, smooth=False)
def adjiman(x):
    return np.cos(x[0]) * np.sin(x[1]) - x[0] / (x[1] ** 2 + 1)


@problem(*box(-500, 500, 2), 0, 1, smooth=False)
def bartels_conn(x):
    a, b = x
    return abs(a * a + b * b + a * b) + abs(np.sin(a)) + abs(np.cos(b))


@problem(*box(-4.5, 4.5, 2), [3, 0.5])
def beale(x):
    a, b = x
    return (1.5 - a + a * b) ** 2 + (2.25 - a + a * b**2) ** 2 + (2.625 - a + a * b**3) ** 2


@problem(*box(-2 * np.pi, 2 * np.pi, 2), [4.701055751981055, 3.152946019601391], -106.764537)
def bird(x):
    a, b = x
    first = np.sin(a) * np.exp((1 - np.cos(b)) ** 2)
    return first + np.cos(b) * np.exp((1 - np.sin(a)) ** 2) + (a - b) ** 2


@problem(*box(-15, 15, 2), 0)
def bohachevsky(x):
    a, b = x
    waves = 0.3 * np.cos(3 * np.pi * a) + 0.4 * np.cos(4 * np.pi * b)
    return a**2 + 2 * b**2 - waves + 0.7


@problem(*box(-10, 10, 2), [1, 3])
def booth(x):
    return (x[0] + 2 * x[1] - 7) ** 2 + (2 * x[0] + x[1] - 5) ** 2


@problem([-5, 0], [10, 15], [np.pi, 2.275], 0.39788735772973816)
def branin(x):
    a, b = x
    curve = b - 5.1 / (4 * np.pi**2) * a**2 + 5 / np.pi * a - 6
    return curve**2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(a) + 10


@problem(*box(-10, 10, 2), -10, smooth=False)
def brent(x):
    return (x[0] + 10) ** 2 + (x[1] + 10) ** 2 + np.exp(-np.sum(x**2))


@problem([-15, -3], [-5, 3], [-10, 0], smooth=False)
def bukin_4(x):
    return 100 * x[1] ** 2 + 0.01 * abs(x[0] + 10)


@problem([-15, -3], [-5, 3], [-10, 1], smooth=False)
def bukin_6(x):
    return 100 * np.sqrt(np.abs(x[1] - 0.01 * x[0] ** 2)) + 0.01 * np.abs(x[0] + 10)


@problem(*box(-10, 10, 2), 9.646157266348881, -24.15681551650653)
def carrom_table(x):
    r = np.sqrt(np.sum(x**2))
    return -np.exp(2 * abs(1 - r / np.pi)) * np.prod(np.cos(x) ** 2) / 30


@problem(*box(-30, 30, 2), [6.189866586965680, 0.5], -42.94438701899098)
def chichinadze(x):
    a, b = x
    waves = 10 * np.cos(np.pi * a / 2) + 8 * np.sin(5 * np.pi * a / 2)
    return a**2 - 12 * a + 11 + waves - 0.2**0.5 * np.exp(-0.5 * (b - 0.5) ** 2)


@problem(*box(-10, 10, 2), 1.349406608602084, -2.062611870822739)
def cross_in_tray(x):
    inner = np.exp(abs(100 - np.sqrt(np.sum(x**2)) / np.pi)) * np.prod(np.sin(x))
    return -0.0001 * (abs(inner) + 1) ** 0.1


@problem(*box(-10, 10, 2), 1)
def cube(x):
    return 100 * (x[1] - x[0] ** 3) ** 2 + (1 - x[0]) ** 2


@problem(*box(-10, 10, 2), [2, -3], smooth=False)
def decanomial(x):
    p, q = np.poly1d(np.poly([2.0] * 10)), np.poly1d(np.poly([-3.0] * 4))
    return 0.001 * (abs(np.polyval(p.coeffs, x[0])) + abs(np.polyval(q.coeffs, x[1]))) ** 2


@problem(*box(-20, 20, 2), [0, 14.9451209], -24776.518242168)
def deckkers_aarts(x):
    square = x[0] ** 2 + x[1] ** 2
    return 1e5 * x[0] ** 2 + x[1] ** 2 - square**2 + 1e-5 * square**4


@problem(*box(-5.12, 5.12, 2), 0, -1, smooth=False)
def drop_wave(x):
    r = np.linalg.norm(x)
    return -(1 + np.cos(12 * r)) / (0.5 * r**2 + 2)


@problem(*box(-100, 100, 2), np.pi, -1)
def easom(x):
    return -np.cos(x[0]) * np.cos(x[1]) * np.exp(-np.sum((x - np.pi) ** 2))


@problem(*box(-5, 5, 2), 0)
def egg_crate(x):
    return np.sum(x**2) + 25 * np.sum(np.sin(x) ** 2)


@problem(*box(-512, 512, 2), [512, 404.2319], -959.640662711, smooth=False)
def egg_holder(x):
    a, b = x[0], x[1] + 47
    return -b * np.sin(np.sqrt(abs(b + a / 2))) - a * np.sin(np.sqrt(abs(a - b)))


@problem(*box(-100, 100, 2), [3.40918683, -2.17143304], 1.712780354)
def el_attar_vidyasagar_dutta(x):
    a, b = x
    return (a**2 + b - 10) ** 2 + (a + b**2 - 7) ** 2 + (a**2 + b**3 - 1) ** 2


@problem(*box(0, 20, 2), [1, 10])
def exp_2(x):
    i = np.arange(10)
    fit = np.exp(-i * x[0] / 10) - 5 * np.exp(-i * x[1] / 10)
    return np.sum((fit - np.exp(-i / 10) + 5 * np.exp(-i)) ** 2)


@problem(*box(-10, 10, 2), [5, 4])
def freudenstein_roth(x):
    a, b = x
    first = a - 13 + ((5 - b) * b - 2) * b
    return first**2 + (a - 29 + ((b + 1) * b - 14) * b) ** 2


@problem(*box(-1, 1, 2), 0.4673200277395354, 0.06447042053690566)
def giunta(x):
    a = 16 * x / 15 - 1
    return 0.6 + np.sum(np.sin(a) + np.sin(a) ** 2 + np.sin(4 * a) / 50)


@problem(*box(-2, 2, 2), [0, -1], 3)
def goldstein_price(x):
    a, b = x
    first = 19 - 14 * a + 3 * a**2 - 14 * b + 6 * a * b + 3 * b**2
    second = 18 - 32 * a + 12 * a**2 + 48 * b - 36 * a * b + 27 * b**2
    return (1 + (a + b + 1) ** 2 * first) * (30 + (2 * a - 3 * b) ** 2 * second)


@problem(*box(-10, 10, 2), [-7.58989583, -7.70831466], -176.54179, digits=5)
def hansen(x):
    i = np.arange(5)
    first = np.sum((i + 1) * np.cos(i * x[0] + i + 1))
    return first * np.sum((i + 1) * np.cos((i + 2) * x[1] + i + 1))


@problem(*box(-6, 6, 2), [3, 2])
def himmelblau(x):
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


@problem(*box(-10, 10, 2), [8.055023472141116, 9.664590028909654], -19.20850256788675)
def holder_table(x):
    wave = np.sin(x[0]) * np.cos(x[1]) * np.exp(abs(1 - np.hypot(x[0], x[1]) / np.pi))
    return -abs(wave)


@problem(*box(0, 10, 2), [4, 2], -2.345811576101292)
def hosaki(x):
    a, b = x
    return np.polyval([1 / 4, -7 / 3, 7, -8, 1], a) * b**2 * np.exp(-b)


@problem(*box(-1, 1, 2), 0.25782521, 124.36218236)
def jennrich_sampson(x):
    i = np.arange(1, 11)
    return np.sum((2 + 2 * i - np.exp(i * x[0]) - np.exp(i * x[1])) ** 2)


@problem(*box(-10, 10, 2), [0, 1.39324907], -0.673667521146855)
def keane(x):
    a, b = x
    return -(np.sin(a - b) ** 2) * np.sin(a + b) ** 2 / np.sqrt(a**2 + b**2)


@problem(*box(0, 10, 2), [2.00299219, 1.006096], -5.1621259)
def langermann(x):
    centres = np.array([[3, 5], [5, 2], [2, 1], [1, 4], [7, 9]])
    square = np.sum((x - centres) ** 2, axis=1)
    weights = np.array([1, 2, 5, 2, 3])
    return -np.sum(weights * np.exp(-square / np.pi) * np.cos(np.pi * square))


@problem(*box(-10, 10, 2), 1)
def levy_13(x):
    a, b = x
    first = (a - 1) ** 2 * (1 + np.sin(3 * np.pi * b) ** 2)
    return first + (b - 1) ** 2 * (1 + np.sin(2 * np.pi * b) ** 2) + np.sin(3 * np.pi * a) ** 2


@problem(*box(-10, 10, 2), 0)
def matyas(x):
    return 0.26 * (x[0] ** 2 + x[1] ** 2) - 0.48 * x[0] * x[1]


@problem([-1.5, -3], [4, 4], [-0.5471975602214493, -1.547197559268372], -1.913222954981037)
def mccormick(x):
    a, b = x
    return np.sin(a + b) + (a - b) ** 2 - 1.5 * a + 2.5 * b + 1


@problem(*box(-5, 5, 2), [np.pi / 2, 0])
def parsopoulos(x):
    return np.cos(x[0]) ** 2 + np.sin(x[1]) ** 2


@problem(*box(-10, 10, 2), 5)
def price_1(x):
    return np.sum((np.abs(x) - 5) ** 2)


@problem(*box(-10, 10, 2), 0, 0.9)
def price_2(x):
    return 1 + np.sum(np.sin(x) ** 2) - 0.1 * np.exp(-np.sum(x**2))


@problem(*box(-5, 5, 2), 1)
def price_3(x):
    a, b = x
    return 100 * (b - a**2) ** 2 + (6.4 * (b - 0.5) ** 2 - a - 0.6) ** 2


@problem(*box(-50, 50, 2), [2, 4])
def price_4(x):
    a, b = x
    return (2 * a**3 * b - b**3) ** 2 + (6 * a - b**2 + b) ** 2


@problem(*box(-10, 10, 2), [0.19388022, 0.48513391], -3873.7241821830326)
def quadratic(x):
    linear = np.array([-138.08, -232.92]) @ x
    A = np.array([[128.08, 91.125], [91.125, 203.64]])
    return -3803.84 + linear + x @ A @ x


@problem(*box(-2, 2, 2), [-0.90955374, -0.95057172], 34.040243106640844)
def rosenbrock_modified(x):
    a, b = x
    well = 400 * np.exp(-((a + 1) ** 2 + (b + 1) ** 2) / 0.1)
    return 74 + 100 * (b - a**2) ** 2 + (1 - a) ** 2 - well


@problem(*box(-500, 500, 2), 0)
def rotated_ellipse(x):
    a, b = x
    return 7 * a**2 - 6 * np.sqrt(3) * a * b + 13 * b**2


@problem(*box(-100, 100, 2), 0)
def schaffer_1(x):
    square = x[0] ** 2 + x[1] ** 2
    return 0.5 + (np.sin(square) ** 2 - 0.5) / (1 + 0.001 * square) ** 2


@problem(*box(-100, 100, 2), 0)
def schaffer_2(x):
    wave = np.sin(x[0] ** 2 - x[1] ** 2) ** 2
    return 0.5 + (wave - 0.5) / (1 + 0.001 * (x[0] ** 2 + x[1] ** 2)) ** 2


@problem(*box(-100, 100, 2), [0, 1.253115], 0.292578632)
def schaffer_4(x):
    wave = np.cos(np.sin(np.abs(x[0] ** 2 - x[1] ** 2))) ** 2
    return 0.5 + (wave - 0.5) / (1 + 0.001 * (x[0] ** 2 + x[1] ** 2)) ** 2


@problem(*box(-100, 100, 2), [1, 3], smooth=False)
def schwefel_6(x):
    return max(abs(x[0] + 2 * x[1] - 7), abs(2 * x[0] + x[1] - 5))


@problem(*box(0, 30, 2), 12, -3456)
def schwefel_36(x):
    return -x[0] * x[1] * (72 - 2 * x[0] - 2 * x[1])


@problem(*box(-10, 10, 2), [-7.0835, 4.8580], -186.7309, digits=4)
def shubert(x):
    j = np.arange(1, 6)
    return np.prod(np.sum(j * np.cos((j + 1) * x[:, None] + j), axis=1))


@problem(*box(-5, 5, 2), [0.08984201368301331, -0.7126564032704135], -1.031628453489877)
def six_hump_camel(x):
    a, b = x
    return (4 - 2.1 * a**2 + a**4 / 3) * a**2 + a * b + (4 * b**2 - 4) * b**2


@problem(*box(-10, 10, 2), [-np.pi / 2, 0], -10.872299901558)
def test_tube_holder(x):
    wave = np.sin(x[0]) * np.cos(x[1]) * np.exp(np.abs(np.cos(np.sum(x**2) / 200)))
    return -4 * np.abs(wave)


@problem(*box(-5, 5, 2), 0)
def three_hump_camel(x):
    a, b = x
    return 2 * a**2 - 1.05 * a**4 + a**6 / 6 + a * b + b**2


@problem(*box(-5, 5, 2), 0)
def treccani(x):
    return x[0] ** 4 + 4 * x[0] ** 3 + 4 * x[0] ** 2 + x[1] ** 2


@problem(*box(-10, 10, 2), [-0.02440307923, 0.2106124261], -3.3068686474)
def trefethen(x):
    a, b = x
    waves = np.exp(np.sin(50 * a)) + np.sin(60 * np.exp(b)) + np.sin(70 * np.sin(a))
    return 0.25 * (a**2 + b**2) + waves + np.sin(np.sin(80 * b)) - np.sin(10 * (a + b))


@problem(*box(-100, 100, 2), [0, -50], smooth=False)
def tripod(x):
    p, q = np.heaviside(x, 1)
    return q * (1 + p) + abs(x[0] + 50 * q * (1 - 2 * p)) + abs(x[1] + 50 * (1 - 2 * q))


@problem([-2.5, -2], [3, 2], [1.697136443570341, 0], -4.816814063712)
def ursem(x):
    return -np.sin(2 * x[0] - 0.5 * np.pi) - 3 * np.cos(x[1]) - 0.5 * x[0]


@problem(*box(-50, 50, 2), 0, -400)
def venter_sobiezcczanski(x):
    return np.sum(x**2 - 100 * np.cos(x) ** 2 - 100 * np.cos(x**2 / 30))


@problem(*box(-5, 5, 2), [1, 2])
def wayburn_seader(x):
    return (x[0] ** 6 + x[1] ** 4 - 17) ** 2 + (2 * x[0] + x[1] - 4) ** 2


@problem(*box(-1, 5, 2), [-0.02989597760285287, 0], -0.003791237220468656)
def zettl(x):
    return 0.25 * x[0] + (x[0] ** 2 - 2 * x[0] + x[1] ** 2) ** 2


@problem(*box(-10, 10, 2), [-1.0466805696, 0], -0.3523860739)
def zirilli(x):
    return 0.25 * x[0] ** 4 - 0.5 * x[0] ** 2 + 0.1 * x[0] + 0.5 * x[1] ** 2


# Three variables and more, many with data.

T = np.arange(1, 11) / 10


@problem(*box(0, 20, 3), [1, 10, 5])
def biggs_exp_3(x):
    y = np.exp(-T) - 5 * np.exp(-10 * T)
    return np.sum((np.exp(-T * x[0]) - x[2] * np.exp(-T * x[1]) - y) ** 2)


@problem(*box(0, 20, 5), [1, 10, 1, 5, 4])
def biggs_exp_5(x):
    t = np.arange(1, 12) / 10
    y = np.exp(-t) - 5 * np.exp(-10 * t) + 3 * np.exp(-4 * t)
    fit = x[2] * np.exp(-t * x[0]) - x[3] * np.exp(-t * x[1]) + 3 * np.exp(-t * x[4])
    return np.sum((fit - y) ** 2)


@problem(*box(-10, 10, 4), 1)
def colville(x):
    a, b, c, d = x
    first = 100 * (b - a**2) ** 2 + (1 - a) ** 2 + 90 * (d - c**2) ** 2 + (1 - c) ** 2
    return first + 10.1 * ((b - 1) ** 2 + (d - 1) ** 2) + 19.8 * (b - 1) * (d - 1)


@problem([10, 10, 0.5], [80, 40, 3], [50, 25, 1.5])
def gulf(x):
    i = np.arange(1, 100)
    u = 25 + (-50 * np.log(0.01 * i)) ** (2 / 3)
    return np.sum((np.exp(-(np.abs(u - x[1]) ** x[2]) / x[0]) - 0.01 * i) ** 2)


HARTMANN_WEIGHTS = np.array([1, 1.2, 3, 3.2])


@problem(*box(0, 1, 3), [0.114614, 0.555649, 0.852547], -3.86278214782076)
def hartmann_3(x):
    A = np.array([[3, 10, 30], [0.1, 10, 35]] * 2)
    P = np.array(
        [[0.3689, 0.117, 0.2673], [0.4699, 0.4387, 0.747], [0.1091, 0.8732, 0.5547],
         [0.03815, 0.5743, 0.8828]]
    )  # fmt: skip
    return -HARTMANN_WEIGHTS @ np.exp(-np.sum(A * (x - P) ** 2, axis=1))


@problem(
    *box(0, 1, 6),
    [0.20168952, 0.15001069, 0.47687398, 0.27533243, 0.31165162, 0.65730054],
    -3.32236801141551,
)
def hartmann_6(x):
    A = np.array(
        [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8],
         [17, 8, 0.05, 10, 0.1, 14]]
    )  # fmt: skip
    P = 1e-4 * np.array(
        [[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
         [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]]
    )  # fmt: skip
    return -HARTMANN_WEIGHTS @ np.exp(-np.sum(A * (x - P) ** 2, axis=1))


@problem(*box(-10, 10, 3), [1, 0, 0])
def helical_valley(x):
    turns = np.arctan2(x[1], x[0]) / (2 * np.pi)
    return 100 * ((x[2] - 10 * turns) ** 2 + (np.hypot(x[0], x[1]) - 1) ** 2) + x[2] ** 2


@problem(*box(-5, 5, 4), [0.192833, 0.190836, 0.123117, 0.135766], 0.00030748598, digits=7)
def kowalik(x):
    b = np.array([4, 2, 1, 1 / 2, 1 / 4, 1 / 6, 1 / 8, 1 / 10, 1 / 12, 1 / 14, 1 / 16])
    a = np.array(
        [0.1957, 0.1947, 0.1735, 0.16, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246]
    )
    return np.sum((a - x[0] * (b**2 + b * x[1]) / (b**2 + b * x[2] + x[3])) ** 2)


@problem([0, 100, 100], [1, 1e4, 500], [0.005609636, 6181.346346, 345.2236345], 87.9458, digits=3)
def meyer(x):
    t = 45 + 5 * np.arange(1, 17)
    y = np.array(
        [34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820,
         3307, 2872]
    )  # fmt: skip
    return np.sum((x[0] * np.exp(x[1] / (t + x[2])) - y) ** 2)


@problem(*box(-1, 1, 4), [0, 1, 1, 1])
def miele_cantrell(x):
    a, b, c, d = x
    return (np.exp(a) - b) ** 4 + 100 * (b - c) ** 6 + np.tan(c - d) ** 4 + a**8


@problem(
    [0, 0.5, -2.5, 0.005, 0.01], [1, 2.5, 0, 0.03, 0.05],
    [0.37541005, 1.93584693, -1.46468715, 0.01286753, 0.02212270], 5.464894697e-05, digits=9,
)  # fmt: skip
def osborne(x):
    t = 10 * np.arange(33)
    y = np.array(
        [0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.85, 0.818, 0.784, 0.751, 0.718, 0.685,
         0.658, 0.628, 0.603, 0.58, 0.558, 0.538, 0.522, 0.506, 0.49, 0.478, 0.467, 0.457, 0.448,
         0.438, 0.431, 0.424, 0.42, 0.414, 0.411, 0.406]
    )  # fmt: skip
    return np.sum((y - x[0] - x[1] * np.exp(-t * x[3]) - x[2] * np.exp(-t * x[4])) ** 2)


SHEKEL = np.array(
    [[4, 4, 4, 4], [1, 1, 1, 1], [8, 8, 8, 8], [6, 6, 6, 6], [3, 7, 3, 7], [2, 9, 2, 9],
     [5, 5, 3, 3], [8, 1, 8, 1], [6, 2, 6, 2], [7, 3.6, 7, 3.6]]
)  # fmt: skip


@problem(*box(0, 10, 4), [4.00074653, 4.00059293, 3.9996634, 3.9995098], -10.5364098166920)
def shekel_10(x):
    c = np.array([1, 2, 2, 4, 4, 6, 3, 7, 5, 5]) / 10
    return -np.sum(1 / (np.sum((x - SHEKEL) ** 2, axis=1) + c))


@problem(*box(0, 10, 4), [4.00003715, 4.00013327, 4.00003715, 4.00013327], -10.1531996790582)
def shekel_5(x):
    c = (0.1, 0.2, 0.2, 0.4, 0.4)
    total = 0
    for centre, width in zip(SHEKEL, c, strict=False):
        distance = x - centre
        total -= 1 / (distance @ distance + width)
    return total


@problem(*box(-5, 5, 6), [-0.0158, 1.012, -0.2329, 1.260, -1.513, 0.9928], 0.002288, digits=4)
def watson(x):
    t = np.arange(1, 30)[:, None] / 29
    j = np.arange(6)
    slope = np.sum(j[1:] * t ** j[:-1] * x[1:], axis=1)
    fit = slope - np.sum(t**j * x, axis=1) ** 2 - 1
    return np.sum(fit**2) + x[0] ** 2 + (x[1] - x[0] ** 2 - 1) ** 2


@problem(*box(0, 2, 3), 0, smooth=False)
def wolfe(x):
    return 4 / 3 * (x[0] ** 2 + x[1] ** 2 - x[0] * x[1]) ** 0.75 + x[2]
