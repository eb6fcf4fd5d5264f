"""The spectrum of a symmetric operator: its density, log-determinant, and sharpness.

Stochastic Lanczos quadrature (Ubaru, Chen and Saad 2017): for random w of length 1, n w.f(H)w has the trace
of f(H) as its mean, and Lanczos' method from w gives nodes and weights for every f at once. The nodes
of several w are the spectral density (Lin, Saad and Yang 2016; Ghorbani, Krishnan and Xiao 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from nbhvp.curvature.estimates import Estimate, symmetric, times, trace
from nbhvp.curvature.lanczos import lanczos

__all__ = ["Sharpness", "SpectralDensity", "logdet", "sharpness", "spectral_density"]

MEMORY = 1 << 28
"""Bytes of Krylov vectors that are kept at a time."""
FORMED = 1000
"""Rows up to which an operator is formed, where that takes no more products."""


@dataclass(frozen=True, eq=False)
class SpectralDensity:
    """The density of the eigenvalues of an operator, as nodes with weights.

    Attributes
    ----------
    size : int
        How many eigenvalues the operator has.
    nodes, weights : tuple of ndarray
        For each random direction the nodes of a quadrature, and their weights, which add up to 1.
    products : int
        The products with the operator that it took.
    is_exact : bool
        Whether the nodes are the eigenvalues.
    """

    size: int
    nodes: tuple[np.ndarray, ...]
    weights: tuple[np.ndarray, ...]
    products: int
    is_exact: bool = False
    halved: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
    """Pairs of nodes and weights by half as many steps."""

    @property
    def support(self) -> tuple[float, float]:
        """The least and the largest node, which lie within the spectrum."""
        every = np.concatenate(self.nodes)
        return float(every.min()), float(every.max())

    def integral(self, fun: Callable) -> Estimate:
        """The sum of a function over all eigenvalues: the trace of fun(H).

        Its error is the standard error of the random directions, and the difference to half as many
        steps, which bounds the error of a quadrature that converges. The latter is no random error, so
        where it prevails more steps help, and more directions do not.
        """
        samples = self._samples(fun, self.quadratures)
        coarse = samples if self.is_exact else self._samples(fun, self.halved)
        count = len(samples)
        error = samples.std(ddof=1) / np.sqrt(count) if count > 1 else np.nan
        error = 0.0 if self.is_exact else np.hypot(error, samples.mean() - coarse.mean())
        return Estimate(float(samples.mean()), float(error), self.products)

    def _samples(self, fun: Callable, quadratures: tuple) -> np.ndarray:
        return self.size * np.array([weights @ fun(nodes) for nodes, weights in quadratures])

    @property
    def quadratures(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Pairs of nodes and weights."""
        return tuple(zip(self.nodes, self.weights, strict=True))

    def count(self, low: float, high: float) -> Estimate:
        """The number of eigenvalues in [low, high].

        Its error contains the weights of the nodes at both ends, within which a quadrature tells how
        many eigenvalues lie on either side (the inequalities of Chebyshev, Markov and Stieltjes).
        """
        found = self.integral(lambda nodes: (low <= nodes) & (nodes <= high))
        if self.is_exact:
            return found
        ends = [
            sum(_beside(nodes, weights, end) for end in (low, high) if np.isfinite(end))
            for nodes, weights in self.quadratures
        ]
        error = np.hypot(found.error, self.size * np.mean(ends))
        return Estimate(found.value, float(error), found.products)

    def __call__(self, values: Any, width: float | None = None) -> np.ndarray:
        """The density at some values: nodes as normal densities; the integral over all values is 1.

        Parameters
        ----------
        values : array_like
        width : float, optional
            Their standard deviation; by default 1 % of the range of nodes.
        """
        values = np.asarray(values, float)
        width = self._width() if width is None else width
        density = np.zeros(values.shape)
        for nodes, weights in zip(self.nodes, self.weights, strict=True):
            z = (values[..., None] - nodes) / width
            density += np.exp(-0.5 * z * z) @ weights
        return density / (len(self.nodes) * width * np.sqrt(2 * np.pi))

    def _width(self) -> float:
        low, high = self.support
        return 0.01 * (high - low) or 0.01 * abs(high) or 0.01

    def plot(self, ax: Any = None, width: float | None = None) -> Any:
        """Draw the density on a logarithmic scale, with Matplotlib; gives the axes."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.gca()
        width = self._width() if width is None else width
        low, high = self.support
        values = np.linspace(low - 4 * width, high + 4 * width, 1000)
        # Less than a hundredth of an eigenvalue is nothing.
        ax.semilogy(values, np.maximum(self(values, width), 1e-2 / self.size / width))
        ax.set(xlabel="eigenvalue", ylabel="density")
        return ax


def _beside(nodes: np.ndarray, weights: np.ndarray, value: float) -> float:
    """The larger weight of the nodes on both sides of a value."""
    k = int(np.searchsorted(nodes, value))
    return float(max(weights[max(0, k - 1) : k + 1]))


def spectral_density(
    H: Any, *, probes: int = 10, steps: int = 50, rng: Any = None
) -> SpectralDensity:
    """The density of the eigenvalues of a symmetric operator.

    Parameters
    ----------
    H : LinearOperator or matrix, shape (n, n)
        Symmetric.
    probes : int
        Random directions. The standard error falls with their square root.
    steps : int
        Products per direction: details down to about a part in ``steps`` of the range are resolved, and finer
        ones at its ends. Where the products for all directions are as many as the operator has rows, and
        these at most 1000, it is formed, and the density is exact.
    rng : None, int or numpy.random.Generator
        Of the random directions, as ``numpy.random.default_rng`` takes it.

    Returns
    -------
    SpectralDensity
        Its ``integral(fun)`` is the trace of ``fun(H)``, and ``plot()`` draws it.

    Examples
    --------
    >>> import numpy as np, nbhvp
    >>> H = np.diag(np.linspace(1.0, 3.0, 1000))
    >>> density = nbhvp.curvature.spectral_density(H, rng=0)
    >>> found = density.count(1.0, 2.0)
    >>> bool(abs(found.value - 500) < 5 * found.error)
    True
    """
    operator = symmetric(H)
    if probes < 1 or steps < 1:
        raise ValueError(f"needed at least one probe and one step, got {probes} and {steps}")
    n = operator.shape[0]
    if n <= min(FORMED, probes * steps):
        values = np.linalg.eigvalsh(times(operator, np.eye(n)))
        return SpectralDensity(n, (values,), (np.full(n, 1 / n),), n, is_exact=True)
    directions = np.random.default_rng(rng).standard_normal((n, probes))
    together = max(1, MEMORY // (8 * n * min(steps, n)))
    spaces = [
        space
        for first in range(0, probes, together)
        for space in lanczos(operator, directions[:, first : first + together], steps)
    ]
    nodes, weights = zip(*(space.quadrature() for space in spaces), strict=True)
    halved = tuple(space.shortened(-(-len(space.diagonal) // 2)).quadrature() for space in spaces)
    products = sum(len(space.diagonal) for space in spaces)
    return SpectralDensity(n, nodes, weights, products, halved=halved)


def logdet(
    H: Any, *, probes: int = 10, steps: int = 30, diagonal: Any = None, rng: Any = None
) -> Estimate:
    """The logarithm of the determinant of a symmetric positive definite operator.

    Parameters
    ----------
    H : LinearOperator or matrix, shape (n, n)
        Symmetric and positive definite.
    probes, steps : int
        Random directions, and products per direction; from n products on, for n up to 1000, the result is
        exact.
    diagonal : array_like, shape (n,), optional
        Positive numbers D near the diagonal of H. The estimate is then of the operator
        ``D^-1/2 H D^-1/2``, with less variance and in fewer steps, and the logarithms of D are added.
    rng : None, int or numpy.random.Generator
        Of the random directions, as ``numpy.random.default_rng`` takes it.

    Returns
    -------
    Estimate
        Its error is the standard error of the random directions, and the change by the second half of the
        steps, which prevails where H is ill-conditioned: take more steps then, or a `diagonal`.

    Raises
    ------
    numpy.linalg.LinAlgError
        If H is seen not to be positive definite.

    References
    ----------
    Ubaru, Chen and Saad 2017, doi:10.1137/16M1104974.

    Examples
    --------
    >>> import numpy as np, nbhvp
    >>> H = np.diag(np.linspace(1.0, 3.0, 500))
    >>> found = nbhvp.curvature.logdet(H, rng=0)
    >>> bool(abs(found.value - np.linalg.slogdet(H)[1]) < 5 * found.error)
    True
    """
    operator, known = symmetric(H), 0.0
    if diagonal is not None:
        d = np.asarray(diagonal, float)
        if d.shape != operator.shape[:1] or not np.all(d > 0):
            raise ValueError(
                f"needed {operator.shape[0]} positive numbers as the diagonal, got {diagonal}"
            )
        operator, known = _scaled(operator, 1 / np.sqrt(d)), float(np.sum(np.log(d)))
    density = spectral_density(operator, probes=probes, steps=steps, rng=rng)
    least = density.support[0]
    if least <= 0:
        raise np.linalg.LinAlgError(
            f"needed a positive definite operator, and this one has an eigenvalue of at most {least:.6g}: "
            "add a damping, H + c * scipy.sparse.eye_array(n)"
        )
    found = density.integral(np.log)
    return Estimate(known + found.value, found.error, found.products)


def _scaled(H: LinearOperator, scale: np.ndarray) -> LinearOperator:
    """S H S for a diagonal S."""
    column = scale[:, None]
    return LinearOperator(
        H.shape,
        lambda v: scale * (H @ (scale * np.ravel(v))),
        matmat=lambda V: column * (H @ (column * V)),
        dtype=np.dtype(float),
    )


def _ends(H: LinearOperator, rng: np.random.Generator) -> tuple[float, float]:
    """The largest and the least eigenvalue, to 1e-6 of what lies between them and 0."""
    n = H.shape[0]
    if n < 3:  # ARPACK takes no smaller ones
        values = np.linalg.eigvalsh(times(H, np.eye(n)))
        return values[-1], values[0]
    start = rng.standard_normal(n)
    largest = _largest(H, start)
    # ARPACK measures by the eigenvalue that it seeks, which may be near 0.
    turned = LinearOperator(H.shape, lambda v: largest * np.ravel(v) - H @ np.ravel(v), dtype=float)
    return largest, largest - _largest(turned, start)


def _largest(H: LinearOperator, start: np.ndarray) -> float:
    if not times(H, start).any():  # which ARPACK takes for an error
        return 0.0
    return eigsh(H, which="LA", k=1, return_eigenvectors=False, v0=start, tol=1e-6)[0]


@dataclass(frozen=True)
class Sharpness:
    """How sharp a minimum is.

    Attributes
    ----------
    largest, least : float
        The extreme eigenvalues.
    trace : Estimate
    near_zero : Estimate
        The part of the eigenvalues that are below 1 % of the largest in size: flat directions.
    """

    largest: float
    least: float
    trace: Estimate
    near_zero: Estimate


def sharpness(H: Any, *, products: int = 200, rng: Any = None) -> Sharpness:
    """The largest and least eigenvalue of a symmetric operator, its trace, and its flat directions.

    Parameters
    ----------
    H : LinearOperator or matrix, shape (n, n)
        Symmetric.
    products : int
        For the trace and for the density around zero; eigenvalues take further ones.
    rng : None, int or numpy.random.Generator
        Of the random directions, as ``numpy.random.default_rng`` takes it.

    Returns
    -------
    Sharpness

    Raises
    ------
    scipy.sparse.linalg.ArpackNoConvergence
        If the extreme eigenvalues are not found.

    References
    ----------
    Ghorbani, Krishnan and Xiao 2019, arXiv:1901.10159; Yao, Gholami, Keutzer and Mahoney 2020,
    arXiv:1912.07145.

    Examples
    --------
    >>> import numpy as np, nbhvp
    >>> found = nbhvp.curvature.sharpness(np.diag(np.linspace(0.0, 3.0, 400)), rng=0)
    >>> round(found.largest, 6), found.near_zero.value < 0.1
    (3.0, True)
    """
    operator, generator = symmetric(H), np.random.default_rng(rng)
    n = operator.shape[0]
    largest, least = _ends(operator, generator)
    probes = max(2, products // 100)
    density = spectral_density(
        operator, probes=probes, steps=max(1, products // (2 * probes)), rng=generator
    )
    bound = 0.01 * max(abs(largest), abs(least))
    flat = density.count(-bound, bound)
    return Sharpness(
        float(largest),
        float(least),
        trace(operator, max(4, products // 2), rng=generator),
        Estimate(flat.value / n, flat.error / n, flat.products),
    )
