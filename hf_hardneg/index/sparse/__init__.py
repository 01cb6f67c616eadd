"""Sparse vectors of documents, searched with the kernel of BM25."""
