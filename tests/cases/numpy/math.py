"""Cases for `nbhvp/trace/numpy/math.py`: name, function, point."""

import math

from tests.cases.points import (
    POSITIVE,
)

# fmt: off
CASES = [
    ("math", lambda x: math.exp(x[0]) * math.sin(x[1]) + math.atan2(x[2], x[3]) ** 2, POSITIVE),
    ("math log", lambda x: math.log(x[0]) + math.log(x[1], 3) * math.log(x[0], x[1]), POSITIVE),
    ("math powers", lambda x: math.pow(x[0], 2.5) * math.sqrt(x[1]) + math.cbrt(x[2]), POSITIVE),
    ("math gamma", lambda x: math.gamma(x[0]) * math.lgamma(x[1]) + math.erf(x[2]), POSITIVE),
    ("math hypot", lambda x: math.hypot(*x[:3]) + math.dist(x[:3], [1, 2, 3.0]), POSITIVE),
    ("math fsum", lambda x: math.fsum(x * x) * math.prod([x[0], 2, x[1]], start=3), POSITIVE),
    ("math radians", lambda x: math.radians(x[0]) * math.degrees(x[1]) + math.fabs(x[2]), POSITIVE),
    ("math parts", lambda x: math.modf(5 * x[0])[0] ** 2 + math.frexp(x[1])[0] ** 2, POSITIVE),
    ("math ldexp", lambda x: math.ldexp(x[0], 3) ** 2 + math.remainder(x[1], 0.3) ** 2, POSITIVE),
    ("math floor", lambda x: math.floor(3 * x[0]) * x[1] + math.ceil(x[0]) * x[2], POSITIVE),
    ("math trunc", lambda x: math.trunc(9 * x[1]) * x[1], POSITIVE),
    ("math circular", lambda x: math.cos(x[0]) * math.tan(x[1]) + math.acos(x[2] / 4) * math.asin(x[3] / 4) + math.atan(x[4]), POSITIVE),
    ("math hyperbolic", lambda x: math.sinh(x[0]) * math.cosh(x[1]) + math.tanh(x[2]) * math.asinh(x[0]), POSITIVE),
    ("math inverse hyperbolic", lambda x: math.acosh(x[3] + 2) * math.atanh(x[4] / 4), POSITIVE),
    ("math logarithms", lambda x: math.log10(x[0]) * math.log2(x[1]) + math.log1p(x[2]) * math.expm1(x[3]) * math.exp2(x[4]), POSITIVE),
    ("math signs", lambda x: math.fmod(x[0], x[1] + 2) * x[0] + math.copysign(x[0], -x[1]) * x[2] + math.erfc(x[3]), POSITIVE),
    ("math neighbours", lambda x: math.nextafter(x[0], 9.0) ** 2 + math.ulp(x[1]) * x[2], POSITIVE),
    ("math tests", lambda x: x * (1 + math.isfinite(x[0])) if not (math.isnan(x[0]) or math.isinf(x[1]) or math.isclose(x[0], x[1])) else x**2, POSITIVE),
]
# fmt: on
