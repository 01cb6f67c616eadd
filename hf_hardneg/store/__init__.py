"""Published directories of files: built aside, renamed into place, listed in a manifest, checked when opened."""
