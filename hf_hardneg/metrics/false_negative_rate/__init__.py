"""The share of negatives that are known positives, as an `evaluate` module."""
