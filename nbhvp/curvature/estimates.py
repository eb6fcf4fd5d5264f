"""Estimates of the trace and of the diagonal of a symmetric operator, with standard errors.

Hutchinson's estimator is the mean of w.Hw over random directions w. Hutch++ (Meyer, Musco, Musco and
Woodruff 2021) spends a third of the products on a basis Q of the range of H, takes the trace there
exactly, and estimates the rest alone. XTrace and XDiag (Epperly, Tropp and Webber 2024) leave out one
direction after the other: each is in turn the probe, and the others make the basis, so no product
serves one purpose only. With a fast decaying spectrum all three are more accurate by orders.

Without column i of the sketch Y = H W the basis is Q (I - s s^T), where s is the unit vector
orthogonal to all columns of R but i, for Y = Q R: so all bases come from one factorisation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from nbhvp.operators.algebra import diagonal as diagonal_of

__all__ = ["Estimate", "diagonal", "symmetric", "times", "trace"]


@dataclass(frozen=True, eq=False)
class Estimate:
    """A random estimate.

    Attributes
    ----------
    value : float or ndarray
        The estimate, without bias.
    error : float or ndarray
        Its standard error, estimated from the same products; 0 if the value is exact.
    products : int
        The products with the operator that it took.
    """

    value: Any
    error: Any
    products: int


def symmetric(H: Any) -> LinearOperator:
    """A square real matrix or operator, as an operator of at least one row."""
    try:
        operator = aslinearoperator(H)
    except TypeError:
        raise TypeError(
            f"needed a symmetric matrix or operator, got {H!r}: give that at a point, as f.hessian(x)"
        ) from None
    if operator.shape[0] != operator.shape[1] or not operator.shape[0]:
        raise ValueError(f"needed a square operator, got one of shape {operator.shape}")
    if operator.dtype is None or operator.dtype.kind not in "biuf":
        raise TypeError(f"needed an operator of real numbers, got dtype {operator.dtype}")
    if isinstance(H, np.ndarray) or scipy.sparse.issparse(H):
        _check_symmetric(H if isinstance(H, np.ndarray) else H.tocsr())
    return operator


def _check_symmetric(matrix: Any) -> None:
    matrix = matrix if matrix.dtype.kind == "f" else matrix.astype(float)
    off, largest = abs(matrix - matrix.T).max(), abs(matrix).max()
    if off > np.sqrt(np.finfo(matrix.dtype).eps) * largest:
        raise ValueError(
            f"needed a symmetric matrix, and this one differs from its transpose by up to {off:.3g}: "
            "give (A + A.T) / 2 for the quadratic form of A, or A.T @ A for its singular values"
        )


def times(H: LinearOperator, V: np.ndarray) -> np.ndarray:
    """The products with the columns of V, as floats, all of them finite."""
    images = np.asarray(H @ V, float)
    if not np.all(np.isfinite(images)):
        raise np.linalg.LinAlgError(
            "needed finite products, and this operator gives NaN or infinity: "
            "its function may have no second derivative at this point, or overflow there"
        )
    return images


def trace(H: Any, products: int = 30, *, method: str = "xtrace", rng: Any = None) -> Estimate:
    """The trace of a symmetric operator.

    Parameters
    ----------
    H : LinearOperator or matrix, shape (n, n)
        Symmetric.
    products : int
        How many products with H to take at most. From n products on, the trace is exact.
    method : {"xtrace", "hutch++", "hutchinson"}
        The estimator. ``"xtrace"`` takes an even number of products, ``"hutch++"`` a multiple of 3.
    rng : None, int or numpy.random.Generator
        Of the random directions, as ``numpy.random.default_rng`` takes it.

    Returns
    -------
    Estimate
        With the trace as a float.

    Raises
    ------
    ValueError
        If the method is unknown, or for too few products to tell the standard error.

    References
    ----------
    Hutchinson 1990, doi:10.1080/03610919008812866; Meyer, Musco, Musco and Woodruff 2021,
    doi:10.1137/1.9781611976496.16; Epperly, Tropp and Webber 2024, doi:10.1137/23M1548323.

    Examples
    --------
    >>> import numpy as np, nbhvp
    >>> H = np.diag(1.0 / np.arange(1, 1001) ** 2)
    >>> found = nbhvp.curvature.trace(H, products=40, rng=0)
    >>> bool(abs(found.value - np.trace(H)) < 5 * found.error), found.products
    (True, 40)
    """
    return _estimate(
        _TRACES, H, products, method, rng, lambda operator, n: _exact(operator, n).sum()
    )


def diagonal(H: Any, products: int = 30, *, method: str = "xdiag", rng: Any = None) -> Estimate:
    """The diagonal of a symmetric operator.

    Parameters
    ----------
    H : LinearOperator or matrix, shape (n, n)
        Symmetric.
    products : int
        How many products with H to take at most. From n products on, the diagonal is exact.
    method : {"xdiag", "hutchinson"}
        The estimator (Epperly, Tropp and Webber 2024; Bekas, Kokiopoulou and Saad 2007).
    rng : None, int or numpy.random.Generator
        Of the random directions, as ``numpy.random.default_rng`` takes it.

    Returns
    -------
    Estimate
        With arrays of shape (n,): the diagonal and the standard error of each element.

    Raises
    ------
    ValueError
        If the method is unknown, or for too few products to tell the standard error.

    Notes
    -----
    Where the pattern of H is known to be sparse, ``H.diagonal()`` is exact and takes fewer products.

    Examples
    --------
    >>> import numpy as np, nbhvp
    >>> H = np.diag(1.0 / np.arange(1, 1001) ** 2)
    >>> nbhvp.curvature.diagonal(H, products=40, rng=0).value[:3].round(3)
    array([1.   , 0.25 , 0.111])
    """
    return _estimate(_DIAGONALS, H, products, method, rng, _exact)


def _estimate(methods, H, products, method, rng, exact) -> Estimate:
    operator = symmetric(H)
    if method not in methods:
        raise ValueError(f"needed a method of {', '.join(map(repr, methods))}, got {method!r}")
    n = operator.shape[0]
    if products >= n:
        value = exact(operator, n)
        return Estimate(_plain(value), _plain(np.zeros_like(value)), n)
    estimator, least = methods[method]
    if products < least:
        raise ValueError(f"method {method!r} needed at least {least} products, got {products}")
    return estimator(operator, products, np.random.default_rng(rng))


def _exact(operator: LinearOperator, n: int) -> np.ndarray:
    return diagonal_of(lambda units: times(operator, units), n, np.dtype(float))


def _signs(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    """Random signs, the directions of least variance where nothing is known of H."""
    return rng.integers(0, 2, (n, k)) * 2.0 - 1.0


def _mean(samples: np.ndarray, products: int) -> Estimate:
    """The mean over the last axis, with its standard error."""
    count = samples.shape[-1]
    error = samples.std(axis=-1, ddof=1) / np.sqrt(count)
    return Estimate(_plain(samples.mean(axis=-1)), _plain(error), products)


def _plain(value: Any) -> Any:
    """A number as a float of Python."""
    return value if np.ndim(value) else float(value)


def _columns(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The products of the columns of two matrices."""
    return np.einsum("ij,ij->j", a, b)


def _hutchinson(H: LinearOperator, products: int, rng: np.random.Generator) -> Estimate:
    directions = _signs(rng, H.shape[0], products)
    return _mean(_columns(directions, times(H, directions)), products)


def _hutch_plus_plus(H: LinearOperator, products: int, rng: np.random.Generator) -> Estimate:
    third = products // 3
    basis = _range(times(H, _signs(rng, H.shape[0], third)))
    inside = float(_columns(basis, times(H, basis)).sum())
    directions = _signs(rng, H.shape[0], third)
    directions -= basis @ (basis.T @ directions)
    rest = _mean(_columns(directions, times(H, directions)), 0)
    return Estimate(inside + rest.value, rest.error, 2 * third + basis.shape[1])


def _range(Y: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the range of Y."""
    left, singular, _ = np.linalg.svd(Y, full_matrices=False)
    return left[:, singular > singular[0] * max(Y.shape) * np.finfo(float).eps]


@dataclass(frozen=True)
class _Sketch:
    """A basis Q of the range of H W, with H Q; column i of `left_out` takes direction i out of it."""

    directions: np.ndarray
    images: np.ndarray
    basis: np.ndarray
    image_of_basis: np.ndarray
    left_out: np.ndarray

    @property
    def products(self) -> int:
        return self.directions.shape[1] + self.basis.shape[1]

    def without_own(self, coordinates: np.ndarray) -> np.ndarray:
        """Coordinates in the basis, projected to the basis that column i's direction is not in."""
        return coordinates - self.left_out * _columns(self.left_out, coordinates)


def _sketch(H: LinearOperator, directions: np.ndarray) -> _Sketch:
    images = times(H, directions)
    basis = _range(images)
    R = basis.T @ images
    if R.shape[0] == R.shape[1]:
        inverse = np.linalg.inv(R / np.linalg.norm(R)).T
        left_out = inverse / np.linalg.norm(inverse, axis=0)
    else:
        # Fewer dimensions than directions: without any one of these the others span the range.
        left_out = np.zeros(R.shape)
    return _Sketch(directions, images, basis, times(H, basis), left_out)


def _xtrace(H: LinearOperator, products: int, rng: np.random.Generator) -> Estimate:
    n, m = H.shape[0], products // 2
    directions = rng.standard_normal((n, m))
    directions *= np.sqrt(n) / np.linalg.norm(directions, axis=0)
    sketch = _sketch(H, directions)
    inner = sketch.basis.T @ sketch.image_of_basis
    inside = np.trace(inner) - _columns(sketch.left_out, inner @ sketch.left_out)
    removed = sketch.without_own(sketch.basis.T @ directions)
    rest = directions - sketch.basis @ removed
    image = sketch.images - sketch.image_of_basis @ removed
    # A direction of the sphere, projected and set to its mean length, has less variance.
    dimensions = n - sketch.basis.shape[1] + np.any(sketch.left_out, axis=0)
    scale = dimensions / np.maximum(_columns(rest, rest), np.finfo(float).tiny)
    return _mean(inside + scale * _columns(rest, image), sketch.products)


def _xdiag(H: LinearOperator, products: int, rng: np.random.Generator) -> Estimate:
    directions = _signs(rng, H.shape[0], products // 2)
    sketch = _sketch(H, directions)
    basis, image_of_basis = sketch.basis, sketch.image_of_basis
    inside = np.einsum("ij,ij->i", basis, image_of_basis)[:, None]
    own = (basis @ sketch.left_out) * (image_of_basis @ sketch.left_out)
    rest = sketch.images - basis @ sketch.without_own(basis.T @ sketch.images)
    return _mean(inside - own + directions * rest, sketch.products)


def _hutchinson_diagonal(H: LinearOperator, products: int, rng: np.random.Generator) -> Estimate:
    directions = _signs(rng, H.shape[0], products)
    return _mean(directions * times(H, directions), products)


Estimator = Callable[[LinearOperator, int, np.random.Generator], Estimate]
_TRACES: dict[str, tuple[Estimator, int]] = {
    "xtrace": (_xtrace, 4),
    "hutch++": (_hutch_plus_plus, 6),
    "hutchinson": (_hutchinson, 2),
}
"""The estimators of a trace, and the products that each needs at least."""
_DIAGONALS: dict[str, tuple[Estimator, int]] = {
    "xdiag": (_xdiag, 4),
    "hutchinson": (_hutchinson_diagonal, 2),
}
