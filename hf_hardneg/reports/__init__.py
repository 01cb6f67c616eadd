"""What was mined, in figures."""
