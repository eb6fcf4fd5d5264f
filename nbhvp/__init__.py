"""Exact Hessian-vector products of plain NumPy functions."""
