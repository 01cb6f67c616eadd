"""The documents, their ids and digests; the rows of pairs; the table of known positives."""
