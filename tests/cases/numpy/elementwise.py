"""Cases for `nbhvp/trace/numpy/elementwise.py`: name, function, point."""

import numpy as np

from tests.cases.points import (
    A6,
    HUNDREDTHS,
    MASK,
    MATRIX,
    VECTOR,
)

# fmt: off
CASES = [
    ("positive", lambda x: np.positive(x), VECTOR),
    ("square", lambda x: np.square(x), VECTOR),
    ("power", lambda x: np.power(x, 3) + np.power(2.5, x), VECTOR),
    ("reciprocal", lambda x: np.reciprocal(x), VECTOR),
    ("float_power", lambda x: np.float_power(x, 3) + np.float_power(2.0, x), VECTOR),
    ("radians", lambda x: np.deg2rad(x) * x + np.radians(x) + np.degrees(x) * x, VECTOR),
    ("rad2deg", lambda x: np.rad2deg(x) * x, VECTOR),
    ("divmod", lambda x: np.divmod(x, 0.7)[1] * x + np.divmod(x, 0.7)[0], VECTOR),
    ("modf", lambda x: np.modf(3 * x)[0] * x + np.modf(3 * x)[1], VECTOR),
    ("ldexp", lambda x: np.ldexp(x, [1, 2, 3, 0, -1, -2]) * x, VECTOR),
    ("frexp", lambda x: np.frexp(x)[0] ** 2 + np.frexp(x)[1], 5 * VECTOR),
    ("heaviside", lambda x: np.heaviside(x, 0.5) * x, VECTOR),
    ("fabs", lambda x: np.fabs(x) * x + abs(x), VECTOR),
    ("sign", lambda x: np.sign(x) * x, VECTOR),
    ("complex abs", lambda x: np.abs(x + 1j * x[::-1] ** 2), VECTOR),
    ("complex sign", lambda x: np.sign(x + 2j * x**2).imag, VECTOR),
    (
        "angle",
        lambda x: np.angle(x + 1j * x[::-1]) + np.angle(x) + np.angle(1j * x, deg=True),
        VECTOR,
    ),
    ("real imag conj", lambda x: np.real(np.exp(1j * x)) + np.imag(np.conj((x + 1j) ** 3)), VECTOR),
    ("outer ufunc", lambda x: np.multiply.outer(x, np.sin(x)), VECTOR),
    ("clip", lambda x: np.clip(x, -0.5, 0.5) * x + np.clip(x, None, x[0]) + x.clip(0), VECTOR),
    ("clip keywords", lambda x: np.clip(x, min=-0.2, max=A6) * x, VECTOR),
    ("select", lambda x: np.select([x > 0.5, x > -0.5], [x**2, x**3], 2 * x), VECTOR),
    ("select default", lambda x: np.select([x > 0.5, x > -0.5], [x**2, 1]), VECTOR),
    ("round", lambda x: np.round(x, 1) * x + np.around(x) * x + x.round(2), HUNDREDTHS),
    ("fix", lambda x: np.fix(x) * x, VECTOR),
    ("nan_to_num", lambda x: np.nan_to_num(np.where(MASK, x, np.nan), nan=0.5) * x, VECTOR),
    ("nan_to_num inf", lambda x: np.nan_to_num(np.where(MASK, x, -np.inf), neginf=2) * x, VECTOR),
    ("sinc", lambda x: np.sinc(np.concatenate([x, [0.0], 1e-3 * x, 0.1 * x])), VECTOR),
    ("complex matmul", lambda x: np.abs(np.exp(1j * x) @ x.T) ** 2, MATRIX),
    ("real_if_close", lambda x: np.real_if_close(np.fft.ifft(np.fft.fft(x**2))) * x, VECTOR),
    ("real_if_close of complex", lambda x: np.abs(np.real_if_close(x * (1 + 2j), 10)) ** 2, VECTOR),
    ("hypot arctan2", lambda x: np.hypot(x, x[::-1]) * np.arctan2(x, x[::-1]) + np.logaddexp2(x, 1), VECTOR),
    ("fmod", lambda x: np.fmod(x, x[::-1] + 2) * x + np.mod(x, 0.7) ** 2, VECTOR),
    ("isclose", lambda x: np.isclose(x, x[0]) * x, VECTOR),
    ("isreal", lambda x: np.isreal(x) * x**2 + np.iscomplex(x + 1j * x) * x, VECTOR),
    ("truth values", lambda x: x**2 if np.allclose(x, x) and not (np.array_equal(x, x + 1) or np.array_equiv(x, x[:1])) else x, VECTOR),
]
# fmt: on
