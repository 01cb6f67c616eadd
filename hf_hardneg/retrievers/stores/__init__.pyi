from hf_hardneg.retrievers.stores.collection import Description as Description
from hf_hardneg.retrievers.stores.document_store import DocumentStore as DocumentStore
from hf_hardneg.retrievers.stores.drivers import document_store as document_store
from hf_hardneg.retrievers.stores.hnswlib import Hnswlib as Hnswlib
from hf_hardneg.retrievers.stores.opensearch import OpenSearch as OpenSearch
from hf_hardneg.retrievers.stores.sqlite_vec import SqliteVec as SqliteVec
from hf_hardneg.retrievers.stores.usearch import Usearch as Usearch
