"""Linear filters of scipy.ndimage and scipy.signal: what is refused of them."""

import pytest
from scipy import ndimage, signal

from nbhvp.errors import TraceError
from nbhvp.trace.record import record
from tests.cases.scipy.ndimage import IMAGE, LONG
from tests.cases.scipy.signal import STATE, A, B

REFUSALS = [
    ("median_filter", lambda x: ndimage.median_filter(x, 3), "median_filter"),
    ("axes of fftconvolve", lambda x: signal.fftconvolve(x, x, axes=0), "some of the axes"),
    ("filtfilt", lambda x: signal.filtfilt(x[0], A, LONG), "forward and backward"),
    ("gust", lambda x: signal.filtfilt(B, A, x[0], method="gust"), "method='gust'"),
    ("short", lambda x: signal.lfilter(B, A, x[0, :2], zi=STATE), "shorter"),
]


@pytest.mark.parametrize(("fun", "words"), [c[1:] for c in REFUSALS], ids=[c[0] for c in REFUSALS])
def test_what_is_refused_says_so(fun, words):
    with pytest.raises(TraceError, match=words) as error:
        record(fun, IMAGE, (), {})
    assert "test_linear_filters.py" in str(error.value)
