"""Token vectors of documents, searched by late interaction."""
