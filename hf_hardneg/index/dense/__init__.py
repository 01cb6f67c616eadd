"""The files and kernels of exact and approximate vector search."""
