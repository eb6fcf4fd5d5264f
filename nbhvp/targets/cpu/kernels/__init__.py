"""The texts of kernels for CPUs: loop nests, small matrices, recurrences, sweeps of tapes."""
