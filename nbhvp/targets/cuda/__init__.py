"""CUDA GPUs: kernels by the driver alone, without a toolkit."""
