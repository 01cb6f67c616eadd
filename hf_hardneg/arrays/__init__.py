"""Flat arrays: vectors, strings, groups, statistics; nothing here knows what a corpus is."""
