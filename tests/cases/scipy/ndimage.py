"""Cases for `nbhvp/trace/scipy/ndimage.py`: name, function, point."""

import numpy as np
from scipy import ndimage

from nbhvp.trace.scipy.filters import _FEW

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


def filtered_into(x):
    result = np.zeros(x.shape)
    ndimage.gaussian_filter(x, 1.0, output=result)
    return result**2


# fmt: off
CASES = [
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
# fmt: on
