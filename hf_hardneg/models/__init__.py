"""Encoders, cross-encoders and late interaction: loading, identity, forward passes, stored vectors and scores."""
