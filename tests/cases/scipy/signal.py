"""Cases for `nbhvp/trace/scipy/signal.py`: name, function, point."""

import numpy as np
from scipy import signal

from tests.cases.scipy.ndimage import EVEN, IMAGE, LONG, MANY, SIGNAL, STAMP

B, A = signal.butter(3, 0.3)
SOS = signal.butter(4, 0.3, output="sos")
STATE = signal.lfilter_zi(B, A)

# fmt: off
PAIRS = [("full", EVEN), ("same", EVEN), ("valid", EVEN), ("full", MANY), ("same", MANY), ("valid", MANY)]
CASES = [
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
