"""From texts of kernels to launches: PTX, modules, graphs, the driver."""
