"""Reports show in figures, charts and sweeps what mining did."""
