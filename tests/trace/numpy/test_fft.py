"""numpy.fft and scipy.fft against explicit sums of mpmath.

Every transform with lengths, axes and norms; functions of spectra as they are written: power,
filters, spectral derivatives, phases.
"""

import mpmath
import numpy as np
import pytest
import scipy.fft

import nbhvp
from tests.checks import assert_close
from tests.digits import check_against, mp_weighted, weighted

pytestmark = pytest.mark.usefixtures("unsplit")

mp = mpmath.mp
RNG = np.random.default_rng(40)
X, V = RNG.normal(size=6), RNG.normal(size=(6, 2))
M, W = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 4, 2))
LIBRARIES = {"numpy": np.fft, "scipy": scipy.fft}
NORMS = (None, "ortho", "forward")


def squares(values):
    return [q**2 for q in values]


def fitted(values, n):
    return [*values, *[mp.mpf(0)] * n][:n]


def factor(n, norm, inverse):
    n = mp.mpf(n)
    if norm == "ortho":
        return 1 / mp.sqrt(n)
    return 1 / n if inverse == (norm != "forward") else mp.mpf(1)


def mp_fft(values, n=None, norm=None, inverse=False):
    n = len(values) if n is None else n
    values = fitted(values, n)
    w = mp.expjpi(mp.mpf(2 if inverse else -2) / n)
    scale = factor(n, norm, inverse)
    return [scale * mp.fsum(q * w ** (j * k) for j, q in enumerate(values)) for k in range(n)]


def mp_ifft(values, n=None, norm=None):
    return mp_fft(values, n, norm, inverse=True)


def mp_rfft(values, n=None, norm=None):
    n = len(values) if n is None else n
    return mp_fft(values, n, norm)[: n // 2 + 1]


def mp_irfft(values, n=None, norm=None, inverse=True):
    """By the whole Hermitian spectrum, of whose ends only the real parts count."""
    n = 2 * (len(values) - 1) if n is None else n
    half = fitted(values, n // 2 + 1)
    half[0] = mp.re(half[0])
    if n % 2 == 0:
        half[-1] = mp.re(half[-1])
    rest = [mp.conj(q) for q in half[1 : (n + 1) // 2][::-1]]
    return [
        mp.re(q) * factor(n, norm, inverse) / factor(n, None, True) for q in mp_ifft([*half, *rest])
    ]


def mp_hfft(values, n=None, norm=None):
    return mp_irfft([mp.conj(q) for q in values], n, norm, inverse=False)


def mp_ihfft(values, n=None, norm=None):
    n = len(values) if n is None else n
    scale = factor(n, norm, True) / factor(n, None, False)
    return [scale * mp.conj(q) for q in mp_rfft(values, n)]


ONE = {
    "fft": mp_fft, "ifft": mp_ifft, "rfft": mp_rfft, "irfft": mp_irfft, "hfft": mp_hfft,
    "ihfft": mp_ihfft,
}  # fmt: skip


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", ONE)
def test_one_dimension(library, name):
    """All lengths and norms at once: as it is, cut to an odd and filled to an even number."""
    transform, exactly = getattr(LIBRARIES[library], name), ONE[name]
    options = [(n, norm) for n in (None, 5, 8) for norm in NORMS]

    def fun(x):
        return sum(weighted(transform(x**2, n, norm=norm) * x[0]) for n, norm in options)

    def mp_fun(x):
        return mp.fsum(
            mp_weighted([q * x[0] for q in exactly(squares(x), n, norm)]) for n, norm in options
        )

    check_against(mp_fun, nbhvp.differentiable(fun, target="interpret"), fun, X, V)


def columns(rows):
    return [list(c) for c in zip(*rows, strict=True)]


def mp_along(rows, axis, transform):
    """A transform along an axis of a matrix, as a list of rows."""
    if axis == 1:
        return [transform(row) for row in rows]
    return columns([transform(column) for column in columns(rows)])


def flat(rows):
    return [q for row in rows for q in row]


def mp_fftn(rows, s=(None, None), norm=None, one=mp_fft):
    rows = mp_along(rows, 1, lambda line: one(line, s[1], norm))
    return mp_along(rows, 0, lambda line: one(line, s[0], norm))


def mp_rfftn(rows, s=(None, None), norm=None):
    rows = mp_along(rows, 1, lambda line: mp_rfft(line, s[1], norm))
    return mp_along(rows, 0, lambda line: mp_fft(line, s[0], norm))


def mp_irfftn(rows, s=(None, None), norm=None):
    rows = mp_along(rows, 0, lambda line: mp_ifft(line, s[0], norm))
    return mp_along(rows, 1, lambda line: mp_irfft(line, s[1], norm))


def mp_ifftn(rows, s=(None, None), norm=None):
    return mp_fftn(rows, s, norm, mp_ifft)


def mp_hfftn(rows, s=(None, None), norm=None):
    rows = mp_along(rows, 0, lambda line: mp_fft(line, s[0], norm))
    return mp_along(rows, 1, lambda line: mp_hfft(line, s[1], norm))


def mp_ihfftn(rows, s=(None, None), norm=None):
    rows = mp_along(rows, 1, lambda line: mp_ihfft(line, s[1], norm))
    return mp_along(rows, 0, lambda line: mp_ifft(line, s[0], norm))


SEVERAL = {
    "fft2": mp_fftn, "ifft2": mp_ifftn, "rfft2": mp_rfftn, "irfft2": mp_irfftn, "fftn": mp_fftn,
    "ifftn": mp_ifftn, "rfftn": mp_rfftn, "irfftn": mp_irfftn, "hfft2": mp_hfftn,
    "hfftn": mp_hfftn, "ihfft2": mp_ihfftn, "ihfftn": mp_ihfftn,
}  # fmt: skip


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("library", "name"),
    [
        (key, name)
        for key, library in LIBRARIES.items()
        for name in SEVERAL
        if hasattr(library, name)
    ],
)
def test_several_dimensions(library, name):
    transform, exactly = getattr(LIBRARIES[library], name), SEVERAL[name]

    def fun(x):
        plain = weighted(transform(x**2)) + weighted(transform(x**3, norm="forward"))
        return plain + weighted(transform(x**2, (2, 5), axes=(0, 1), norm="ortho"))

    def mp_fun(x):
        two, three = ([[q**k for q in row] for row in x.tolist()] for k in (2, 3))
        plain = mp_weighted(flat(exactly(two))) + mp_weighted(flat(exactly(three, norm="forward")))
        return plain + mp_weighted(flat(exactly(two, (2, 5), "ortho")))

    check_against(mp_fun, nbhvp.differentiable(fun, target="interpret"), fun, M, W)


def mp_cosine(values, type):
    """scipy.fft's dct without a norm, by its documentation."""
    n = len(values)
    pi = mp.pi

    def one(k):
        if type == 1:
            ends = values[0] + (-1) ** k * values[-1]
            return ends + 2 * mp.fsum(
                values[j] * mp.cos(pi * k * j / (n - 1)) for j in range(1, n - 1)
            )
        if type == 2:
            return 2 * mp.fsum(
                q * mp.cos(pi * k * (2 * j + 1) / (2 * n)) for j, q in enumerate(values)
            )
        if type == 3:
            return values[0] + 2 * mp.fsum(
                values[j] * mp.cos(pi * (2 * k + 1) * j / (2 * n)) for j in range(1, n)
            )
        angle = lambda j: pi * (2 * k + 1) * (2 * j + 1) / (4 * n)
        return 2 * mp.fsum(q * mp.cos(angle(j)) for j, q in enumerate(values))

    return [one(k) for k in range(n)]


def mp_sine(values, type):
    n = len(values)
    pi = mp.pi

    def one(k):
        if type == 1:
            return 2 * mp.fsum(
                q * mp.sin(pi * (k + 1) * (j + 1) / (n + 1)) for j, q in enumerate(values)
            )
        if type == 2:
            angle = lambda j: pi * (k + 1) * (2 * j + 1) / (2 * n)
            return 2 * mp.fsum(q * mp.sin(angle(j)) for j, q in enumerate(values))
        if type == 3:
            angle = lambda j: pi * (2 * k + 1) * (j + 1) / (2 * n)
            inner = 2 * mp.fsum(values[j] * mp.sin(angle(j)) for j in range(n - 1))
            return (-1) ** k * values[-1] + inner
        angle = lambda j: pi * (2 * k + 1) * (2 * j + 1) / (4 * n)
        return 2 * mp.fsum(q * mp.sin(angle(j)) for j, q in enumerate(values))

    return [one(k) for k in range(n)]


@pytest.mark.parametrize("type", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["dct", "dst"])
def test_cosine_and_sine_transforms(kind, type):
    transform, exactly = getattr(scipy.fft, kind), {"dct": mp_cosine, "dst": mp_sine}[kind]
    fun = lambda x: weighted(transform(x**2, type)) + weighted(transform(x**3, type, n=4))
    mp_fun = lambda x: (
        mp_weighted(exactly(squares(x), type)) + mp_weighted(exactly([q**3 for q in x][:4], type))
    )
    check_against(mp_fun, nbhvp.differentiable(fun, target="interpret"), fun, X, V)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["dct", "idct", "dst", "idst"])
def test_norms_of_cosine_and_sine_transforms(name, norm):
    """Linear maps: their Jacobians are SciPy's own values at unit vectors."""
    transform = getattr(scipy.fft, name)
    for type in (1, 2, 3, 4):
        for options in ({}, {"orthogonalize": True}, {"orthogonalize": False}):
            fun = lambda x, type=type, options=options: transform(x, type, norm=norm, **options)
            r = nbhvp.differentiable(fun, target="interpret")
            needed = np.stack([fun(e) for e in np.eye(6)], axis=1)
            np.testing.assert_allclose(r.jvp(X, np.eye(6)), needed, rtol=1e-13, atol=1e-13)
            np.testing.assert_allclose(r.vjp(X, np.eye(6)), needed.T, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", ["dctn", "idctn", "dstn", "idstn"])
def test_several_cosines(name):
    transform = getattr(scipy.fft, name)
    for options in ({}, {"type": 1, "s": (2, 5), "axes": (0, 1), "norm": "ortho"}, {"axes": 0}):
        fun = lambda x, options=options: transform(x, **options).ravel()
        r = nbhvp.differentiable(fun, target="interpret")
        units = np.eye(12).reshape(12, 3, 4)
        needed = np.stack([fun(e) for e in units], axis=1)
        found = r.jvp(M, np.moveaxis(units, 0, -1))
        np.testing.assert_allclose(found, needed, rtol=1e-13, atol=1e-13)


# Spectra as functions use them.


def power(x):
    z = np.fft.rfft(x)
    return np.sum(np.abs(z) ** 2 * np.fft.rfftfreq(6) ** 2) + np.sum(np.abs(np.fft.fft(x)) ** 3)


def mp_power(x):
    squared = lambda q: mp.re(q) ** 2 + mp.im(q) ** 2
    low = mp.fsum(squared(q) * mp.mpf(k) ** 2 / 36 for k, q in enumerate(mp_rfft(list(x))))
    return low + mp.fsum(squared(q) ** mp.mpf(1.5) for q in mp_fft(list(x)))


def spectral_derivative(x):
    """Of sin x on a grid: i k in the spectrum, a phase, real and imaginary parts."""
    k = 2 * np.pi * np.fft.fftfreq(x.size, d=0.5)
    z = np.fft.fft(np.sin(x))
    shifted = np.fft.ifft(1j * k * z * np.exp(1j * k * x[0]))
    return weighted(shifted.real) + weighted(shifted.imag**2) + np.sum(np.conj(z) * z).real


def mp_spectral_derivative(x):
    n = len(x)
    k = [4 * mp.pi * (j if j < n / 2 else j - n) / n for j in range(n)]
    z = mp_fft([mp.sin(q) for q in x])
    moved = [mp.mpc(0, 1) * a * q * mp.expj(a * x[0]) for a, q in zip(k, z, strict=True)]
    shifted = mp_ifft(moved)
    total = mp.fsum(mp.re(q * mp.conj(q)) for q in z)
    return (
        mp_weighted([mp.re(q) for q in shifted])
        + mp_weighted([mp.im(q) ** 2 for q in shifted])
        + total
    )


def convolution(x):
    """By the convolution theorem, with shifted spectra and a traced spacing."""
    z = np.fft.fftshift(np.fft.rfft(x, 11)) * np.fft.fftshift(np.fft.rfft(x[::-1], 11))
    y = np.fft.irfft(np.fft.ifftshift(z), 11)
    return weighted(y**2) + weighted(scipy.fft.fftfreq(6, x[0]) * x)


def mp_convolution(x):
    values = list(x)
    full = [
        mp.fsum(values[j] * values[5 - (k - j)] for j in range(6) if 0 <= k - j < 6)
        for k in range(11)
    ]
    frequencies = [0, 1, 2, -3, -2, -1]
    ratio = [mp.mpf(f) / (6 * x[0]) * q for f, q in zip(frequencies, values, strict=True)]
    return mp_weighted(squares(full)) + mp_weighted(ratio)


SPECTRA = [
    (power, mp_power),
    (spectral_derivative, mp_spectral_derivative),
    (convolution, mp_convolution),
]


@pytest.mark.parametrize(("fun", "exactly"), SPECTRA, ids=lambda f: f.__name__)
def test_spectra(fun, exactly):
    check_against(exactly, nbhvp.differentiable(fun, target="interpret"), fun, X, V)


def several(x):
    image = np.real(scipy.fft.ifft2(scipy.fft.fft2(np.outer(x, x)) * 0.5j))
    return power(x) + weighted(scipy.fft.dct(x**2)) + weighted(image)


@pytest.mark.compiles
@pytest.mark.no_cover
def test_compiled():
    f, g = (nbhvp.differentiable(several, target=t) for t in ("cpu", "interpret"))
    assert f(X) == pytest.approx(several(X), rel=1e-13)
    np.testing.assert_allclose(f.grad(X), g.grad(X), rtol=1e-11, atol=1e-11)
    assert_close(f.hvp(X, V), g.hvp(X, V), 1e-11)


def test_single_precision_stays():
    f = nbhvp.differentiable(several, target="interpret")
    found = f.hvp(X.astype(np.float32), V.astype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, f.hvp(X, V), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("fun", "error"),
    [
        (lambda x: np.fft.rfft(x + 1j).real, TypeError),
        (lambda x: np.fft.fft(x, norm="none").real, ValueError),
        (lambda x: np.fft.fft(x, 0).real, ValueError),
        (lambda x: np.fft.fft2(x.reshape(2, 3), axes=(0, 0)).real, nbhvp.TraceError),
        (lambda x: scipy.fft.dct(x, 5), ValueError),
        (lambda x: scipy.fft.fht(x, 0.1, 0.5), nbhvp.TraceError),
    ],
)
def test_errors(fun, error):
    with pytest.raises(error):
        nbhvp.differentiable(fun, target="interpret")(X)


def test_hints_of_scipy_change_nothing():
    fun = lambda x: weighted(scipy.fft.fft(x, workers=2, overwrite_x=True))
    assert nbhvp.differentiable(fun, target="interpret")(X) == pytest.approx(fun(X.copy()))
