"""Sums of a function over batches of data: in this process, in several, on a cluster, from disk."""

from nbhvp.sums.batches import Chunks, chunks
from nbhvp.sums.total import SumHessian, SumJacobian, SumOver, sum_over

__all__ = ["Chunks", "SumHessian", "SumJacobian", "SumOver", "chunks", "sum_over"]
