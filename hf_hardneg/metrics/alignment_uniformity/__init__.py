"""Alignment and uniformity of vectors, as an `evaluate` module."""
