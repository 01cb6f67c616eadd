"""Negatives written by a language model; experimental."""
