"""Linear filters of scipy.ndimage and scipy.signal: SciPy's values and their first two derivatives."""

import numpy as np
import pytest
from scipy import ndimage, signal

from nbhvp.errors import TraceError
from nbhvp.trace.record import record
from nbhvp.trace.scipy.filters import _FEW
from tests.checks import assert_composition

RNG = np.random.default_rng(20250214)
SIGNAL, IMAGE = RNG.normal(size=9), RNG.normal(size=(4, 5))
LONG = RNG.normal(size=40)
KERNEL, EVEN, STAMP = np.array([1.0, -2.0, 0.5]), RNG.normal(size=4), RNG.normal(size=(2, 3))
MANY = RNG.normal(size=_FEW + 3)
MODES = (
    "reflect",
    "constant",
    "nearest",
    "mirror",
    "wrap",
    "grid-constant",
    "grid-mirror",
    "grid-wrap",
)
B, A = signal.butter(3, 0.3)
SOS = signal.butter(4, 0.3, output="sos")
STATE = signal.lfilter_zi(B, A)


def filtered_into(x):
    result = np.zeros(x.shape)
    ndimage.gaussian_filter(x, 1.0, output=result)
    return result**2


# fmt: off
IMAGES = [
    *((f"correlate1d {m}", lambda x, m=m: ndimage.correlate1d(x, KERNEL, mode=m, cval=0.7) ** 2, SIGNAL) for m in MODES),
    *((f"convolve1d {m}", lambda x, m=m: ndimage.convolve1d(x, EVEN, axis=0, mode=m, cval=0.7) ** 2, IMAGE) for m in MODES),
    *((f"correlate {m}", lambda x, m=m: ndimage.correlate(x, STAMP, mode=m, cval=0.7) ** 2, IMAGE) for m in MODES),
    *((f"gaussian_filter {m}", lambda x, m=m: ndimage.gaussian_filter(x, 0.8, mode=m, cval=0.7) ** 2, IMAGE) for m in MODES),
    *((f"origin {o}", lambda x, o=o: ndimage.correlate1d(x, EVEN, origin=o) * ndimage.convolve1d(x, EVEN, origin=o), SIGNAL) for o in (-2, -1, 0, 1)),
    ("origins", lambda x: ndimage.convolve(x, STAMP, origin=(0, -1)) ** 2 + ndimage.correlate(x, STAMP, origin=(-1, 1)), IMAGE),
    ("axes", lambda x: ndimage.convolve(x, EVEN, axes=(1,)) ** 2, IMAGE),
    ("wide kernel", lambda x: ndimage.correlate1d(x, MANY, mode="mirror") ** 2, SIGNAL),
    ("zero kernel", lambda x: ndimage.correlate1d(x, [0.0, 0, 0]) + x**2, SIGNAL),
    ("kernel of x", lambda x: ndimage.correlate1d(x, x[:3] ** 2, mode="wrap"), SIGNAL),
    ("stamp of x", lambda x: ndimage.convolve(x, x[:2, :3]), IMAGE),
    ("uniform_filter1d", lambda x: ndimage.uniform_filter1d(x, 4, axis=0, origin=1) ** 2, IMAGE),
    ("uniform_filter", lambda x: ndimage.uniform_filter(x, (3, 2), mode=("wrap", "nearest")) ** 2, IMAGE),
    ("gaussian_filter1d", lambda x: ndimage.gaussian_filter1d(x, 1.3, order=1) * ndimage.gaussian_filter1d(x, 1.3, order=2, truncate=2.0), SIGNAL),
    ("gaussian_filter settings", lambda x: ndimage.gaussian_filter(x, (0.5, 1), order=(0, 1), radius=(1, 2)) ** 2, IMAGE),
    ("gaussian_filter axes", lambda x: ndimage.gaussian_filter(x, 2.0, axes=(0,)) ** 2, IMAGE),
    ("gaussian_filter output", filtered_into, IMAGE),
    ("wide gaussian_filter", lambda x: ndimage.gaussian_filter(x, 5.0) ** 2, IMAGE),
    ("sobel", lambda x: ndimage.sobel(x, 0) * ndimage.prewitt(x, mode="constant"), IMAGE),
    ("laplace", lambda x: ndimage.laplace(x, mode="wrap") ** 2 + ndimage.laplace(x, axes=(1,)), IMAGE),
    ("gaussian_laplace", lambda x: ndimage.gaussian_laplace(x, 1.0) ** 2, IMAGE),
    ("gaussian_gradient_magnitude", lambda x: ndimage.gaussian_gradient_magnitude(x, 0.7), IMAGE),
]

PAIRS = [("full", EVEN), ("same", EVEN), ("valid", EVEN), ("full", MANY), ("same", MANY), ("valid", MANY)]
SIGNALS = [
    *((f"convolve {m} {k.size}", lambda x, m=m, k=k: signal.convolve(x, k, m) ** 2, SIGNAL) for m, k in PAIRS),
    *((f"correlate {m} {k.size}", lambda x, m=m, k=k: signal.correlate(x, k, m) ** 2, SIGNAL) for m, k in PAIRS),
    *((f"fftconvolve {m}", lambda x, m=m: signal.fftconvolve(x, STAMP, m) ** 2, IMAGE) for m in ("full", "same", "valid")),
    ("oaconvolve", lambda x: signal.oaconvolve(x, MANY, "same") ** 2, LONG),
    ("convolve with itself", lambda x: signal.convolve(x, x[:4] ** 2) + signal.correlate(x, x[:4]), SIGNAL),
    ("complex kernel", lambda x: np.abs(signal.convolve(x, [1, 2j, 0.5]) + signal.correlate(x, [1, 2j, 0.5])), SIGNAL),
    *((f"convolve2d {b}", lambda x, b=b: signal.convolve2d(x, STAMP, "same", b, 0.7) ** 2 + signal.correlate2d(x, STAMP, "same", b), IMAGE) for b in ("fill", "wrap", "symm")),
    ("lfilter", lambda x: signal.lfilter(B, A, x) ** 2, SIGNAL),
    ("lfilter without recursion", lambda x: signal.lfilter(EVEN, [2.0], x, axis=0) ** 2, IMAGE),
    ("lfilter without delay", lambda x: signal.lfilter([2.0], [1, 0.5], x) ** 2, IMAGE),
    ("lfilter normalised", lambda x: signal.lfilter(2 * B, 2 * A, x) ** 2, SIGNAL),
    ("lfilter from a state", lambda x: np.concatenate(signal.lfilter(B, A, x, zi=STATE * x[0])) ** 2, SIGNAL),
    ("lfilter of columns", lambda x: np.concatenate(signal.lfilter(B, A, x, 0, zi=STATE[:, None])) ** 2, IMAGE),
    ("lfilter numerator", lambda x: np.concatenate(signal.lfilter(EVEN, [1, 0.5], x, zi=[1.0, 2, 3])) ** 2, SIGNAL),
    ("lfilter of parameters", lambda x: signal.lfilter(x[:2], np.concatenate([[2.0], 0.3 * x[2:4]]), x), SIGNAL),
    ("lfilter of all", lambda x: np.concatenate(signal.lfilter([1.0, x[0]], [x[1] + 3, x[2], x[3]], x, zi=x[:2])), SIGNAL),
    ("sosfilt", lambda x: signal.sosfilt(SOS, x) ** 2, SIGNAL),
    ("sosfilt from a state", lambda x: np.multiply(*[np.sum(q**2) for q in signal.sosfilt(SOS, x, zi=signal.sosfilt_zi(SOS))]), SIGNAL),
    *((f"filtfilt {pad}", lambda x, pad=pad: signal.filtfilt(B, A, x, padtype=pad) ** 2, LONG) for pad in ("odd", "even", "constant", None)),
    ("sosfiltfilt", lambda x: signal.sosfiltfilt(SOS, x) ** 2, LONG),
    *((f"savgol_filter {m}", lambda x, m=m: signal.savgol_filter(x, 5, 2, mode=m) ** 2, SIGNAL) for m in ("interp", "mirror", "constant", "nearest", "wrap")),
    ("savgol_filter derivative", lambda x: signal.savgol_filter(x, 3, 1, deriv=1, delta=0.5, axis=0) ** 2, IMAGE),
    ("detrend", lambda x: signal.detrend(x) ** 2 + signal.detrend(x, type="constant"), SIGNAL),
    ("detrend pieces", lambda x: signal.detrend(x, axis=0, bp=[1]) ** 2, IMAGE),
]
# fmt: on


@pytest.mark.parametrize(
    ("fun", "x"), [c[1:] for c in IMAGES + SIGNALS], ids=[c[0] for c in IMAGES + SIGNALS]
)
def test_filter(fun, x):
    assert_composition(fun, x)


REFUSALS = [
    ("median_filter", lambda x: ndimage.median_filter(x, 3), "median_filter"),
    ("axes of fftconvolve", lambda x: signal.fftconvolve(x, x, axes=0), "some of the axes"),
    ("filtfilt", lambda x: signal.filtfilt(x[0], A, LONG), "there and back"),
    ("gust", lambda x: signal.filtfilt(B, A, x[0], method="gust"), "method='gust'"),
    ("short", lambda x: signal.lfilter(B, A, x[0, :2], zi=STATE), "shorter"),
]


@pytest.mark.parametrize(("fun", "words"), [c[1:] for c in REFUSALS], ids=[c[0] for c in REFUSALS])
def test_what_is_refused_says_so(fun, words):
    with pytest.raises(TraceError, match=words) as error:
        record(fun, IMAGE, (), {})
    assert "test_linear_filters.py" in str(error.value)
