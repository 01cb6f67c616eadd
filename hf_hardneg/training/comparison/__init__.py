"""Which negatives train best: `compare` trains with the negatives of every strategy, and ranks held-out queries."""
