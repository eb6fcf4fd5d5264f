"""From a user's function to a graph."""

from nbhvp.trace import indexing, operators, ufunc_methods  # noqa: F401 they complete the traced array
