"""Exact Hessian-vector products of plain NumPy functions, compiled with Numba.

`differentiable` gives a function its gradient, Hessian-vector products and Hessian operator;
`minimize` calls SciPy's function of this name with them. `import nbhvp` does not import Numba, which is
imported when the first program is compiled.
"""

import importlib
from typing import TYPE_CHECKING, Any

from nbhvp.composition import stop_gradient
from nbhvp.errors import CompileTimeWarning, TraceError
from nbhvp.function import Function, TreeFunction, differentiable
from nbhvp.operators.algebra import identity
from nbhvp.operators.linear import HessianOperator, JacobianOperator
from nbhvp.trace.rules import CustomFunction, custom_jvp, elementwise
from nbhvp.tree import Unravel, ravel
from nbhvp.version import __version__ as __version__

if TYPE_CHECKING:
    from nbhvp import curvature, implicit
    from nbhvp.checking import CheckReport, check
    from nbhvp.constraints import constraint
    from nbhvp.curvature.methods import hessian_free, natural_gradient, newton_pcg
    from nbhvp.models import fisher, gauss_newton
    from nbhvp.optimize import minimize
    from nbhvp.residuals import least_squares, root
    from nbhvp.sums import Chunks, SumHessian, SumJacobian, SumOver, chunks, sum_over

__all__ = [
    "CheckReport",
    "Chunks",
    "CompileTimeWarning",
    "CustomFunction",
    "Function",
    "HessianOperator",
    "JacobianOperator",
    "SumHessian",
    "SumJacobian",
    "SumOver",
    "TraceError",
    "TreeFunction",
    "Unravel",
    "check",
    "chunks",
    "constraint",
    "curvature",
    "custom_jvp",
    "differentiable",
    "elementwise",
    "fisher",
    "gauss_newton",
    "hessian_free",
    "identity",
    "implicit",
    "least_squares",
    "minimize",
    "natural_gradient",
    "newton_pcg",
    "ravel",
    "root",
    "stop_gradient",
    "sum_over",
]


_LATER = {
    "checking": ("CheckReport", "check"),
    "constraints": ("constraint",),
    "curvature.methods": ("hessian_free", "natural_gradient", "newton_pcg"),
    "models": ("fisher", "gauss_newton"),
    "optimize": ("minimize",),
    "residuals": ("least_squares", "root"),
    "sums": ("Chunks", "SumHessian", "SumJacobian", "SumOver", "chunks", "sum_over"),
}
"""Modules that are imported when one of their names is asked for: not all need them."""


def __getattr__(name: str) -> Any:
    if name in ("curvature", "implicit"):
        return importlib.import_module(f"nbhvp.{name}")
    for module, names in _LATER.items():
        if name in names:
            found = globals()[name] = getattr(importlib.import_module(f"nbhvp.{module}"), name)
            return found
    raise AttributeError(f"module 'nbhvp' has no attribute {name!r}")


def __dir__():
    return [*__all__, "__version__"]
