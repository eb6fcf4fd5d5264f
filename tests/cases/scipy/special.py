"""Cases for `nbhvp/trace/scipy/special.py`: name, function, point."""

import numpy as np
import scipy.special as special

from tests.cases.points import (
    A6,
    A34,
    MASK,
    MATRIX,
    POSITIVE,
    VECTOR,
)

# fmt: off
CASES = [
    ("logsumexp", lambda x: special.logsumexp(x) + special.logsumexp(x, axis=1), MATRIX),
    ("logsumexp large", lambda x: special.logsumexp(999 + 50 * x, (0, 1), keepdims=True), MATRIX),
    ("logsumexp b", lambda x: special.logsumexp(x, 0, A34**2), MATRIX),
    ("logsumexp b traced", lambda x: special.logsumexp(x, b=x**2), MATRIX),
    ("logsumexp b = 0", lambda x: special.logsumexp(x, b=MASK), VECTOR),
    ("logsumexp sign", lambda x: np.prod(special.logsumexp(x, b=A6, return_sign=True)), VECTOR),
    ("softmax", lambda x: special.softmax(x, axis=1) * special.softmax(800 * x), MATRIX),
    ("log_softmax", lambda x: special.log_softmax(x, axis=0) * special.log_softmax(x), MATRIX),
    ("psi", lambda x: special.psi(x) * special.gammaln(x), POSITIVE),
    ("polygamma", lambda x: special.polygamma(1, x) + special.polygamma(0, x), POSITIVE),
    ("loggamma", lambda x: special.loggamma(x) ** 2, POSITIVE),
    ("gamma", lambda x: special.gamma(x) + special.gamma(-x), POSITIVE / 3 + 0.1),
    ("factorial", lambda x: special.factorial(x), POSITIVE),
    ("beta", lambda x: special.beta(x, 2.0) + special.betaln(x, x[0]), POSITIVE),
    ("rel_entr", lambda x: special.rel_entr(x, x[::-1]) + special.kl_div(x, 0.5), POSITIVE),
    ("huber", lambda x: special.huber(0.7, x) + special.pseudo_huber(0.7, x), VECTOR),
    ("exprel", lambda x: special.exprel(x) + special.exprel(0.01 * x), VECTOR),
    ("xlogy", lambda x: special.xlogy(x, 2.0) + special.xlog1py(2, x) + special.entr(x), POSITIVE),
    ("hankel1", lambda x: np.abs(special.hankel1(1.5, x) + x) ** 2, POSITIVE),
    ("hankel2", lambda x: np.abs(special.hankel2(1.5, x) + x) ** 2, POSITIVE),
    ("i0", lambda x: np.i0(x) * np.i0(-3 * x), VECTOR),
    ("kaiser", lambda x: np.kaiser(5, x[0]) ** 2 + np.kaiser(1, x[1]), VECTOR),
]
# fmt: on
if hasattr(special, "softplus"):
    CASES.append(("softplus", special.softplus, VECTOR))
