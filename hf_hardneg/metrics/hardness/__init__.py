"""How near negatives come to their positives, as an `evaluate` module."""
