"""Graphs of array primitives: what a traced function means, and how it is differentiated."""

from nbhvp.graph import primitives
from nbhvp.graph.table import lengths, special  # the table, whole

__all__ = ["lengths", "primitives", "special"]
