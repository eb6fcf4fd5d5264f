"""Curvature by products: traces, diagonals, determinants, spectra, solves and preconditioners.

Every function takes a symmetric ``LinearOperator`` H, such as ``f.hessian(x)``, a matrix of SciPy or of
NumPy, and needs nothing but products with it. Nothing here forms H. Functions that draw random
directions take `rng`, as ``numpy.random.default_rng`` does, and give an `Estimate` with its standard
error. Products are taken for many directions at once.

That H is symmetric is assumed; it is not checked, which would cost products.
"""

from nbhvp.curvature.estimates import Estimate, diagonal, trace
from nbhvp.curvature.functions import apply
from nbhvp.curvature.laplace import Laplace, laplace
from nbhvp.curvature.preconditioners import Nystrom, jacobi, nystrom
from nbhvp.curvature.pruning import Pruned, optimal_brain_damage, optimal_brain_surgeon
from nbhvp.curvature.solves import Inverse, inverse
from nbhvp.curvature.spectrum import (
    Sharpness,
    SpectralDensity,
    logdet,
    sharpness,
    spectral_density,
)

__all__ = [
    "Estimate",
    "Inverse",
    "Laplace",
    "Nystrom",
    "Pruned",
    "Sharpness",
    "SpectralDensity",
    "apply",
    "diagonal",
    "inverse",
    "jacobi",
    "laplace",
    "logdet",
    "nystrom",
    "optimal_brain_damage",
    "optimal_brain_surgeon",
    "sharpness",
    "spectral_density",
    "trace",
]
