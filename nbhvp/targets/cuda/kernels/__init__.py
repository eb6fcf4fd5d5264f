"""The texts of kernels for GPUs."""
