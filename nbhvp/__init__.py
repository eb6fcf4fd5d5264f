"""Exact Hessian-vector products of plain NumPy functions, compiled with Numba.

`differentiable` gives a function its value, gradient, Hessian-vector product and Hessian operator;
`minimize` is SciPy's with all of them plugged in. Importing this does not import Numba: that
happens when the first program is compiled.
"""

from nbhvp.checking import CheckReport, check
from nbhvp.errors import TraceError
from nbhvp.function import Function, differentiable
from nbhvp.operators.linear import HessianOperator, JacobianOperator
from nbhvp.optimize import minimize
from nbhvp.trace.rules import CustomFunction, custom_jvp, elementwise
from nbhvp.tree import Unravel, ravel
from nbhvp.version import __version__ as __version__

__all__ = [
    "CheckReport",
    "CustomFunction",
    "Function",
    "HessianOperator",
    "JacobianOperator",
    "TraceError",
    "Unravel",
    "check",
    "custom_jvp",
    "differentiable",
    "elementwise",
    "minimize",
    "ravel",
]


def __dir__():
    return [*__all__, "__version__"]
