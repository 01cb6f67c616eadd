"""Text alone: words, stems, analysis for BM25, keys, masking of secrets."""
