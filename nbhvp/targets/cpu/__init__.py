"""Programs for CPUs: kernels compiled by Numba, BLAS, library calls."""
