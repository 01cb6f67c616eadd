"""The files and kernels of the BM25 index."""
