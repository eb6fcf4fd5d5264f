"""From a user's function to a graph.

What completes the tracer is imported here: operators and subscripts of the traced array, kinds of
objects that have stand-ins, and the answers to the functions of libraries. The modules of the tracer
itself know none of these rooms by name.
"""

from nbhvp.trace import data, functions, indexing, memory_layout, numpy, operators, rules, scipy
from nbhvp.trace.surroundings import caches, outside, randomness

__all__ = [
    "caches",
    "data",
    "functions",
    "indexing",
    "memory_layout",
    "numpy",
    "operators",
    "outside",
    "randomness",
    "rules",
    "scipy",
]
