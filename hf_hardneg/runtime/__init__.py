"""Processes, threads, ranks, progress, optional packages, versions, units, checked arguments."""
