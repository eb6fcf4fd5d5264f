"""The tracer: runs a user's function once and records it as a graph.

Importing this package completes the tracer with its rules: operators and subscripts of traced arrays,
the kinds of objects that have stand-ins, and the register of answers. The modules that record a trace
do not import these rules by name.
"""

from nbhvp.trace import numpy, rules, scipy
from nbhvp.trace.following import data, functions
from nbhvp.trace.methods import indexing, memory_layout, operators, shapes
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
    "shapes",
]
