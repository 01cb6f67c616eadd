"""Document stores: vector databases, search engines and index files of the user's, one file each."""
