"""Lanczos' recurrence for several start vectors at once, with full reorthogonalisation.

From a unit vector q_1 it makes an orthonormal basis Q of the Krylov space and the tridiagonal matrix
T = Q^T H Q, whose eigenvalues and the squares of the first components of whose eigenvectors are the
nodes and weights of Gauss' quadrature: q_1.f(H)q_1 is the sum of weight times f(node), exact for
polynomials of degree 2m - 1 after m steps (Golub and Meurant 2010).

Each vector is orthogonalised against all earlier ones, and once more where that took much of its length
(Daniel, Gragg, Kaufman and Stewart 1976). Without that, copies of eigenvalues that have converged come
back (Paige 1972).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.sparse.linalg import LinearOperator

from nbhvp.curvature.estimates import times

__all__ = ["Krylov", "lanczos"]


@dataclass(frozen=True)
class Krylov:
    """The Krylov space of one start vector: T by its diagonals, and the basis, a row per vector."""

    diagonal: np.ndarray
    beside: np.ndarray
    basis: np.ndarray

    def eigen(self) -> tuple[np.ndarray, np.ndarray]:
        """The eigenvalues and eigenvectors of T."""
        return eigh_tridiagonal(self.diagonal, self.beside)

    def shortened(self, steps: int) -> Krylov:
        """The space after the first steps."""
        return Krylov(self.diagonal[:steps], self.beside[: steps - 1], self.basis[:steps])

    def quadrature(self) -> tuple[np.ndarray, np.ndarray]:
        """Nodes and weights."""
        values, vectors = self.eigen()
        return values, vectors[0] ** 2


INVARIANT = 1e-13
"""What remains of a product with H that lies in the space, relative to the largest: rounding."""
CHECKED, GROWTH = 10, 1.1
"""Steps after which it is first asked whether a space is large enough, and by which factor there are more of
them at the next time: an answer takes the cube of their number."""
CANCELLED = 0.5
"""The part of a vector's length that has to remain, or rounding may have spoilt its direction."""
AT_FIRST = 64
"""Vectors for which there is memory at first; it grows as they come."""


def lanczos(
    H: LinearOperator,
    starts: np.ndarray,
    steps: int,
    is_enough: Callable[[Krylov], bool] = lambda space: False,
) -> list[Krylov]:
    """The Krylov spaces of the columns of `starts`, each of at most so many steps.

    A space that H maps into itself ends early; all end when `is_enough` holds of each.
    """
    n, k = starts.shape
    steps = min(steps, n)
    basis = np.zeros((k, min(steps, AT_FIRST), n))
    diagonal, beside = np.zeros((k, steps)), np.zeros((k, steps))
    lengths, scale = np.full(k, steps), np.zeros(k)
    vectors, due = (starts / np.linalg.norm(starts, axis=0)).T, CHECKED

    def spaces(done: int) -> list[Krylov]:
        ends = np.minimum(lengths, done)
        return [
            Krylov(diagonal[i, :m], beside[i, : m - 1], basis[i, :m]) for i, m in enumerate(ends)
        ]

    for j in range(steps):
        if j == basis.shape[1]:
            basis = np.concatenate([basis, np.zeros((k, min(j, steps - j), n))], axis=1)
        basis[:, j] = vectors
        images = times(H, vectors.T).T
        scale = np.maximum(scale, np.linalg.norm(images, axis=1))
        diagonal[:, j] = np.einsum("kn,kn->k", images, vectors)
        images = images - diagonal[:, j, None] * vectors
        if j:
            images -= beside[:, j - 1, None] * basis[:, j - 1]
        images, beside[:, j] = _orthogonal(images, basis[:, : j + 1])
        ended = beside[:, j] <= INVARIANT * scale
        lengths[ended & (lengths == steps)] = j + 1
        if np.all(lengths <= j + 1):
            break
        if j + 1 >= due:
            if all(map(is_enough, spaces(j + 1))):
                lengths = np.minimum(lengths, j + 1)
                break
            due = max(j + 1 + CHECKED, int(GROWTH * (j + 1)))
        vectors = images / np.where(ended, np.inf, beside[:, j])[:, None]
    return spaces(steps)


def _orthogonal(vectors: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors without what lies in the span of a basis, each of its own, and their lengths."""
    lengths = np.linalg.norm(vectors, axis=1)
    for _ in range(2):
        before, overlaps = lengths, basis @ vectors[:, :, None]
        vectors = vectors - (overlaps.transpose(0, 2, 1) @ basis)[:, 0]
        lengths = np.linalg.norm(vectors, axis=1)
        if np.all(lengths >= CANCELLED * before):
            break
    return vectors, lengths
