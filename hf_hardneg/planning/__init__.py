"""What a job will cost, measured before it runs."""
