"""Scores of (query, document) pairs by models that read both together."""
