"""Object code in this process: from LLVM or from Numba, kept on disk."""
