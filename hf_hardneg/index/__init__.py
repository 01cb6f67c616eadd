"""Indexes on disk: built once, checked, memory-mapped."""
