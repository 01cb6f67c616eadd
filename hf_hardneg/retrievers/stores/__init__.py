"""Document stores: vector databases, search engines and index files of the user's, one file each.

Each is a retriever of its own, such as `Strategy([Qdrant("qdrant://host:6333/docs"), BM25()])`, an `index=` of dense
strategies, and a corpus. `document_store` opens a URI.
"""

from hf_hardneg.runtime.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
