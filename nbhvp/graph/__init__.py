"""Graphs of array primitives: what a traced function means, and how it is differentiated."""

from nbhvp.graph import primitives, special  # the table, whole

__all__ = ["primitives", "special"]
