"""Hessians and Jacobians as SciPy LinearOperators."""
