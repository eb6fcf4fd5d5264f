"""Scalar functions that kernels call: what neither `math` nor an operator of Python gives.

Each is one body for every target and for plain Python, defined at every float as NumPy and SciPy
define it (NaN, infinities, signed zeros), and raises nothing when compiled. Those marked
`branchless` are made of arithmetic alone, so that loops over them are vectorised: exp and log are
within 1 unit in the last place, the others within 2. A complex argument goes to `cmath` instead.

They reduce the argument to where a polynomial is short: x = n log 2 + r for the exponentials,
x = 2^k (1 + f) for the logarithms. What rounding would lose is carried as a second, small number
wherever it would show. The polynomials are minimax (Remez, in 60 digits: `tests/minimax.py`) for
relative errors below 2^-54; the forms of log and log1p are those of fdlibm (Sun Microsystems, 1993).
"""

from nbhvp.targets.lowering.scalars.arithmetic import (
    divide,
    floor_divide,
    fmax,
    fmin,
    fmod,
    maximum,
    minimum,
    remainder,
)
from nbhvp.targets.lowering.scalars.circular import arccos, arcsin, arctan, arctan2, cos, sin, tan
from nbhvp.targets.lowering.scalars.exponentials import cosh, exp, exp2, expit, expm1, sinh, tanh
from nbhvp.targets.lowering.scalars.logarithms import (
    entr,
    log,
    log1p,
    log2,
    log10,
    log_expit,
    logaddexp,
    logaddexp2,
    logit,
    rel_entr,
    xlog1py,
    xlogy,
)
from nbhvp.targets.lowering.scalars.powers import arccosh, arcsinh, arctanh, cbrt, power
from nbhvp.targets.lowering.scalars.special import (
    betainc_da,
    erf,
    gammainc_da,
    invert,
    lambertw,
    ndtr,
    spherical_in,
    spherical_jn,
    spherical_kn,
    spherical_yn,
    zeta,
)

__all__ = [
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "betainc_da",
    "cbrt",
    "cos",
    "cosh",
    "divide",
    "entr",
    "erf",
    "exp",
    "exp2",
    "expit",
    "expm1",
    "floor_divide",
    "fmax",
    "fmin",
    "fmod",
    "gammainc_da",
    "invert",
    "lambertw",
    "log",
    "log1p",
    "log2",
    "log10",
    "log_expit",
    "logaddexp",
    "logaddexp2",
    "logit",
    "maximum",
    "minimum",
    "ndtr",
    "power",
    "rel_entr",
    "remainder",
    "sin",
    "sinh",
    "spherical_in",
    "spherical_jn",
    "spherical_kn",
    "spherical_yn",
    "tan",
    "tanh",
    "xlog1py",
    "xlogy",
    "zeta",
]  # fmt: skip
