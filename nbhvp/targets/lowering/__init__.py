"""From the text of kernels to LLVM: what every target shares."""
