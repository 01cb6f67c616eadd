"""nDCG, MRR, recall, precision and MAP at k, as an `evaluate` module."""
