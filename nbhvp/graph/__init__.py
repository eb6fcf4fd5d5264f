"""Graphs of array primitives: what a traced function means, and how it is differentiated."""
