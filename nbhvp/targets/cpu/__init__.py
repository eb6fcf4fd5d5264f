"""Programs for CPUs: compiled kernels, BLAS and library calls."""
