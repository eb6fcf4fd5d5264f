"""The special functions of scipy.special in the table of primitives.

A kernel calls the same C function as the ufunc does, by its pointer: `symbol` names it. Families are
closed under their recurrences, so derivatives of all orders stay in the table:

    J_v' = (J_(v-1) - J_(v+1)) / 2,    j_n' = (n j_(n-1) - (n+1) j_(n+1)) / (2 n + 1),    ...

which hold where forms with a division by x have removable singularities. In an order (`fixed`) there
is no derivative here. The incomplete gamma and beta functions have no closed form in their
parameters: `gammainc_da` and `betainc_da` are those derivatives, by the quadrature of `incomplete`.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.special as special

from nbhvp.errors import TraceError
from nbhvp.graph.definitions import first_dtype, real_loops, scipy_ufunc
from nbhvp.graph.primitives import (
    CALL,
    NONZERO,
    POSITIVE,
    SERIES,
    UNIT,
    Primitive,
    constant,
    cos,
    cosh,
    elementwise,
    enter,
    equal,
    exp,
    expit,
    less,
    log,
    log1p,
    sign,
    sin,
    where,
)
from nbhvp.graph.table import incomplete

PI, SQRT_PI, SQRT_2PI = math.pi, math.sqrt(math.pi), math.sqrt(2 * math.pi)
ORDER = ((0.0, 3.0), (0.5, 6.0))
BETA = ((0.3, 4.0), (0.3, 4.0), (0.05, 0.95))
ARGUMENTS = ("{x}", "{y}", "{c}")


def _special(name, rule, *, symbol=None, **fields):
    """An entry named like its ufunc, whose C function kernels call."""
    ufunc = scipy_ufunc(name)
    fields.setdefault("cost", 2 * CALL)
    source = f"call({{f}}, {', '.join(ARGUMENTS[: ufunc.nin])})"
    return elementwise(
        name, ufunc, source, rule, symbol=symbol or name, dtypes=real_loops(ufunc), **fields
    )


MODELS = {1: scipy_ufunc("erfinv"), 2: scipy_ufunc("gammainc"), 3: scipy_ufunc("betainc")}
"""Ufuncs whose dtypes the functions have that are no ufuncs, by the number of arguments."""


def _function(name, function, count, source, rule, **fields):
    """An entry for what SciPy gives in float64, or not as a ufunc: it keeps float32."""
    model = MODELS[count]
    dtypes = real_loops(model, name)

    def evaluate(*args, **params):
        weak = (int, float, complex)
        kinds = (type(x) if type(x) in weak else np.asarray(x).dtype for x in args)
        dtype = dtypes(tuple(kinds))[-1]
        return np.asarray(function(*args, **params)).astype(dtype)[()]

    return elementwise(
        name,
        None,
        source,
        rule,
        evaluate=evaluate,
        dtypes=dtypes,
        result=lambda *dtypes, **params: dtypes[0],
        **fields,
    )


def _output(entry, name, k, rule, **fields):
    """An entry for the k-th result of a function with several."""
    function = getattr(special, name)
    source = f"output({{f}}, {{x}}, {k}, {function.nout})"
    fields.update(symbol=name, cost=4 * CALL)
    return _function(entry, lambda x: function(x)[k], 1, source, rule, **fields)


def _spherical(name, symbol, rule, **fields):
    """An entry for a spherical Bessel function, from one of order n + 1/2 if a symbol is given."""
    function = getattr(special, name)
    half_order = lambda n: f", call({{f}}, {n + 0.5!r}, abs({{x}}))" if symbol else ""
    source = lambda n: f"{name}({n}, {{x}}{half_order(n)})"
    fields.update(symbol=symbol, cost=6 * CALL, params={"n": 2})
    return _function(name, lambda x, n: function(n, x), 1, source, rule, **fields)


def _lambertw(x, k):
    """The real branches: NaN where the function is complex."""
    w = special.lambertw(x, k)
    return np.where(w.imag == 0, w.real, math.nan)


def _gammainc_da(a, x, n):
    """0 at both ends; NaN outside a > 0, x >= 0."""
    a, x = np.broadcast_arrays(a, x)
    inside = (a > 0) & (x > 0) & (x < math.inf)
    safe = (np.where(inside, t, 1).astype(float) for t in (a, x))
    z = np.where(inside, incomplete.gammainc_da(*safe, n), math.nan)
    return np.where((a > 0) & ((x == 0) | (x == math.inf)), 0, z)


def _betainc_da(a, b, x, i, j):
    """0 at both ends; NaN outside a, b > 0, 0 <= x <= 1."""
    a, b, x = np.broadcast_arrays(a, b, x)
    positive = (a > 0) & (b > 0)
    inside = positive & (x > 0) & (x < 1)
    safe = (np.where(inside, t, 0.5).astype(float) for t in (a, b, x))
    z = np.where(inside, incomplete.betainc_da(*safe, i, j), math.nan)
    return np.where(positive & ((x == 0) | (x == 1)), 0, z)


def _gammainc_da_rule(a, x, n):
    if n > 1:
        raise TraceError(
            "gammainc has derivatives by its parameter up to order 2, and order 3 was needed: keep the "
            "parameter constant, or give a rule (nbhvp.custom_jvp)"
        )
    density = _gamma_density(a, x)
    return gammainc_da(a, x, n=2), xlogy(density, x) - density * digamma(a)


def _betainc_da_rule(a, b, x, i, j):
    if i + j > 1:
        raise TraceError(
            "betainc has derivatives by its parameters up to order 2, and order 3 was needed: keep the "
            "parameters constant, or give a rule (nbhvp.custom_jvp)"
        )
    density, total = _beta_density(a, b, x), digamma(a + b)
    slope = (
        xlogy(density, x) - density * (digamma(a) - total)
        if i
        else xlog1py(density, -x) - density * (digamma(b) - total)
    )
    return betainc_da(a, b, x, i=i + 1, j=j), betainc_da(a, b, x, i=i, j=j + 1), slope


def _gamma_density(a, x):
    return exp(xlogy(a - 1, x) - x - gammaln(a))


def _beta_density(a, b, x):
    return exp(xlogy(a - 1, x) + xlog1py(b - 1, -x) - betaln(a, b))


def _t_density(df, t):
    size = gammaln(0.5 * (df + 1)) - gammaln(0.5 * df) - 0.5 * log(PI * df)
    return exp(size - 0.5 * (df + 1) * log1p(t * t / df))


def _stdtr_df(df, t):
    """The derivative of Student's distribution function in its parameter, 0 at t = 0.

    With w = df / (df + t^2) it is 1 - I_w(df/2, 1/2) / 2, or (1 + I_(1 - w)(1/2, df/2)) / 2 for t > 0:
    the one with the smaller argument is differentiated.
    """
    square = where(equal(t, 0), 1, t * t)
    is_near, a, b = less(square, df), constant(df.pool, 0.5, df.dtype), 0.5 * df
    w, rest = df / (df + square), square / (df + square)
    near = where(is_near, rest, 0.5)
    far = where(is_near, 0.5, w)
    slope = where(
        is_near,
        0.5 * betainc_da(a, b, near, i=0, j=1) - _beta_density(a, b, near) * w * rest / df,
        -0.5 * betainc_da(b, a, far, i=1, j=0) - _beta_density(b, a, far) * w * rest / df,
    )
    return 0.5 * sign(t) * slope


def _horner(x, coefficients):
    """c[0] + c[1] x + ..., of numbers; its text where x is one."""
    total = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        total = f"({c!r} + {x} * {total})" if isinstance(x, str) else c + x * total
    return str(total) if isinstance(x, str) else total + np.zeros(np.shape(x))


def _polynomial_rule(z, x, coefficients):
    slopes = tuple(k * c for k, c in enumerate(coefficients))[1:]
    return (polynomial(x, coefficients=slopes) if slopes else None,)


def _expn_rule(z, x, n):
    return (-exp1(x) if n == 2 else -expn(x, n=n - 1),)


def _simplify_xlogy(x, y):
    """x log x by its own rule: x / x, and what it has for a derivative, is no number at 0."""
    return where(less(x, 0), math.nan, -entr(x)) if x is y else None


# fmt: off
logit       = elementwise("logit", scipy_ufunc("logit"), "logit({x})", lambda z, x: (1 / (x * (1 - x)),), domain=((0.1, 0.9),), cost=SERIES)
log_expit   = elementwise("log_expit", scipy_ufunc("log_expit"), "log_expit({x})", lambda z, x: (expit(-x),), special=((-40.0,), (40.0,)), cost=2 * SERIES)
xlogy       = elementwise("xlogy", scipy_ufunc("xlogy"), "xlogy({x}, {y})", lambda z, x, y: (log(y), x / y), domain=POSITIVE, special=((0.0, 2.0),), cost=SERIES, dtypes=real_loops(scipy_ufunc("xlogy")), simplify=_simplify_xlogy)
xlog1py     = elementwise("xlog1py", scipy_ufunc("xlog1py"), "xlog1py({x}, {y})", lambda z, x, y: (log1p(y), x / (1 + y)), domain=POSITIVE, special=((0.0, 2.0),), cost=SERIES, dtypes=real_loops(scipy_ufunc("xlog1py")))
rel_entr    = elementwise("rel_entr", None, "rel_entr({x}, {y})", lambda z, x, y: (log(x) - log(y) + 1, -x / y), evaluate=special.rel_entr, domain=POSITIVE, cost=SERIES,
                          dtypes=real_loops(special.rel_entr), result=first_dtype)
entr        = elementwise("entr", scipy_ufunc("entr"), "entr({x})", lambda z, x: (-log(x) - 1,), domain=POSITIVE, cost=SERIES)

# Error functions and the normal distribution.
erf         = elementwise("erf", scipy_ufunc("erf"), "erf({x})", lambda z, x: (2 / SQRT_PI * exp(-x * x),), cost=CALL, dtypes=real_loops(scipy_ufunc("erf")))
erfc        = elementwise("erfc", scipy_ufunc("erfc"), "math.erfc({x})", lambda z, x: (-2 / SQRT_PI * exp(-x * x),), cost=CALL, dtypes=real_loops(scipy_ufunc("erfc")))
erfcx       = _special("erfcx", lambda z, x: (2 * x * z - 2 / SQRT_PI,))
erfi        = _special("erfi", lambda z, x: (2 / SQRT_PI * exp(x * x),))
erfinv      = _special("erfinv", lambda z, x: (SQRT_PI / 2 * exp(z * z),), domain=UNIT)
erfcinv     = _special("erfcinv", lambda z, x: (-SQRT_PI / 2 * exp(z * z),), domain=((0.1, 1.9),))
dawsn       = _special("dawsn", lambda z, x: (1 - 2 * x * z,))
ndtr        = elementwise("ndtr", scipy_ufunc("ndtr"), "ndtr({x})", lambda z, x: (exp(-0.5 * x * x) / SQRT_2PI,), cost=CALL, dtypes=real_loops(scipy_ufunc("ndtr")))
log_ndtr    = _special("log_ndtr", lambda z, x: (exp(-0.5 * x * x - z) / SQRT_2PI,), special=((-30.0,),))
ndtri       = _special("ndtri", lambda z, x: (SQRT_2PI * exp(0.5 * z * z),), domain=((0.05, 0.95),))
ndtri_exp   = _special("ndtri_exp", lambda z, x: (SQRT_2PI * exp(x + 0.5 * z * z),), domain=((-5.0, -0.1),))
owens_t     = _special("owens_t", lambda z, x, y: (-exp(-0.5 * x * x) / (2 * SQRT_2PI) * erf(x * y / math.sqrt(2)),
                                                   exp(-0.5 * x * x * (1 + y * y)) / (2 * PI * (1 + y * y))))

# Gamma and beta functions.
gamma       = _special("gamma", lambda z, x: (z * digamma(x),), domain=POSITIVE)
rgamma      = _special("rgamma", lambda z, x: (-z * digamma(x),), domain=POSITIVE)
gammasgn    = _special("gammasgn", None, domain=((-2.9, -2.1),))
gammaln     = _special("gammaln", lambda z, x: (digamma(x),), domain=POSITIVE)
digamma     = _special("digamma", lambda z, x: (polygamma(x, n=1),), symbol="psi", domain=POSITIVE)
polygamma   = _function("polygamma", lambda x, n: special.polygamma(n, x), 1, lambda n: f"{(-1) ** (n + 1) * math.factorial(n)}.0 * zeta({n + 1}.0, {{x}})",
                        lambda z, x, n: (polygamma(x, n=n + 1),), domain=POSITIVE, cost=4 * CALL, params={"n": 2})
beta        = _special("beta", lambda z, x, y: (z * (digamma(x) - digamma(x + y)), z * (digamma(y) - digamma(x + y))), domain=POSITIVE)
betaln      = _special("betaln", lambda z, x, y: (digamma(x) - digamma(x + y), digamma(y) - digamma(x + y)), domain=POSITIVE)
binom       = _special("binom", lambda z, x, y: (z * (digamma(x + 1) - digamma(x - y + 1)), z * (digamma(x - y + 1) - digamma(y + 1))), domain=((5.1, 8.0), (0.5, 4.0)))
poch        = _special("poch", lambda z, x, y: (z * (digamma(x + y) - digamma(x)), z * digamma(x + y)), domain=POSITIVE)
zeta        = _function("zeta", special.zeta, 2, "zeta({x}, {y})", lambda z, x, y: (None, -x * zeta(x + 1, y)), fixed=(0,), domain=((1.5, 4.0), (0.5, 3.0)), cost=4 * CALL)

gammainc    = _special("gammainc", lambda z, x, y: (gammainc_da(x, y, n=1), _gamma_density(x, y)), domain=((0.3, 4.0), (0.3, 6.0)))
gammaincc   = _special("gammaincc", lambda z, x, y: (-gammainc_da(x, y, n=1), -_gamma_density(x, y)), domain=((0.3, 4.0), (0.3, 6.0)))
gammainc_da = _function("gammainc_da", _gammainc_da, 2, lambda n: f"gammainc_da({{x}}, {{y}}, {n})", lambda z, x, y, n: _gammainc_da_rule(x, y, n),
                        domain=((0.3, 4.0), (0.3, 6.0)), cost=100 * CALL, params={"n": 1})
gammaincinv = _special("gammaincinv", lambda z, x, y: (-gammainc_da(x, z, n=1) / _gamma_density(x, z), 1 / _gamma_density(x, z)), domain=((0.3, 4.0), (0.1, 0.9)))
gammainccinv = _special("gammainccinv", lambda z, x, y: (-gammainc_da(x, z, n=1) / _gamma_density(x, z), -1 / _gamma_density(x, z)), domain=((0.3, 4.0), (0.1, 0.9)))
betainc     = _special("betainc", lambda z, x, y, c: (betainc_da(x, y, c, i=1, j=0), betainc_da(x, y, c, i=0, j=1), _beta_density(x, y, c)), domain=BETA)
betaincc    = _special("betaincc", lambda z, x, y, c: (-betainc_da(x, y, c, i=1, j=0), -betainc_da(x, y, c, i=0, j=1), -_beta_density(x, y, c)), domain=BETA)
betaincinv  = _special("betaincinv", lambda z, x, y, c: (-betainc_da(x, y, z, i=1, j=0) / _beta_density(x, y, z), -betainc_da(x, y, z, i=0, j=1) / _beta_density(x, y, z),
                                                         1 / _beta_density(x, y, z)), domain=BETA)
stdtr       = _special("stdtr", lambda z, x, y: (_stdtr_df(x, y), _t_density(x, y)), domain=((1.0, 6.0), (-3.0, 3.0)))
stdtrit     = _special("stdtrit", lambda z, x, y: (-_stdtr_df(x, z) / _t_density(x, z), 1 / _t_density(x, z)), domain=((1.0, 6.0), (0.1, 0.9)))
betainc_da  = _function("betainc_da", _betainc_da, 3, lambda i, j: f"betainc_da({{x}}, {{y}}, {{c}}, {i}, {j})", lambda z, x, y, c, i, j: _betainc_da_rule(x, y, c, i, j),
                        domain=BETA, cost=200 * CALL, params={"i": 1, "j": 0})

# Bessel functions; `x` is the order of those with two arguments.
j0          = _special("j0", lambda z, x: (-j1(x),), special=((0.0,),))
j1          = _special("j1", lambda z, x: (0.5 * (j0(x) - jv(2.0, x)),), special=((0.0,),))
jv          = _special("jv", lambda z, x, y: (None, 0.5 * (jv(x - 1, y) - jv(x + 1, y))), fixed=(0,), domain=ORDER, special=((2.0, 0.0), (1.0, -0.5)), cost=6 * CALL)
y0          = _special("y0", lambda z, x: (-y1(x),), domain=POSITIVE)
y1          = _special("y1", lambda z, x: (0.5 * (y0(x) - yv(2.0, x)),), domain=POSITIVE)
yv          = _special("yv", lambda z, x, y: (None, 0.5 * (yv(x - 1, y) - yv(x + 1, y))), fixed=(0,), domain=ORDER, cost=6 * CALL)
i0          = _special("i0", lambda z, x: (i1(x),), special=((0.0,),))
i1          = _special("i1", lambda z, x: (0.5 * (i0(x) + iv(2.0, x)),), special=((0.0,),))
iv          = _special("iv", lambda z, x, y: (None, 0.5 * (iv(x - 1, y) + iv(x + 1, y))), fixed=(0,), domain=ORDER, special=((2.0, 0.0), (1.0, -0.5)), cost=6 * CALL)
i0e         = _special("i0e", lambda z, x: (i1e(x) - sign(x) * z,), domain=NONZERO[1:])
i1e         = _special("i1e", lambda z, x: (0.5 * (i0e(x) + ive(2.0, x)) - sign(x) * z,), domain=NONZERO[1:])
ive         = _special("ive", lambda z, x, y: (None, 0.5 * (ive(x - 1, y) + ive(x + 1, y)) - sign(y) * z), fixed=(0,), domain=ORDER, cost=6 * CALL)
k0          = _special("k0", lambda z, x: (-k1(x),), domain=POSITIVE)
k1          = _special("k1", lambda z, x: (-0.5 * (k0(x) + kv(2.0, x)),), domain=POSITIVE)
kv          = _special("kv", lambda z, x, y: (None, -0.5 * (kv(x - 1, y) + kv(x + 1, y))), fixed=(0,), domain=ORDER, cost=6 * CALL)
k0e         = _special("k0e", lambda z, x: (z - k1e(x),), domain=POSITIVE)
k1e         = _special("k1e", lambda z, x: (z - 0.5 * (k0e(x) + kve(2.0, x)),), domain=POSITIVE)
kve         = _special("kve", lambda z, x, y: (None, z - 0.5 * (kve(x - 1, y) + kve(x + 1, y))), fixed=(0,), domain=ORDER, cost=6 * CALL)
spherical_jn = _spherical("spherical_jn", "jv", lambda z, x, n: (_neighbours(spherical_jn, x, n),), special=((0.0,), (-0.5,)))
spherical_yn = _spherical("spherical_yn", "yv", lambda z, x, n: (_neighbours(spherical_yn, x, n),), domain=POSITIVE)
spherical_in = _spherical("spherical_in", "iv", lambda z, x, n: (_neighbours(spherical_in, x, n),), special=((0.0,), (-0.5,)))
spherical_kn = _spherical("spherical_kn", None, lambda z, x, n: (_neighbours(spherical_kn, x, n),), domain=POSITIVE)
airy_ai       = _output("airy_ai", "airy", 0, lambda z, x: (airy_ai_prime(x),))
airy_ai_prime = _output("airy_ai_prime", "airy", 1, lambda z, x: (x * airy_ai(x),))
airy_bi       = _output("airy_bi", "airy", 2, lambda z, x: (airy_bi_prime(x),))
airy_bi_prime = _output("airy_bi_prime", "airy", 3, lambda z, x: (x * airy_bi(x),))

# Integrals.
ellipk      = _special("ellipk", lambda z, x: (0.5 * (ellipe(x) / (1 - x) - z) / x,), domain=((0.3, 0.9),))
ellipe      = _special("ellipe", lambda z, x: (0.5 * (z - ellipk(x)) / x,), domain=((0.3, 0.9),))
ellipkm1    = _special("ellipkm1", lambda z, x: (0.5 * (z - ellipe(1 - x) / x) / (1 - x),), domain=((0.1, 0.7),))
exp1        = _special("exp1", lambda z, x: (-exp(-x) / x,), domain=POSITIVE)
expi        = _special("expi", lambda z, x: (exp(x) / x,), domain=POSITIVE)
expn        = _function("expn", lambda x, n: special.expn(n, x), 1, lambda n: f"call({{f}}, {n}.0, {{x}})", _expn_rule, symbol="expn", domain=POSITIVE, cost=4 * CALL, params={"n": 3})
sine_integral        = _output("sine_integral", "sici", 0, lambda z, x: (spherical_jn(x, n=0),), special=((0.0,),))
cosine_integral      = _output("cosine_integral", "sici", 1, lambda z, x: (cos(x) / x,), domain=POSITIVE)
hyperbolic_sine_integral   = _output("hyperbolic_sine_integral", "shichi", 0, lambda z, x: (spherical_in(x, n=0),), special=((0.0,),))
hyperbolic_cosine_integral = _output("hyperbolic_cosine_integral", "shichi", 1, lambda z, x: (cosh(x) / x,), domain=POSITIVE)
fresnel_s   = _output("fresnel_s", "fresnel", 0, lambda z, x: (sin(PI / 2 * x * x),))
fresnel_c   = _output("fresnel_c", "fresnel", 1, lambda z, x: (cos(PI / 2 * x * x),))

# Others.
polynomial  = _function("polynomial", _horner, 1, lambda coefficients: _horner("{x}", coefficients), _polynomial_rule, cost=SERIES, params={"coefficients": (1.0, -0.5, 0.25, 2.0)})
cosm1       = _special("cosm1", lambda z, x: (-sin(x),))
spence      = _special("spence", lambda z, x: (log(x) / (1 - x),), domain=((1.3, 3.0),))
wrightomega = _special("wrightomega", lambda z, x: (z / (1 + z),))
wofz        = enter(Primitive("wofz", "general", special.wofz, lambda x: (x.shape, x.dtype), tangent=lambda z, dots, x: (2j / SQRT_PI - 2 * x * z) * dots[0]))
lambertw    = _function("lambertw", _lambertw, 1, lambda k: f"lambertw({k}, {{x}})", lambda z, x, k: (exp(-z) / (1 + z),), domain=POSITIVE, special=((0.0,),), cost=8 * CALL, params={"k": 0})
# fmt: on


NEIGHBOURS = {
    "spherical_jn": (1, -1), "spherical_yn": (1, -1), "spherical_in": (1, 1), "spherical_kn": (-1, -1),
}  # fmt: skip
"""The signs in f_n' = (below n f_(n-1) + above (n + 1) f_(n+1)) / (2 n + 1)."""


def _neighbours(entry, x, n):
    below, above = NEIGHBOURS[entry.name]
    slope = above * (n + 1) / (2 * n + 1) * entry(x, n=n + 1)
    return slope + below * n / (2 * n + 1) * entry(x, n=n - 1) if n else slope
